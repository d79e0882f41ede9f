"""Atomic saving of matplotlib figures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bandsplit.core.errors import BandsplitError
from bandsplit.core.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure in the format that the suffix of ``path`` names; an existing file is replaced at the end.

    Raises:
        BandsplitError: the format is unknown, or the file cannot be written.
    """
    try:
        write_atomically(path, partial(figure.savefig, format=path.suffix.removeprefix("."), dpi=dpi))
    except (OSError, ValueError) as error:
        raise BandsplitError(
            f"{path}: cannot be written ({getattr(error, 'strerror', None) or error}); name a .png, .svg or .pdf in a "
            f"folder that exists, is writable and has room"
        ) from None

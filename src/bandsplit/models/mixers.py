"""Files of a mixer: a linear map from the estimates of four models and the mixture to the estimates of a bag.

Source: docs/mdx-net.md#mixer-and-blend; kuielab/mdx-net.
"""

from __future__ import annotations

from pathlib import Path

from bandsplit.core.errors import ModelFileError
from bandsplit.models.bags import Mixer
from bandsplit.models.containers import open_checkpoint

MIXER_TENSORS = ("linear.weight", "mixing_layer.weight")
"""Names of the one tensor that such a file has."""
MIXER_TARGETS = ("bass", "drums", "other", "vocals")
"""Targets of its rows and columns, in this order; the file does not name them."""


def read_mixer(path: Path | str) -> Mixer:
    """Read the mixer of KUIELab-MDX-Net; nothing in the file is run.

    Raises:
        ModelFileError: there is no such file, it is damaged, or it is no mixer of four targets.
    """
    path, shape = Path(path), (2 * len(MIXER_TARGETS), 2 * len(MIXER_TARGETS) + 2)
    try:
        with open_checkpoint(path) as file:
            if len(file.shapes) != 1 or not file.shapes.keys() <= {*MIXER_TENSORS}:
                names = ", ".join(name[:80] for name in [*file.shapes][:3])
                raise ModelFileError(
                    f"is not a mixer: it must have one tensor, {' or '.join(MIXER_TENSORS)}; it has {names}"
                )
            (name,) = file.shapes
            if file.shapes[name] != shape:
                raise ModelFileError(
                    f"is not a mixer of {', '.join(MIXER_TARGETS)}: {name} is {file.shapes[name]}, expected {shape}"
                )
            matrix = file.read(name).double()
            if not matrix.isfinite().all():
                raise ModelFileError(f"is damaged: {name} has values that are not finite; fetch or copy it again")
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    return Mixer(targets=MIXER_TARGETS, matrix=tuple(map(tuple, matrix.tolist())))

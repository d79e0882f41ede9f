"""Room on the disk for uploads, stems and the copies to listen to."""

from __future__ import annotations

import shutil
from pathlib import Path

from bandsplit.core.errors import BandsplitError
from bandsplit.core.fetching import in_gb

_FLOAT_BYTES, _COPY_BYTES, _COPY_CHANNELS = 4, 2, 2


class FullDiskError(BandsplitError):
    """The disk has no room for an upload, or for its stems."""


def check_room(folder: Path, needed_bytes: int, keep_free_bytes: int) -> None:
    """Check that a disk has room.

    Args:
        folder: a folder on it.
        needed_bytes: what will be written.
        keep_free_bytes: what must stay free then.

    Raises:
        FullDiskError: it has not.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes - needed_bytes < keep_free_bytes:
        needs = f", this needs up to {in_gb(needed_bytes)}," if needed_bytes else ""
        raise FullDiskError(
            f"the disk of the server has {in_gb(free_bytes)} free{needs} and {in_gb(keep_free_bytes)} must stay free "
            f"(--keep-free); delete results"
        )


def output_bytes(samples: int, channels: int, stems: int) -> int:
    """Return what the stems of a song and the copies take at most.

    Stems in flac and mp3 are floats at first, like those in wav; the copies of the song and of its stems have 16 bits.
    """
    copies = (1 + stems) * min(channels, _COPY_CHANNELS) * _COPY_BYTES
    return samples * (stems * channels * _FLOAT_BYTES + copies)

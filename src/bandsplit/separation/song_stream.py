"""Songs on their way through models: blocks that may be read several times, and estimates that wait on the disk."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from bandsplit.audio.streams import BLOCK_SAMPLES, Source
from bandsplit.core.errors import NoRoomError


class SongStream(NamedTuple):
    """A song in blocks ``channels samples``, its properties, and its name in errors."""

    blocks: Callable[[], Iterable[np.ndarray]]
    """Reads it, from the start each time."""
    samples: int
    channels: int
    sample_rate_hz: int
    name: str

    @classmethod
    def of(cls, source: Source, path: Path) -> SongStream:
        """Take a file."""
        return cls(source.blocks, source.samples, source.channels, source.sample_rate_hz, str(path))


@contextmanager
def stored(song: str, blocks: Iterable[np.ndarray]) -> Iterator[Iterator[np.ndarray]]:
    """Store blocks ``channels samples`` in a temporary file, which vanishes with the context; give them one by one.

    Raises:
        NoRoomError: there is no room for the estimates of the song called ``song``.
    """
    try:
        with tempfile.TemporaryFile() as file:
            channels = 0
            for block in blocks:
                channels = len(block)
                file.write(np.ascontiguousarray(block.T, np.float32).tobytes())
            file.seek(0)
            yield _read(file, channels)
    except OSError as error:
        raise NoRoomError(
            f"{song}: its estimates by one model wait in a temporary file for those of the others, and there is no "
            f"room for it ({error.strerror}); set TMPDIR to a folder on another disk, or leave --sequential out"
        ) from None


def _read(file: IO[bytes], channels: int) -> Iterator[np.ndarray]:
    while data := file.read(BLOCK_SAMPLES * channels * 4):
        yield np.frombuffer(data, np.float32).reshape(-1, channels).T

"""Songs as streams of blocks ``channels samples``: reading, resampling, and a sliding window."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import soundfile
import soxr

from bandsplit.audio.arrays import check_finite
from bandsplit.audio.opening import ForwardSound, channel_order, fetch_again, open_sound, reason
from bandsplit.audio.writing import TAGS
from bandsplit.core.errors import AudioError

SecondsProgress: TypeAlias = Callable[[float, float, str], Any]
"""Called with the seconds done, the total seconds as far as known, and the stage."""

BLOCK_SAMPLES = 1 << 16
_BLOCK_VALUES = 1 << 20
"""Maximum of samples times channels of a block: a damaged header may announce a thousand channels."""
_RATES_HZ = (1000, 1_000_000)


def _state(path: Path) -> tuple[int, int] | None:
    """Return size and modification time of a file, which change with its content; None if the file does not exist."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


class Source(AbstractContextManager):
    """A song, or a part of it, in a format that libsndfile supports, read from start to end in bounded memory.

    Attributes:
        samples: Exact length.
        channels: Number of channels.
        sample_rate_hz: Sample rate.
        tags: Tags of the file, by the names in `bandsplit.audio.writing.TAGS`.
        note: The decoder, if it was not libsndfile.
    """

    note: str | None = None

    def __init__(
        self,
        path: Path,
        start_s: float = 0,
        duration_s: float | None = None,
        name: str | None = None,
        progress: SecondsProgress | None = None,
    ) -> None:
        """Open the file.

        Args:
            path: the file.
            start_s: start of the part.
            duration_s: its maximum length; None for the rest of the song.
            name: name of the file in errors; its path by default.
            progress: called while the samples of an MP3 are counted; an exception from it aborts.

        Raises:
            AudioError: as `bandsplit.audio.files.info`; or the range contains no samples.
        """
        self._path, self._name, self._read_before = path, name or str(path), False
        self._state = _state(path)
        self._file = open_sound(path, ForwardSound)
        self.channels, self.sample_rate_hz = self._file.channels, self._file.samplerate
        least, most = _RATES_HZ
        if not least <= self.sample_rate_hz <= most:
            self._file.close()
            raise AudioError(
                f"{self._name}: its header says {self.sample_rate_hz} Hz; legal: {least} to {most}. It is damaged; "
                f"{fetch_again(Path(self._name))}"
            )
        self._block_samples = min(BLOCK_SAMPLES, _BLOCK_VALUES // self.channels)
        self._order = channel_order(self._file.format, self.channels)
        self.tags = {tag: text for tag in TAGS if (text := getattr(self._file, tag))}
        length = self._count(progress) if self._file.format == "MP3" else self._file.frames
        length_s = length / self.sample_rate_hz
        inside = 0 <= start_s < length_s and (duration_s is None or duration_s > 0)  # not for NaN either
        self._start = round(start_s * self.sample_rate_hz) if inside else 0
        self.samples = round(min(duration_s, length_s) * self.sample_rate_hz) if inside and duration_s else length
        self.samples = min(self.samples, length - self._start)
        if not inside or self.samples < 1:
            self._file.close()
            raise AudioError(
                f"{self._name}: has no audio between {start_s:g} s and "
                f"{'its end' if duration_s is None else f'{start_s + duration_s:g} s'}; it is "
                f"{length_s:g} s long, choose a start and a duration inside"
            )

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def blocks(self) -> Iterator[np.ndarray]:
        """Read the song; a second call reads it again, and ends the first.

        Yields:
            float32 ``channels samples``, full scale at 1, channels in WAV order.

        Raises:
            AudioError: the file is damaged or truncated, or contains samples that are not finite.
        """
        if self._read_before:
            self._file.close()
            self._file = open_sound(self._path, ForwardSound)
        self._read_before = True
        at, stop = self._start, self._start + self.samples
        if self._file.format == "MP3":
            self._skip(at)
        elif at:
            try:
                self._file.seek(at)
            except soundfile.LibsndfileError as error:
                raise self._damaged(error) from None
        while at < stop:
            block = self._read(min(self._block_samples, stop - at)).T[self._order]
            if not block.shape[1]:
                raise AudioError(
                    f"{self._name}: is truncated: its header promises {stop} samples, but only {at} can be read; "
                    f"{fetch_again(Path(self._name))}"
                )
            check_finite(block, self._name, self.sample_rate_hz, at)
            at += block.shape[1]
            if at == stop:
                self._refuse_change()
            yield block

    def _read(self, samples: int) -> np.ndarray:
        try:
            return self._file.read(out=np.empty((samples, self.channels), np.float32))
        except soundfile.LibsndfileError as error:
            raise self._damaged(error) from None

    def _damaged(self, error: soundfile.LibsndfileError) -> AudioError:
        return AudioError(f"{self._name}: is damaged or truncated ({reason(error)}); {fetch_again(Path(self._name))}")

    def _count(self, progress: SecondsProgress | None) -> int:
        """Count the samples of an MP3 by decoding it: without an index, its header contains only an estimate."""
        length, stated = 0, self._file.frames
        try:
            while found := len(self._read(self._block_samples)):
                length += found
                if progress:
                    progress(length / self.sample_rate_hz, max(length, stated) / self.sample_rate_hz, "count")
        finally:
            self._file.close()
        self._refuse_change()
        self._file = open_sound(self._path, ForwardSound)
        return length

    def _refuse_change(self) -> None:
        if _state(self._path) not in (self._state, None):
            raise AudioError(f"{self._name}: changed while it was read; wait until it is complete, then try again")

    def _skip(self, samples: int) -> None:
        """Decode and discard samples: seeking in an MP3 is not exact."""
        while samples > 0 and (found := len(self._read(min(self._block_samples, samples)))):
            samples -= found


def cut_blocks(signal: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the blocks of an array."""
    for start in range(0, signal.shape[-1], BLOCK_SAMPLES):
        yield signal[..., start : start + BLOCK_SAMPLES]


def resample_blocks(blocks: Iterable[np.ndarray], from_hz: int, to_hz: int, length: int) -> Iterator[np.ndarray]:
    """Resample a stream as `bandsplit.audio.arrays.resample` resamples an array, sample for sample.

    Args:
        blocks: ``channels samples``, at least one sample in all.
        from_hz: their sample rate.
        to_hz: the requested sample rate.
        length: total number of samples returned: the signal is cut or padded with zeros.

    Yields:
        float32 ``channels samples``.
    """
    count = 0
    for block in _resample(blocks, from_hz, to_hz):
        kept = block[:, : length - count]
        count += kept.shape[1]
        if kept.shape[1]:
            yield kept
    if count < length:
        yield np.zeros((block.shape[0], length - count), np.float32)


def _resample(blocks: Iterable[np.ndarray], from_hz: int, to_hz: int) -> Iterator[np.ndarray]:
    if from_hz == to_hz:
        yield from blocks
        return
    stream, count, channels = None, 0, 0
    for block in blocks:
        channels = len(block)
        stream = stream or soxr.ResampleStream(from_hz, to_hz, channels, quality="VHQ")
        count += block.shape[1]
        yield stream.resample_chunk(np.ascontiguousarray(block.T, np.float32)).T
    assert stream is not None, "a song has at least one sample"
    shortest = -(-from_hz // to_hz)  # input that makes one sample; a shorter one would make none
    yield stream.resample_chunk(np.zeros((max(0, shortest - count), channels), np.float32), last=True).T


class Window:
    """A sliding window over a stream; reads are in order, and samples before the latest read are dropped."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        """Store the stream, blocks of ``channels samples``."""
        self._blocks = iter(blocks)
        self._held: list[np.ndarray] = []
        self._start = 0

    def read(self, start: int, samples: int) -> np.ndarray:
        """Return ``channels samples`` from ``start`` on, which must not decrease; the range must be in the stream."""
        while self._held and self._start + self._held[0].shape[1] <= start:
            self._start += self._held.pop(0).shape[1]
        stop = self._start + sum(block.shape[1] for block in self._held)
        while stop < start + samples:
            block = next(self._blocks)
            stop += block.shape[1]
            if stop <= start:
                self._start = stop
            else:
                self._held.append(block)
        first = start - self._start
        return np.concatenate(self._held, axis=1)[:, first : first + samples]

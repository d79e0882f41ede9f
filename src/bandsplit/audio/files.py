"""Audio files: reading and writing arrays ``channels samples``, and the checks that keep bad input out."""

import logging
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from bandsplit.audio.arrays import check_finite
from bandsplit.audio.damage import find_audio
from bandsplit.audio.opening import channel_order, fetch_again, file_name, open_sound, reason
from bandsplit.audio.writing import SoundFormat, Writer
from bandsplit.core.errors import AudioError
from bandsplit.core.interrupt import held
from bandsplit.core.unfinished import Unfinished, temporary_name

# The length of an MP3 without an index is an estimate: an error of this size does not mean that audio is missing.
_MP3_GRACE_SAMPLES = 2 * 1152

_BLOCK_SAMPLES = 1 << 18

_log = logging.getLogger("bandsplit")


@dataclass(frozen=True)
class AudioInfo:
    """Content of a file's header."""

    samples: int
    channels: int
    sample_rate_hz: int
    format: str
    """Container, as libsndfile names it: WAV, FLAC, MP3, OGG..."""
    subtype: str
    """Sample format or codec, as libsndfile names it: PCM_16, FLOAT, VORBIS..."""


def info(path: Path | str) -> AudioInfo:
    """Read the header of an audio file. The length of an MP3 without an index is an estimate.

    Raises:
        AudioError: the file is missing, empty, not audio, truncated, or contains 0 samples.
    """
    with open_sound(Path(path)) as file:
        return AudioInfo(file.frames, file.channels, file.samplerate, file.format, file.subtype)


def read(path: Path | str, start: int = 0, samples: int | None = None) -> tuple[np.ndarray, int]:
    """Read an audio file, or the ``samples`` samples from ``start`` on (None: to the end).

    Returns:
        float32 ``channels samples``, full scale at 1, channels in WAV order, and the sample rate in Hz.

    Raises:
        AudioError: as `info`; also if a sample is not finite or the range reaches beyond the file.
    """
    path = Path(path)
    with open_sound(path) as file:
        length = file.frames - start if samples is None else samples
        if start < 0 or length < 1 or start + length > file.frames:
            raise AudioError(
                f"{path}: samples {start} to {start + length} were requested, but it has {file.frames}; "
                f"the range must lie inside"
            )
        try:
            if start:
                file.seek(start)
            # One call: between calls soundfile seeks, which corrupts the decoding of an MP3.
            found = file.read(out=np.empty((length, file.channels), np.float32))
        except (soundfile.LibsndfileError, MemoryError) as error:
            raise AudioError(f"{path}: is damaged or truncated ({reason(error)}); {fetch_again(path)}") from None
        grace = _MP3_GRACE_SAMPLES if file.format == "MP3" and samples is None else 0
        if len(found) == 0 or len(found) + grace < length:
            raise AudioError(
                f"{path}: is truncated: its header promises {length} samples from {start} on, but only {len(found)} "
                f"can be read; {fetch_again(path)}"
            )
        order = channel_order(file.format, file.channels)
        audio, sample_rate_hz = np.ascontiguousarray(found.T[order]), file.samplerate
    check_finite(audio, str(path), sample_rate_hz, start)
    return audio, sample_rate_hz


def read_excerpt(
    path: Path, start: int, samples: int, of: int, gain: float = 1.0, out: np.ndarray | None = None
) -> np.ndarray:
    """Read a part of a wav or flac file that was checked before; faster than `read`, because it skips the checks.

    Args:
        path: the file.
        start: first sample.
        samples: number of samples.
        of: number of samples in the file when it was checked.
        gain: factor, applied in the same pass at no extra cost.
        out: array to fill, float32 ``channels samples``; allocated if None.

    Returns:
        ``out``.

    Raises:
        AudioError: the file is missing, or its length has changed.
    """
    try:
        plain = _find_plain(path)
        frames, found, scale = _read_plain(path, start, samples, plain) if plain else _read_any(path, start, samples)
    except (OSError, soundfile.LibsndfileError) as error:
        what = f"cannot be read ({reason(error)})" if path.is_file() else "was removed after the data set was indexed"
        raise AudioError(f"{path}: {what}; restore it") from None
    if frames != of or len(found) < samples:
        holds = f"has {frames} samples" if frames != of else f"ends at sample {start + len(found)}"
        raise AudioError(
            f"{path}: {holds}, but had {of} when the data set was indexed: it was truncated or replaced; restore it"
        )
    out = np.empty(found.shape[::-1], np.float32) if out is None else out
    # Scaling, gain and transposition are one pass.
    return np.multiply(found.T, np.float32(scale * gain), out=out, dtype=np.float32)


class _Plain(NamedTuple):
    """A wav file of 16-bit samples, which can be read without decoding."""

    place: int
    bytes: int
    channels: int
    size: int


@lru_cache(maxsize=100_000)
def _find_plain(path: Path) -> _Plain | None:
    with soundfile.SoundFile(file_name(path)) as file:
        if (file.format, file.subtype) not in (("WAV", "PCM_16"), ("WAVEX", "PCM_16")) or file.endian == "BIG":
            return None
        place, _ = find_audio(path) or (0, 0)
        return _Plain(place, 2 * file.frames * file.channels, file.channels, path.stat().st_size)


def _read_plain(path: Path, start: int, samples: int, plain: _Plain) -> tuple[int, np.ndarray, float]:
    with path.open("rb", buffering=0) as file:
        # Checked at every read: a file may be truncated or replaced in the meantime.
        lost = plain.size - os.fstat(file.fileno()).st_size
        values = np.fromfile(file, "<i2", samples * plain.channels, offset=plain.place + 2 * start * plain.channels)
    frames = (plain.bytes - lost) // (2 * plain.channels)
    return frames, values[: len(values) // plain.channels * plain.channels].reshape(-1, plain.channels), 2.0**-15


def _read_any(path: Path, start: int, samples: int) -> tuple[int, np.ndarray, float]:
    with soundfile.SoundFile(file_name(path)) as file:
        file.seek(min(start, file.frames))
        dtype, scale = ("int16", 2.0**-15) if file.subtype == "PCM_16" else ("float32", 1.0)
        return file.frames, file.read(out=np.empty((samples, file.channels), dtype)), scale


def write(path: Path | str, audio: np.ndarray, sample_rate_hz: int, subtype: str | None = None) -> None:
    """Write ``channels samples`` in the format of the suffix of ``path``: .wav (float32), .flac (24 bit), .ogg, .mp3.

    The file gets its name only when it is complete. Formats other than float clip at 1, with a warning in the log.

    Raises:
        AudioError: an unknown suffix or subtype, no samples, samples that are not finite, or a folder or disk that
            cannot be written to.
    """
    path = Path(path)
    form = SoundFormat.of(path, subtype)
    if audio.ndim != 2 or not audio.size:
        raise AudioError(
            f"{path}: cannot hold an array of shape {audio.shape}; give (channels, samples), at least 1 each"
        )
    check_finite(audio, str(path), sample_rate_hz)
    peak = max(float(audio.max()), -float(audio.min()))
    if not form.is_float and peak > 1:
        _log.warning("%s: peaks at %.3f are clipped at 1; float wav keeps them", path, peak)
    channels, samples = audio.shape
    with Writer(path, form, sample_rate_hz, channels, samples) as file:
        for start in range(0, samples, _BLOCK_SAMPLES):
            file.write(audio[:, start : start + _BLOCK_SAMPLES])
        file.commit()


def make_folder(folder: Path) -> None:
    """Create ``folder`` if it is missing, and make sure that files can be written to it.

    Raises:
        AudioError: the folder cannot be created or written to.
    """
    probe = Unfinished(temporary_name(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with held():
            probe.path.touch()
            probe.remove()
    except OSError as error:
        raise AudioError(f"{folder}: cannot be written to ({error.strerror}); choose another output folder") from None
    finally:
        probe.remove()

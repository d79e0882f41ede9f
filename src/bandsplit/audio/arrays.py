"""Signals as arrays: checks of sample rate and sample values, and resampling."""

from typing import Any

import numpy as np
import soxr

from bandsplit.core.errors import AudioError

HIGHEST_RATE_HZ = 10_000_000
"""Far above any recording; resampling a second of audio at an absurd rate would take hours."""


def check_sample_rate(sample_rate_hz: Any) -> None:
    """Accept only an integer from 1 to `HIGHEST_RATE_HZ`.

    Raises:
        AudioError: any other value; the message names it.
    """
    is_integer = isinstance(sample_rate_hz, int | np.integer) and not isinstance(sample_rate_hz, bool)
    if not is_integer or sample_rate_hz < 1:
        raise AudioError(f"sample_rate_hz: {sample_rate_hz!r} is not a positive integer; give it in Hz, such as 44100")
    if sample_rate_hz > HIGHEST_RATE_HZ:
        raise AudioError(
            f"sample_rate_hz: {sample_rate_hz} is too high; legal: 1 to {HIGHEST_RATE_HZ} Hz, such as 44100"
        )


def check_finite(audio: np.ndarray, name: str, sample_rate_hz: int, start: int = 0) -> None:
    """Refuse NaN and infinity; ``start`` is the position of the array in the file called ``name``.

    Raises:
        AudioError: a sample is not finite; the message names the first one.
    """
    # The sum of a channel is finite if its samples are and do not overflow, so valid audio needs no array of flags.
    with np.errstate(over="ignore", invalid="ignore"):
        suspects = np.flatnonzero(~np.isfinite(audio.sum(axis=1, dtype=np.float64)))
    places = [(int(np.argmin(np.isfinite(audio[c]))), int(c)) for c in suspects if not np.isfinite(audio[c]).all()]
    if places:
        sample, channel = min(places)
        raise AudioError(
            f"{name}: sample {start + sample} ({(start + sample) / sample_rate_hz:.3f} s) of channel {channel} is "
            f"{audio[channel, sample]}; every sample must be a finite number, so export or clean the audio first"
        )


def resampled_length(samples: int, from_hz: int, to_hz: int) -> int:
    """Return the number of samples that `resample` makes of ``samples``: the nearest integer, at least 1."""
    return max(1, (2 * samples * to_hz + from_hz) // (2 * from_hz))


def resample(audio: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resample ``channels samples`` with soxr at very high quality; at least one sample in and out."""
    length = resampled_length(audio.shape[1], from_hz, to_hz)
    if from_hz == to_hz:
        resampled = np.asarray(audio, np.float32)
    else:
        # Input that makes one sample; a shorter one would make none. With some NumPys soxr refuses a single sample.
        shortest = max(2, -(-from_hz // to_hz))
        padded = np.pad(audio, ((0, 0), (0, max(0, shortest - audio.shape[1]))))
        resampled = soxr.resample(np.asarray(padded.T, np.float32), from_hz, to_hz, quality="VHQ").T[:, :length]
    missing = length - resampled.shape[1]
    return np.ascontiguousarray(np.pad(resampled, ((0, 0), (0, missing))) if missing else resampled)

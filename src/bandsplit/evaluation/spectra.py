"""Metrics of magnitude spectra, in float64. Arrays are ``targets channels samples``, NumPy or torch.

All transforms extend a signal by reflection at both ends, so that frames are centred on multiples of the hop from its
first sample on; shorter signals are reflected several times. None is normalised.

Source: docs/numerics.md#metrics; L1-freq paper; Music-Source-Separation-Training.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandsplit.evaluation.signals import checked_pair

L1_FREQ_BINS, L1_FREQ_HOP_SAMPLES = 2048, 1024
LSD_BINS, LSD_HOP_SAMPLES = 2048, 512
LSD_FLOOR = 1e-8
"""Least power of a bin."""
MEL_BINS, MEL_HOP_SAMPLES = 4096, 1024
MEL_BANDS = 512
MEL_RANGE = 1e-4
"""Least magnitude of a band, in relation to the largest: -80 dB."""
_FRAMES_AT_ONCE = 16
_BANDS_AT_ONCE = 32
"""Neighbouring bands that are summed in one product, over the bins that they need; fewer or more take longer."""


def l1_freq(reference: Any, estimate: Any) -> np.ndarray:
    """Likeness of magnitude spectra, 0 to 100: 100 / (1 + 10 L1), L1 = mean over c, f, t of ||S_hat| - |S||.

    The transform has 2048 samples, a hop of 1024, no window (rectangular), reflected ends, frames centred on multiples
    of the hop, and no normalisation. So the value depends on the level: it compares systems on one data set only.

    Args:
        reference: true signals, ``(targets, channels, samples)``, full scale at 1.
        estimate: estimates, same shape.

    Returns:
        Per target, ``(targets,)``; 100 for equal magnitudes. The score of a set is the mean over songs.

    Raises:
        AudioError: as `usdr`.

    Example:
        >>> stem = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 2, 8000))
        >>> l1_freq(stem, -stem)  # phase does not count
        array([100.])
    """
    return np.array([compute_l1_freq(*pair) for pair in zip(*checked_pair(reference, estimate), strict=True)])


def compute_l1_freq(true: np.ndarray, guess: np.ndarray) -> float:
    """Compute `l1_freq` of one target, ``c samples``."""
    mean = 0.0
    for channels in zip(true, guess, strict=True):
        both = (_magnitudes(channel, L1_FREQ_BINS, L1_FREQ_HOP_SAMPLES) for channel in channels)
        parts = [(np.abs(a - b).sum(), a.size) for a, b in zip(*both, strict=True)]
        sums, sizes = zip(*parts, strict=True)
        mean += sum(sums) / sum(sizes) / len(true)
    return 100 / (1 + 10 * mean)


def log_spectral_distance(reference: Any, estimate: Any) -> np.ndarray:
    """Distance of log power spectra in dB: root mean square over the bins of a frame, mean over frames and channels.

    The logarithm is 10 log10(max(|S|^2, 1e-8)), the transform has a Hann window of 2048 samples and a hop of 512.

    Args:
        reference: true signals, ``(targets, channels, samples)``, full scale at 1.
        estimate: estimates, same shape.

    Returns:
        dB per target, ``(targets,)``; 0 for equal magnitudes, lower is better. The score of a set is the mean over
        songs.

    Raises:
        AudioError: as `usdr`.

    Example:
        >>> stem = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 2, 8000))
        >>> log_spectral_distance(stem, 0.1 * stem).round(3)
        array([20.])
    """
    pairs = zip(*checked_pair(reference, estimate), strict=True)
    return np.array([compute_log_spectral_distance(*pair) for pair in pairs])


def compute_log_spectral_distance(true: np.ndarray, guess: np.ndarray) -> float:
    """Compute `log_spectral_distance` of one target, ``c samples``."""
    mean = 0.0
    for channels in zip(true, guess, strict=True):
        both = (_spectra(channel, LSD_BINS, LSD_HOP_SAMPLES, hann(LSD_BINS)) for channel in channels)
        squares: list[np.ndarray] = []
        for a, b in zip(*both, strict=True):
            ratio = _power(b)
            ratio /= _power(a)
            np.log10(ratio, out=ratio)
            squares.append(np.einsum("tf,tf->t", ratio, ratio) / ratio.shape[1])
        mean += 10 * float(np.sqrt(np.concatenate(squares)).mean()) / len(true)
    return mean


def _power(spec: NDArray[np.complexfloating]) -> np.ndarray:
    power = np.square(spec.real)
    power += np.square(spec.imag)
    return np.maximum(power, LSD_FLOOR, out=power)


class Bleed(NamedTuple):
    """What an estimate has too much, and too little, of."""

    bleedless: np.ndarray
    """0 to 100 per target, ``(targets,)``: 100 where the estimate is nowhere louder than the reference."""
    fullness: np.ndarray
    """0 to 100 per target, ``(targets,)``: 100 where it is nowhere softer."""


def bleedless_fullness(reference: Any, estimate: Any, sample_rate_hz: int) -> Bleed:
    """Compare loudness in 512 mel bands: D = 20 log10(max(M_hat, floor) / max(M, floor)) per channel, band and frame.

    M is the sum of the magnitudes of a transform (Hann window of 4096 samples, hop 1024), weighted by the triangle of a
    band; the floor is 80 dB below the largest M of reference and estimate together. Bleedless is 100 / (1 + mean of the
    positive D), fullness 100 / (1 + mean of the magnitudes of the negative D); a mean over nothing is 0. This is
    version 1 of our definition: other software takes the floor, or the channels, in other ways.

    Args:
        reference: true signals, ``(targets, channels, samples)``.
        estimate: estimates, same shape.
        sample_rate_hz: the bands reach up to half of it.

    Returns:
        Both values; NaN where reference and estimate are silent. The score of a set is the mean over songs.

    Raises:
        AudioError: as `usdr`.

    Example:
        >>> stem = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 2, 44100))
        >>> found = bleedless_fullness(stem, 10 ** (-3 / 20) * stem, 44100)  # 3 dB too soft
        >>> found.bleedless, found.fullness.round(3)
        (array([100.]), array([25.]))
    """
    pairs = zip(*checked_pair(reference, estimate), strict=True)
    found = [compute_bleed(*(mel_magnitudes(signal, sample_rate_hz) for signal in pair)) for pair in pairs]
    return Bleed(*np.array(found).T)


def compute_bleed(true: np.ndarray, guess: np.ndarray) -> tuple[float, float]:
    """Compute `bleedless_fullness` of the `mel_magnitudes` of one target."""
    floor = MEL_RANGE * max(true.max(), guess.max())
    if floor == 0:
        return np.nan, np.nan
    sums, counts = np.zeros(2), np.zeros(2)
    for a, b in zip(true, guess, strict=True):
        ratio = np.maximum(b, floor).astype(np.float64) / np.maximum(a, floor)
        for sign, part in enumerate((ratio[ratio > 1], ratio[ratio < 1])):
            sums[sign] += np.abs(20 * np.log10(part)).sum()
            counts[sign] += part.size
    louder, softer = sums / np.maximum(counts, 1)
    return 100 / (1 + louder), 100 / (1 + softer)


def mel_magnitudes(signal: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Return the weighted sums of magnitudes of ``c samples`` in mel bands, ``c t k``.

    Single precision, which halves the memory, and in which the rounding of the transform is no difference.
    """
    parts = mel_triangles(sample_rate_hz)
    found = np.empty((len(signal), 1 + signal.shape[1] // MEL_HOP_SAMPLES, MEL_BANDS), np.float32)
    for channel, bands in zip(signal, found, strict=True):
        start = 0
        for magnitudes in _magnitudes(channel, MEL_BINS, MEL_HOP_SAMPLES, hann(MEL_BINS)):
            stop = start + len(magnitudes)
            for first, (low, weights) in zip(range(0, MEL_BANDS, _BANDS_AT_ONCE), parts, strict=True):
                high = low + len(weights)
                bands[start:stop, first : first + _BANDS_AT_ONCE] = magnitudes[:, low:high] @ weights
            start = stop
    return found


@functools.lru_cache(maxsize=4)
def mel_triangles(sample_rate_hz: int) -> Sequence[tuple[int, np.ndarray]]:
    """Return the weights of the bins in 512 mel bands, for some bands at a time: first bin, and weights ``f k``.

    The corners of the triangles are equally spaced on the scale m(f) = 3 f / 200 below 1000 Hz and
    15 + 27 ln(f / 1000) / ln(6.4) above, from 0 to half the sample rate; each triangle has the area 1 over f in Hz.
    """
    top = float(_mel(np.array(sample_rate_hz / 2)))
    corners = _hz(np.linspace(0, top, MEL_BANDS + 2))
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    bins = np.arange(MEL_BINS // 2 + 1)[:, None] * sample_rate_hz / MEL_BINS
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    weights = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
    parts = []
    for first in range(0, MEL_BANDS, _BANDS_AT_ONCE):
        some = weights[:, first : first + _BANDS_AT_ONCE]
        used = np.flatnonzero(some.any(axis=1))
        inside = slice(used[0], used[-1] + 1) if used.size else slice(0, 1)
        parts.append((inside.start, np.ascontiguousarray(some[inside])))
    return parts


def _mel(hz: np.ndarray) -> np.ndarray:
    return np.where(hz < 1000, 3 * hz / 200, 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4))


def _hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, 200 * mel / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


@functools.lru_cache(maxsize=4)
def hann(samples: int) -> np.ndarray:
    """Return a periodic Hann window."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(samples) / samples)


def _magnitudes(
    signal: np.ndarray, n_fft: int, hop_samples: int, window: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Yield magnitudes ``t f`` of a signal ``samples``, a few frames at a time."""
    yield from map(np.abs, _spectra(signal, n_fft, hop_samples, window))


def _spectra(
    signal: np.ndarray, n_fft: int, hop_samples: int, window: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Yield spectra ``t f`` of a signal ``samples``, a few frames at a time; without a window, it is rectangular."""
    padded = np.pad(signal, n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_samples]
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        some = frames[start : start + _FRAMES_AT_ONCE].astype(np.float64)
        if window is not None:
            some *= window
        yield np.fft.rfft(some)

"""Band layouts of the family: widths in bins that tile the spectrum, and overlapping bands of a mel filter bank."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

from bandsplit.core.errors import ConfigError
from bandsplit.models.layers.bands import BandRun, range_runs

PUBLISHED_WIDTHS = (2,) * 24 + (4,) * 12 + (12,) * 8 + (24,) * 8 + (48,) * 8 + (128, 129)
"""The 62 bands of BS-RoFormer, for the 1025 bins of 2048 samples.

Source: docs/bs-roformer.md#bands.
"""


def tiled_runs(widths: Sequence[int], n_bins: int) -> list[BandRun]:
    """Return adjacent bands of ``widths`` bins, as runs of equal width.

    Raises:
        ConfigError: they do not cover ``n_bins`` exactly.
    """
    if sum(widths) != n_bins:
        raise ConfigError(
            f"bands: the {len(widths)} widths sum to {sum(widths)} bins, but they must cover the {n_bins} bins "
            f"(n_fft / 2 + 1) of the transform exactly"
        )
    return range_runs(list(pairwise(accumulate(widths, initial=0))), n_bins)


def mel_runs(n_bands: int, n_fft: int, sample_rate_hz: int) -> list[BandRun]:
    """Return the bands of a mel filter bank, low to high: the bins at which each filter is positive.

    The first bin belongs to the first band and the last bin to the last, where the filters are zero.

    Raises:
        ConfigError: a band has no bins or has gaps, or bins are in no band.
    """
    n_bins = n_fft // 2 + 1
    if n_bands > n_bins:
        raise ConfigError(f"bands: n_bands {n_bands} is more than the {n_bins} bins of n_fft {n_fft}; use fewer")
    inside = mel_filters(n_bands, n_fft, sample_rate_hz) > 0
    inside[0, 0] = inside[-1, -1] = True
    ranges = []
    for band, row in enumerate(inside):
        bins = np.flatnonzero(row)
        if not len(bins) or bins[-1] - bins[0] >= len(bins):
            raise ConfigError(
                f"bands: band {band} of {n_bands} is too narrow for the bins of n_fft {n_fft} at {sample_rate_hz} Hz; "
                f"use fewer bands or a larger n_fft"
            )
        ranges.append((int(bins[0]), int(bins[-1]) + 1))
    return range_runs(ranges, n_bins)


def mel_filters(n_bands: int, n_fft: int, sample_rate_hz: int) -> np.ndarray:
    """Compute triangular filters ``(k f)`` between points at equal distances on Slaney's mel scale, 0 Hz to Nyquist.

    Source: docs/bs-roformer.md#bands.
    """
    bins_hz = np.linspace(0, sample_rate_hz / 2, n_fft // 2 + 1)
    points_hz = _mel_to_hz(np.linspace(0, _hz_to_mel(sample_rate_hz / 2), n_bands + 2))
    low, middle, high = points_hz[:-2, None], points_hz[1:-1, None], points_hz[2:, None]
    rising, falling = (bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling))


_LINEAR_HZ, _LINEAR_MEL, _STEEPNESS = 1000.0, 15.0, 27 / np.log(6.4)
"""The scale is linear up to 1000 Hz or 15 mel, and logarithmic above."""


def _hz_to_mel(hz: float) -> float:
    return hz * _LINEAR_MEL / _LINEAR_HZ if hz < _LINEAR_HZ else _LINEAR_MEL + _STEEPNESS * np.log(hz / _LINEAR_HZ)


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    return np.where(
        mel < _LINEAR_MEL, mel * _LINEAR_HZ / _LINEAR_MEL, _LINEAR_HZ * np.exp((mel - _LINEAR_MEL) / _STEEPNESS)
    )

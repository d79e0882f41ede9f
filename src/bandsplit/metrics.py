"""Separation quality in dB, in float64. Arrays are ``targets channels samples``, NumPy or torch.

Source: uSDR is the SDR of the Music Demixing Challenge (paper, section IV-E); cSDR is that of museval 0.4.1, whose
distortion filters cancel out of the SDR, which leaves a plain energy ratio per window (NUMERICS "Metrics").
"""

from typing import Any

import numpy as np

from bandsplit.errors import AudioError

USDR_EPSILON = 1e-7


def usdr(reference: Any, estimate: Any) -> np.ndarray:
    """SDR over all channels and samples of a song: 10 log10((sum s^2 + 1e-7) / (sum (s - s_hat)^2 + 1e-7)).

    Args:
        reference: true signals, ``(targets, channels, samples)``.
        estimate: estimates, same shape.

    Returns:
        dB per target, ``(targets,)``; a silent estimate scores 0. The score of a set is the mean over songs.

    Raises:
        AudioError: shapes differ or are not ``(targets, channels, samples)``, or a sample is not finite.
    """
    return usdr_of_energies(usdr_energies(reference, estimate))


def usdr_energies(reference: Any, estimate: Any) -> np.ndarray:
    """Energies of a piece of a song, which add up over pieces; see `usdr` for arguments and errors.

    Returns:
        Those of the reference and of the error, ``(2, targets)``.
    """
    reference, estimate = _checked(reference, estimate)
    energies = np.zeros((2, len(reference)))
    for target, channel in np.ndindex(reference.shape[:2]):
        true, residual = _true_and_residual(reference[target, channel], estimate[target, channel])
        energies[:, target] += np.dot(true, true), np.dot(residual, residual)
    return energies


def usdr_of_energies(energies: np.ndarray) -> np.ndarray:
    """Return dB per target for energies ``(2, targets)`` as `usdr_energies` gives them."""
    return 10 * np.log10((energies[0] + USDR_EPSILON) / (energies[1] + USDR_EPSILON))


def csdr_windows(reference: Any, estimate: Any, sample_rate_hz: int) -> np.ndarray:
    """SDR of windows of 1 s, without overlap; a last partial window is dropped, a song shorter than 1 s is one window.

    A window in which any target's reference or estimate is silent counts for no target, so always give all stems of a
    song together. As in museval, silent means that the channels sum to zero at every sample. An estimate without any
    error scores infinity.

    Args:
        reference: true signals, ``(targets, channels, samples)``.
        estimate: estimates, same shape.
        sample_rate_hz: samples in a window.

    Returns:
        dB, ``(targets, windows)``; NaN where a window does not count.

    Raises:
        AudioError: as `usdr`; also a sample rate below 1.
    """
    reference, estimate = _checked(reference, estimate)
    if sample_rate_hz < 1:
        raise AudioError(f"sample_rate_hz: {sample_rate_hz} is not a positive number")
    samples = reference.shape[-1]
    window = min(int(sample_rate_hz), samples)
    windows = samples // window
    energies = np.zeros((2, len(reference), windows))
    counts = np.ones(windows, dtype=bool)
    # A channel at a time: in float64 the four stems of a song and their residuals would take gigabytes.
    for target in range(len(reference)):
        sums = np.zeros((2, windows, window))
        for channel in range(reference.shape[1]):
            true, guess = (
                array[target, channel, : windows * window].astype(np.float64).reshape(windows, window)
                for array in (reference, estimate)
            )
            sums += (true, guess)
            guess -= true
            energies[0, target] += np.einsum("wt,wt->w", true, true)
            energies[1, target] += np.einsum("wt,wt->w", guess, guess)
        counts &= sums.any(axis=2).all(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        values_db = 10 * np.log10(energies[0] / energies[1])
    return np.where(counts, values_db, np.nan)


def median_over_windows(windows_db: np.ndarray) -> np.ndarray:
    """Aggregate `csdr_windows` to a song's cSDR: the median of the windows that count (mean of the two middle values).

    Args:
        windows_db: ``(targets, windows)``.

    Returns:
        dB per target, ``(targets,)``; NaN if no window counts. The score of a set is the median over songs.
    """
    counted = windows_db[:, ~np.isnan(windows_db).any(axis=0)]
    return np.median(counted, axis=1) if counted.size else np.full(len(windows_db), np.nan)


def _true_and_residual(reference: np.ndarray, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    true = reference.astype(np.float64)
    return true, true - estimate


def _checked(reference: Any, estimate: Any) -> tuple[np.ndarray, np.ndarray]:
    arrays = {"reference": _to_numpy(reference), "estimate": _to_numpy(estimate)}
    for name, array in arrays.items():
        if array.ndim != 3 or not array.size:
            raise AudioError(
                f"{name}: has shape {array.shape}; it must be (targets, channels, samples), none of them 0"
            )
        if not np.issubdtype(array.dtype, np.floating):
            raise AudioError(f"{name}: has dtype {array.dtype}; give floating-point samples with full scale at 1")
    reference, estimate = arrays.values()
    if reference.shape != estimate.shape:
        raise AudioError(f"estimate: has shape {estimate.shape}, but reference {reference.shape}; they must be equal")
    for name, array in arrays.items():
        for target, signal in enumerate(array):
            if not np.isfinite(signal).all():
                channel, sample = np.argwhere(~np.isfinite(signal))[0]
                raise AudioError(
                    f"{name}: sample {sample} of target {target}, channel {channel} is {signal[channel, sample]}; "
                    f"every sample must be a finite number"
                )
    return reference, estimate


def _to_numpy(signal: Any) -> np.ndarray:
    # Without importing torch, which is not needed to score arrays.
    return np.asarray(signal.detach().cpu() if hasattr(signal, "detach") else signal)

"""Separation quality, in float64. Arrays are ``targets channels samples``, NumPy or torch.

uSDR is the SDR of the Music Demixing Challenge. cSDR is museval's, whose distortion filters cancel out of the SDR, so
that a plain energy ratio per window remains.

Source: docs/numerics.md#metrics; paper, section IV-C; museval; SI-SDR paper; L1-freq paper;
Music-Source-Separation-Training.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from bandsplit.core.errors import AudioError

USDR_EPSILON = 1e-7
L1_FREQ_BINS, L1_FREQ_HOP_SAMPLES = 2048, 1024
_BLOCK_SAMPLES = 1 << 15
"""Samples processed at once: a few blocks in float64 fit into a cache; copies of a song in float64 fill the memory."""


def usdr(reference: Any, estimate: Any) -> np.ndarray:
    """SDR over all channels and samples of a song: 10 log10((sum s^2 + 1e-7) / (sum (s - s_hat)^2 + 1e-7)).

    Args:
        reference: true signals, ``(targets, channels, samples)``.
        estimate: estimates, same shape.

    Returns:
        dB per target, ``(targets,)``; a silent estimate scores 0. The score of a set is the mean over songs.

    Raises:
        AudioError: shapes differ or are not ``(targets, channels, samples)``, or a sample is not finite.

    Example:
        >>> stem = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 2, 44100))  # one target in stereo
        >>> usdr(stem, 0.9 * stem).round(2)
        array([20.])
    """
    return usdr_of_energies(usdr_energies(reference, estimate))


def usdr_energies(reference: Any, estimate: Any) -> np.ndarray:
    """Return the energies of a piece of a song, which add up over pieces; see `usdr` for arguments and errors.

    Returns:
        Energies of the reference and of the error, ``(2, targets)``.

    Example:
        >>> stem = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 2, 44100))
        >>> blocks = [stem[..., :30000], stem[..., 30000:]]
        >>> usdr_of_energies(sum(usdr_energies(block, 0.9 * block) for block in blocks)).round(2)
        array([20.])
    """
    reference, estimate = _checked(reference, estimate)
    energies = np.zeros((2, len(reference)))
    for target, true, guess in _blocks(reference, estimate):
        energies[:, target] += _energy(true), _energy(np.subtract(true, guess, out=guess))
    return energies


def usdr_of_energies(energies: np.ndarray) -> np.ndarray:
    """Return dB per target for energies ``(2, targets)`` as `usdr_energies` gives them.

    Example:
        >>> usdr_of_energies(np.array([[1.0, 10.0], [0.1, 10.0]])).round(2)  # of two targets
        array([10.,  0.])
    """
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

    Example:
        >>> stem = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 2, 3 * 8000))
        >>> stem[..., 8000:16000] = 0  # the second of three seconds is silent
        >>> csdr_windows(stem, 0.9 * stem, 8000).round(2)
        array([[20., nan, 20.]])
    """
    reference, estimate = _checked(reference, estimate)
    if sample_rate_hz < 1:
        raise AudioError(f"sample_rate_hz: {sample_rate_hz} is not a positive number")
    samples = reference.shape[-1]
    window = min(int(sample_rate_hz), samples)
    windows = samples // window
    energies = np.zeros((2, len(reference), windows))
    counts = np.ones(windows, dtype=bool)
    for place in range(windows):
        inside = slice(place * window, (place + 1) * window)
        for target, (true, guess) in enumerate(zip(reference[..., inside], estimate[..., inside], strict=True)):
            true, guess = true.astype(np.float64), guess.astype(np.float64)
            counts[place] &= _sounds(true) and _sounds(guess)
            energies[0, target, place] = _energy(true)
            energies[1, target, place] = _energy(np.subtract(true, guess, out=guess))
    with np.errstate(divide="ignore", invalid="ignore"):
        values_db = 10 * np.log10(energies[0] / energies[1])
    return np.where(counts, values_db, np.nan)


def median_over_windows(windows_db: np.ndarray) -> np.ndarray:
    """Aggregate `csdr_windows` to a song's cSDR: the median of the windows that count (mean of the two middle values).

    Args:
        windows_db: ``(targets, windows)``.

    Returns:
        dB per target, ``(targets,)``; NaN if no window counts. The score of a set is the median over songs.

    Example:
        >>> median_over_windows(np.array([[1.0, np.nan, 4.0, 9.0]]))
        array([4.])
    """
    counted = windows_db[:, ~np.isnan(windows_db).any(axis=0)]
    return np.median(counted, axis=1) if counted.size else np.full(len(windows_db), np.nan)


def si_sdr(reference: Any, estimate: Any) -> np.ndarray:
    """Scale-invariant SDR of a song: 10 log10(sum (a s)^2 / sum (a s - s_hat)^2), a = sum s s_hat / sum s^2.

    All channels and samples of a target are one vector, with one scale ``a`` for all channels; no mean is removed. Some
    tools score channels by themselves and average, or remove means: their numbers differ.

    Args:
        reference: true signals, ``(targets, channels, samples)``.
        estimate: estimates, same shape.

    Returns:
        dB per target, ``(targets,)``; NaN where the reference or the estimate is silent, since no scale is defined
        there, infinity for a scaled reference. The score of a set is the mean over songs.

    Raises:
        AudioError: as `usdr`.

    Example:
        >>> stem, noise = np.random.default_rng(0).normal(0, 0.1, (2, 1, 2, 44100))
        >>> si_sdr(stem, stem + 0.1 * noise).round(1), si_sdr(stem, 5 * (stem + 0.1 * noise)).round(1)
        (array([20.]), array([20.]))
    """
    reference, estimate = _checked(reference, estimate)
    power, guessed, product, error = np.zeros((4, len(reference)))
    for target, true, guess in _blocks(reference, estimate):
        power[target] += _energy(true)
        guessed[target] += _energy(guess)
        product[target] += np.einsum("ct,ct->", true, guess)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = product / power
        for target, true, guess in _blocks(reference, estimate):
            true *= scale[target]
            error[target] += _energy(np.subtract(true, guess, out=guess))
        values_db = 10 * np.log10(scale**2 * power / error)
    return np.where((power > 0) & (guessed > 0), values_db, np.nan)


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
    reference, estimate = _checked(reference, estimate)
    channels = reference.shape[1]
    means = np.zeros(len(reference))
    for target, channel in np.ndindex(reference.shape[:2]):
        both = (_magnitudes(array[target, channel]) for array in (reference, estimate))
        sums, sizes = zip(
            *((np.abs(true - guess).sum(), true.size) for true, guess in zip(*both, strict=True)), strict=True
        )
        means[target] += sum(sums) / sum(sizes) / channels
    return 100 / (1 + 10 * means)


def _magnitudes(signal: np.ndarray) -> Iterator[np.ndarray]:
    """Yield magnitudes ``t f`` of a signal ``samples``, a few frames at a time; see `l1_freq` for the transform."""
    padded = np.pad(signal, L1_FREQ_BINS // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, L1_FREQ_BINS)[::L1_FREQ_HOP_SAMPLES]
    step = _BLOCK_SAMPLES // L1_FREQ_BINS
    for start in range(0, len(frames), step):
        yield np.abs(np.fft.rfft(frames[start : start + step].astype(np.float64)))


def _blocks(reference: np.ndarray, estimate: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield target, and reference and estimate ``c samples`` in float64, a block at a time; both may be overwritten."""
    for start in range(0, reference.shape[-1], _BLOCK_SAMPLES):
        inside = slice(start, start + _BLOCK_SAMPLES)
        for target, (true, guess) in enumerate(zip(reference[..., inside], estimate[..., inside], strict=True)):
            yield target, true.astype(np.float64), guess.astype(np.float64)


def _sounds(signal: np.ndarray) -> bool:
    """Return whether the sum of the channels is nonzero anywhere; for most windows, their beginning is enough."""
    return bool(signal[:, :256].sum(axis=0).any() or signal.sum(axis=0).any())


def _energy(signal: np.ndarray) -> float:
    # Not np.dot: the order in which it adds depends on the number of threads.
    return float(np.einsum("ct,ct->", signal, signal))


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
    # Does not import torch, which is not needed to score arrays.
    return np.asarray(signal.detach().cpu() if hasattr(signal, "detach") else signal)

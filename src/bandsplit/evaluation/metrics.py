"""Separation quality, in float64. Arrays are ``targets channels samples``, NumPy or torch.

uSDR is the SDR of the Music Demixing Challenge. cSDR is museval's, whose distortion filters cancel out of the SDR, so
that a plain energy ratio per window remains. The metrics of spectra are in `bandsplit.evaluation.spectra`, and can be
imported from here, too. Functions whose name begins with ``compute`` take signals that were checked before.

Source: docs/numerics.md#metrics; paper, section IV-C; museval; SI-SDR paper; DTTNet-Pytorch; kuielab/mdx-net;
Music-Source-Separation-Training.
"""

from typing import Any, Literal, NamedTuple

import numpy as np

from bandsplit.core.errors import AudioError
from bandsplit.evaluation.signals import Signals, blocks, blocks_of_all, checked, checked_pair, energy, sounds
from bandsplit.evaluation.spectra import Bleed, bleedless_fullness, l1_freq, log_spectral_distance

__all__ = [
    "Bleed", "bleedless_fullness", "csdr_windows", "csdr_windows_by_rule", "kuielab_sdr_of_energies", "l1_freq",
    "log_spectral_distance", "median_over_windows", "si_sar", "si_sdr", "usdr", "usdr_energies", "usdr_of_energies",
]  # fmt: skip

USDR_EPSILON = 1e-7
MSST_EPSILON = 1e-8
"""Instead of `USDR_EPSILON` in the SDR of Music-Source-Separation-Training."""
KUIELAB_EPSILON = 1e-10
PRECISION = 2.0**-46
"""Energy of the rounding of 32-bit samples in relation to theirs; artifacts below it, at -138 dB, do not count."""
SAME_DIRECTION = 1e-10
"""Eigenvalues of the correlations of stems that are smaller, in relation to the largest, are taken as zero."""

WindowRule = Literal["set", "rest", "own"]
"""Signals of which none may be silent in a window that counts, reference and estimate: all targets that are scored
together (museval), the target and the rest of the mixture (DTTNet), or the target alone."""


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
    return compute_energies(*checked_pair(reference, estimate))


def compute_energies(reference: Signals, estimate: Signals) -> np.ndarray:
    """Compute `usdr_energies`."""
    energies = np.zeros((2, len(reference)))
    for target, true, guess in blocks(reference, estimate):
        energies[:, target] += energy(true), energy(np.subtract(true, guess, out=guess))
    return energies


def usdr_of_energies(energies: np.ndarray, epsilon: float = USDR_EPSILON) -> np.ndarray:
    """Return dB per target for energies ``(2, targets)`` as `usdr_energies` gives them.

    Example:
        >>> usdr_of_energies(np.array([[1.0, 10.0], [0.1, 10.0]])).round(2)  # of two targets
        array([10.,  0.])
    """
    return 10 * np.log10((energies[0] + epsilon) / (energies[1] + epsilon))


def kuielab_sdr_of_energies(energies: np.ndarray) -> np.ndarray:
    """Return the SDR of KUIELab-MDX-Net for `usdr_energies`: 10 log10(sum s^2 / sum (s - s_hat)^2 + 1e-10).

    Returns:
        dB per target, ``(targets,)``: -100 for the estimate of a silent target, infinity for one without any error;
        NaN where the target is silent and the estimate, too.

    Example:
        >>> kuielab_sdr_of_energies(np.array([[1.0, 0.0], [0.1, 10.0]])).round(2)
        array([  10., -100.])
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return 10 * np.log10(energies[0] / energies[1] + KUIELAB_EPSILON)


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
    reference, estimate = checked_pair(reference, estimate)
    return compute_windows(reference, estimate, None, _checked_rate(sample_rate_hz))["set"]


def csdr_windows_by_rule(
    reference: Any, estimate: Any, mixture: Any, sample_rate_hz: int
) -> dict[WindowRule, np.ndarray]:
    """SDR of the windows of `csdr_windows`, under each rule for windows with silence.

    The rest of a target is the mixture minus it: of the mixture and the reference, and of the mixture and the estimate.

    Args:
        reference: true signals, ``(targets, channels, samples)``.
        estimate: estimates, same shape.
        mixture: ``(channels, samples)``.
        sample_rate_hz: samples in a window.

    Returns:
        dB, ``(targets, windows)``; NaN where a window does not count.

    Raises:
        AudioError: as `csdr_windows`.

    Example:
        >>> stems = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 2, 2 * 8000))
        >>> stems[1, :, 8000:] = 0  # the second of two targets is silent in the second of two seconds
        >>> found = csdr_windows_by_rule(stems, 0.9 * stems, stems.sum(axis=0), 8000)
        >>> found["set"][0].round(2), found["rest"][0].round(2), found["own"][0].round(2)
        (array([20., nan]), array([20., nan]), array([20., 20.]))
    """
    reference, estimate = checked_pair(reference, estimate)
    (mixed,) = checked("mixture", np.asarray(mixture)[None])
    if mixed.shape != reference.shape[1:]:
        raise AudioError(f"mixture: has shape {mixed.shape}, but the targets {reference.shape[1:]}; they must be equal")
    return compute_windows(reference, estimate, mixed, _checked_rate(sample_rate_hz))


def compute_windows(
    reference: Signals, estimate: Signals, mixture: np.ndarray | None, sample_rate_hz: int
) -> dict[WindowRule, np.ndarray]:
    """Compute `csdr_windows_by_rule`; without a mixture, the rest always sounds."""
    samples = reference[0].shape[-1]
    window = min(int(sample_rate_hz), samples)
    windows = samples // window
    energies = np.zeros((2, len(reference), windows))
    own = np.ones((len(reference), windows), dtype=bool)
    rest = own.copy()
    for place in range(windows):
        inside = slice(place * window, (place + 1) * window)
        mixed = None if mixture is None else mixture[:, inside].astype(np.float64)
        for target, (true, guess) in enumerate(zip(reference, estimate, strict=True)):
            true, guess = true[:, inside].astype(np.float64), guess[:, inside].astype(np.float64)
            own[target, place] = sounds(true) and sounds(guess)
            rest[target, place] = mixed is None or (_differ(mixed, true) and _differ(mixed, guess))
            energies[0, target, place] = energy(true)
            energies[1, target, place] = energy(np.subtract(true, guess, out=guess))
    with np.errstate(divide="ignore", invalid="ignore"):
        values_db = 10 * np.log10(energies[0] / energies[1])
    everything = np.broadcast_to(own.all(axis=0), own.shape)
    counts: dict[WindowRule, np.ndarray] = {"set": everything, "rest": own & rest, "own": own}
    return {rule: np.where(count, values_db, np.nan) for rule, count in counts.items()}


def _differ(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether the difference sounds; for most windows, their beginning is enough."""
    return sounds(a[:, :256] - b[:, :256]) or sounds(a - b)


def _checked_rate(sample_rate_hz: int) -> int:
    if sample_rate_hz < 1:
        raise AudioError(f"sample_rate_hz: {sample_rate_hz} is not a positive number")
    return sample_rate_hz


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
    counted = (row[~np.isnan(row)] for row in windows_db)
    return np.array([np.median(row) if row.size else np.nan for row in counted])


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
    return compute_si_sdr(*checked_pair(reference, estimate))


def compute_si_sdr(reference: Signals, estimate: Signals) -> np.ndarray:
    """Compute `si_sdr`."""
    power, guessed, product, error = np.zeros((4, len(reference)))
    for target, true, guess in blocks(reference, estimate):
        power[target] += energy(true)
        guessed[target] += energy(guess)
        product[target] += np.einsum("ct,ct->", true, guess)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = product / power
        for target, true, guess in blocks(reference, estimate):
            true *= scale[target]
            error[target] += energy(np.subtract(true, guess, out=guess))
        values_db = 10 * np.log10(scale**2 * power / error)
    return np.where((power > 0) & (guessed > 0), values_db, np.nan)


def si_sar(stems: Any, estimate: Any) -> np.ndarray:
    """Scale-invariant signal-to-artifacts ratio: what the stems of the song explain of an estimate, over what not.

    The estimate is projected on the span of all stems by least squares: 10 log10(sum p^2 / sum (s_hat - p)^2), where p
    is the sum of the stems, each times one number for all channels. So bleeding costs nothing, artifacts do.

    Args:
        stems: all stems of the song, ``(stems, channels, samples)``. Silent ones add nothing to the span; where stems
            depend on each other, directions below `SAME_DIRECTION` are left out of it.
        estimate: estimates of any targets, ``(targets, channels, samples)``.

    Returns:
        dB per target, ``(targets,)``; infinity where the rest is below the `PRECISION` of samples, NaN where the
        estimate or every stem is silent. The score of a set is the mean over songs.

    Raises:
        AudioError: as `usdr`, or channels and samples differ.

    Example:
        >>> first, second, noise = np.random.default_rng(0).normal(0, 0.1, (3, 1, 2, 44100))
        >>> stems = np.concatenate([first, second])
        >>> si_sar(stems, 3 * first + 4 * second + 0.5 * noise).round()
        array([20.])
    """
    stems, estimate = checked("stems", stems), checked("estimate", estimate)
    if stems.shape[1:] != estimate.shape[1:]:
        raise AudioError(f"estimate: has shape {estimate.shape}, but stems {stems.shape}; only the first may differ")
    return compute_si_sar(stems, estimate, Span.of(stems))


class Span(NamedTuple):
    """The space that the stems of a song span."""

    products: np.ndarray
    """Inner products of all pairs of stems, ``(stems, stems)``."""
    inverse: np.ndarray
    """Their pseudo-inverse; zeros where all are silent."""

    @classmethod
    def of(cls, stems: Signals) -> "Span":
        """Multiply all pairs of stems, and invert."""
        products = _products(stems, stems)
        norms = np.sqrt(np.diag(products))
        scale = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
        both = np.outer(scale, scale)
        return cls(products, both * np.linalg.pinv(both * products, rcond=SAME_DIRECTION, hermitian=True))


def compute_si_sar(stems: Signals, estimate: Signals, span: Span) -> np.ndarray:
    """Compute `si_sar`."""
    if not span.inverse.any():
        return np.full(len(estimate), np.nan)
    weights = _products(estimate, stems) @ span.inverse
    rest = np.zeros(len(estimate))
    for trues, guesses in blocks_of_all(stems, estimate):
        guesses -= (weights @ trues.reshape(len(trues), -1)).reshape(guesses.shape)
        rest += [energy(guess) for guess in guesses]
    explained = np.maximum(np.einsum("ki,ij,kj->k", weights, span.products, weights), 0)
    rest[rest < PRECISION * explained] = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        return 10 * np.log10(explained / rest)


def _products(rows: Signals, columns: Signals) -> np.ndarray:
    """Return the inner products of all pairs of signals, ``(rows, columns)``."""
    found = np.zeros((len(rows), len(columns)))
    for some, others in blocks_of_all(rows, columns):
        found += np.einsum("ict,jct->ij", some, others)
    return found

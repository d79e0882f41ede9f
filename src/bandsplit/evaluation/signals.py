"""Signals to compare: checks of shape and samples, blocks in float64, energies."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bandsplit.core.errors import AudioError

BLOCK_SAMPLES = 1 << 15
"""Samples processed at once: a few blocks in float64 fit into a cache; copies of a song in float64 fill the memory."""

Signals = np.ndarray | Sequence[np.ndarray]
"""Signals ``c samples`` of several targets or stems, in one array or in a list without copies."""


def checked_pair(reference: Any, estimate: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays ``targets channels samples`` of equal shape.

    Raises:
        AudioError: they have other or different shapes, or a sample is not finite.
    """
    arrays = {"reference": checked("reference", reference), "estimate": checked("estimate", estimate)}
    reference, estimate = arrays.values()
    if reference.shape != estimate.shape:
        raise AudioError(f"estimate: has shape {estimate.shape}, but reference {reference.shape}; they must be equal")
    return reference, estimate


def checked(name: str, signals: Any) -> np.ndarray:
    """Return NumPy or torch signals as an array ``targets channels samples``.

    Raises:
        AudioError: they have another shape, or a sample is not finite; the message calls them ``name``.
    """
    # Does not import torch, which is not needed to score arrays.
    array = np.asarray(signals.detach().cpu() if hasattr(signals, "detach") else signals)
    if array.ndim != 3 or not array.size:
        raise AudioError(f"{name}: has shape {array.shape}; it must be (targets, channels, samples), none of them 0")
    if not np.issubdtype(array.dtype, np.floating):
        raise AudioError(f"{name}: has dtype {array.dtype}; give floating-point samples with full scale at 1")
    for target, signal in enumerate(array):
        if not np.isfinite(signal).all():
            channel, sample = np.argwhere(~np.isfinite(signal))[0]
            raise AudioError(
                f"{name}: sample {sample} of target {target}, channel {channel} is {signal[channel, sample]}; "
                f"every sample must be a finite number"
            )
    return array


def blocks(reference: Signals, estimate: Signals) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield target, and reference and estimate ``c samples`` in float64, a block at a time; both may be overwritten."""
    for start in range(0, reference[0].shape[-1], BLOCK_SAMPLES):
        inside = slice(start, start + BLOCK_SAMPLES)
        for target, (true, guess) in enumerate(zip(reference, estimate, strict=True)):
            yield target, true[:, inside].astype(np.float64), guess[:, inside].astype(np.float64)


def blocks_of_all(*groups: Signals) -> Iterator[list[np.ndarray]]:
    """Yield a block of all signals of each group, ``targets c samples`` in float64."""
    step = BLOCK_SAMPLES // 8  # since they are in the cache together
    for start in range(0, groups[0][0].shape[-1], step):
        inside = slice(start, start + step)
        yield [np.stack([signal[:, inside] for signal in group], dtype=np.float64) for group in groups]


def energy(signal: np.ndarray) -> float:
    """Return the energy of ``c samples`` in float64."""
    # Not np.dot: the order in which it adds depends on the number of threads.
    return float(np.einsum("ct,ct->", signal, signal))


def sounds(signal: np.ndarray) -> bool:
    """Return whether the sum of the channels is nonzero anywhere; for most windows, their beginning is enough."""
    return bool(signal[:, :256].sum(axis=0).any() or signal.sum(axis=0).any())

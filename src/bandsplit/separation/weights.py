"""Weights with which the estimates of chunks are added up; they depend only on the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_never

from bandsplit.models.chunk_config import (
    BoundedConfig,
    CrossfadeConfig,
    FadedConfig,
    FoldedConfig,
    HammingConfig,
    JoinedConfig,
    OverlapAddConfig,
    TriangleConfig,
    TrimmedConfig,
)

if TYPE_CHECKING:
    from bandsplit.separation.chunks import Chunk, ChunkPlan

Weights = NDArray[np.float64]


def chunk_weights(plan: ChunkPlan, chunk: Chunk) -> Weights:
    """Return the weights of a chunk's used samples.

    Over all chunks they sum to one at every sample, except where a public plan has another sum: `FoldedConfig` if its
    overlaps do not divide the chunk, and `JoinedConfig` in overlaps.

    Source: docs/numerics.md#inference.
    """
    match plan.config:
        case CrossfadeConfig():
            weights = np.ones(chunk.used_stop - chunk.used_start)
            if chunk.fade_in:
                weights[: chunk.fade_in] = np.linspace(0, 1, chunk.fade_in)
            if chunk.fade_out:
                weights[-chunk.fade_out :] = 1 - np.linspace(0, 1, chunk.fade_out)
            return weights
        case OverlapAddConfig():
            # Rectangular windows have equal weights: the sum of weights at a sample is the number of windows over it.
            # It is window / hop if the hop divides the window, as in the paper, and correct for every other hop.
            at = np.arange(chunk.used_start, chunk.used_stop)
            return 1 / ((at + chunk.stop - chunk.start) // plan.hop_samples - at // plan.hop_samples)
        case FadedConfig() | HammingConfig():
            return _share(plan, chunk)
        case FoldedConfig(overlaps=overlaps):
            return np.full(chunk.used_stop - chunk.used_start, 1 / overlaps)
        case TrimmedConfig() | BoundedConfig():
            return np.ones(chunk.used_stop - chunk.used_start)
        case JoinedConfig():
            weights = np.ones(chunk.stop - chunk.start)
            if chunk.fade_in:
                weights[: chunk.fade_in] = np.arange(chunk.fade_in) / chunk.fade_in
            if chunk.fade_out:
                weights[-chunk.fade_out :] = np.arange(chunk.fade_out)[::-1] / chunk.fade_out
            return weights[: chunk.used_stop - chunk.used_start]
        case TriangleConfig(shifts=shifts):
            return _share(plan, chunk) / shifts
        case _ as unreachable:
            assert_never(unreachable)


def _share(plan: ChunkPlan, chunk: Chunk) -> Weights:
    """Divide a chunk's window by the sum of the windows over each sample; 0 where the sum is 0."""
    own, total = _window(plan, chunk), np.zeros(chunk.used_stop - chunk.used_start)
    for other in plan.over(chunk):
        if other.grid != chunk.grid:
            continue
        start, stop = max(chunk.used_start, other.used_start), min(chunk.used_stop, other.used_stop)
        window = own if other is chunk else _window(plan, other)
        total[start - chunk.used_start : stop - chunk.used_start] += window[
            start - other.used_start : stop - other.used_start
        ]
    return np.divide(own, total, out=np.zeros_like(own), where=total > 0)


def _window(plan: ChunkPlan, chunk: Chunk) -> Weights:
    """Return the window over a chunk's used samples, before it is divided."""
    if isinstance(plan.config, TriangleConfig):
        at = chunk.skipped + np.arange(1, chunk.used_stop - chunk.used_start + 1)
        length = plan.chunk_samples
        return (np.minimum(at, length + 1 - at) / (length - length // 2)) ** plan.config.power
    if isinstance(plan.config, HammingConfig):
        window = chunk.repeats * np.hamming(chunk.stop - chunk.start)
    else:
        window = np.ones(chunk.stop - chunk.start)
        window[: chunk.fade_in] = np.linspace(0, 1, chunk.fade_in)
        if chunk.fade_out:
            window[-chunk.fade_out :] = np.linspace(1, 0, chunk.fade_out)
    return window[chunk.used_start - chunk.start : chunk.used_stop - chunk.start]

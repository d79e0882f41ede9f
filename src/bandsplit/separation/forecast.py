"""Forecast of the time and memory that a separation takes, scaled from a few seconds of noise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bandsplit.core.machine import forget_peak, memory_mb, peak_memory_mb
from bandsplit.separation.chunks import Chunk, ChunkPlan
from bandsplit.separation.separator import Separator

PROBE_S = 2.0


class Cost(NamedTuple):
    """Approximate cost of a song."""

    seconds: float
    """Time of computing. Reading, writing and resampling add a little; digital silence takes no time."""
    megabytes: float | None
    """Memory of the process, without that of a GPU; None where the system does not report it."""


class Forecast:
    """Costs of songs; for each number of channels, the first request runs a probe."""

    def __init__(self, separator: Separator) -> None:
        """Take the separator that will be used."""
        self._separator = separator
        self._probes: dict[int, tuple[float, float | None, float | None]] = {}

    def cost(self, plans: Sequence[ChunkPlan], channels: int) -> Cost:
        """Estimate what a song of ``channels`` takes, in chunks as planned by the separator."""
        if channels not in self._probes:
            self._probes[channels] = self._probe(channels)
        seconds, before_mb, growth_mb = self._probes[channels]
        megabytes = None if before_mb is None or growth_mb is None else before_mb + growth_mb * self._at_once(plans)
        return Cost(seconds * _total(plans), megabytes)

    def _probe(self, channels: int) -> tuple[float, float | None, float | None]:
        """Return seconds per sample of a chunk, memory in use in MB, and MB per sample of a batch."""
        separator = self._separator
        rate_hz = separator.sample_rate_hz
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, (channels, round(PROBE_S * rate_hz))).astype(np.float32)
        plans = separator.plans(noise.shape[1], rate_hz)
        before_mb = memory_mb() if forget_peak() else None
        separator.separate(noise[:, : rate_hz // 10 + 1], rate_hz)  # the first call includes one-time set-up
        began = time.perf_counter()
        separator.separate(noise, rate_hz)
        seconds = (time.perf_counter() - began) / _total(plans)
        if before_mb is None:
            return seconds, None, None
        return seconds, before_mb, max(0.0, peak_memory_mb() - before_mb) / self._at_once(plans)

    def _at_once(self, plans: Sequence[ChunkPlan]) -> int:
        """Return the samples of the largest batch of chunks."""
        at_once = self._separator.chunks_at_once
        return max(sum(map(_length, batch)) for plan in plans for batch in plan.batches(at_once))


def _total(plans: Sequence[ChunkPlan]) -> int:
    return sum(_length(chunk) for plan in plans for chunk in plan.chunks)


def _length(chunk: Chunk) -> int:
    return chunk.stop - chunk.start

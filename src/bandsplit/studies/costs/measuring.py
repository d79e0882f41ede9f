"""Measured cost of separation: speed, memory and energy of a system in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bandsplit.core.errors import BandsplitError, ConfigError
from bandsplit.core.machine import describe_machine, peak_memory_mb
from bandsplit.core.processes import worker_pool
from bandsplit.core.unfinished import temporary_folder
from bandsplit.models.chunk_config import ChunkConfig
from bandsplit.runs.energy.card import Component, Part, Phase, read_attempts
from bandsplit.runs.energy.meter import EnergyMeter
from bandsplit.separation.chunks import describe_chunks
from bandsplit.separation.separator import Separator
from bandsplit.studies.costs.counts import SONG_S, song_flop
from bandsplit.studies.costs.rows import SeparationCost
from bandsplit.studies.costs.systems import CostedSystem

LEAST_S = 3.0
"""Time that the noise is separated for, if necessary again and again: the meter resolves no less than 50 ms."""
LONG_S = 10.0
"""A first separation that takes this long counts: nothing in it is lost on warming up."""


class _Metered(NamedTuple):
    """Separations that count, and their energy."""

    wall_s: float
    cpu_s: float
    passes: int
    joules: float
    parts: dict[Part, Component]


def measure_separation_cost(
    system: CostedSystem, device: torch.device, *, noise_s: float | None = None, least_s: float = LEAST_S
) -> SeparationCost:
    """Measure the `CostedSystem.sample` of a system on noise, in a process of its own.

    Time and energy are scaled to a song by the counted operations of both; the weights of models that are left out are
    added to the peak.

    Args:
        system: the system.
        device: where it runs.
        noise_s: length of the noise in seconds; None: as many chunks as are estimated at once.
        least_s: time to measure for.

    Raises:
        BandsplitError: the system cannot be used here.
    """
    if noise_s is not None and not 0 < noise_s < float("inf"):
        raise ConfigError(f"seconds: {noise_s:g} is not a length of noise; give a number above 0")
    sample = system.sample()
    with sample.stored() as files, worker_pool(1) as pool:
        try:
            options = (sample.chunks, str(device), torch.get_num_threads(), noise_s)
            noise_s = pool.submit(_open, files, *options).result()
            found = _meter(lambda: pool.submit(_separate).result(), device, least_s)
            peak_mb = pool.submit(_peak_mb).result()
        except MemoryError:
            raise BandsplitError(f"{system.name}: does not fit into memory") from None
        except BrokenProcessPool:
            raise BandsplitError(f"{system.name}: its process was killed, perhaps for want of memory") from None
    music_s = found.passes * SONG_S * song_flop(sample, noise_s) / song_flop(system, SONG_S)
    left_out = sum(one.bytes for one in system.networks) - sum(one.bytes for one in sample.networks)
    known = any(part.state != "absent" for part in found.parts.values())
    return SeparationCost(
        system=system.name,
        source=system.source,
        machine=describe_machine(device),
        inference=" + ".join(dict.fromkeys(describe_chunks(one.chunks) for one in system.networks)),
        noise_s=noise_s,
        passes=found.passes,
        realtime=music_s / found.wall_s,
        busy_cores=found.cpu_s / found.wall_s,
        peak_mb=peak_mb + left_out / 1e6,
        joules_per_min=found.joules / music_s * 60 if known else None,
        parts=found.parts,
    )


def _meter(separate: Callable[[], tuple[float, float]], device: torch.device, least_s: float) -> _Metered:
    """Measure separations; the first one warms up, unless it takes so long that this makes no difference."""
    with temporary_folder() as folder:
        meter = EnergyMeter(Path(folder), 1, device=device, idle_s=0)
        meter.start()
        try:
            phase: Phase = "training"  # names of a run's phases, which here keep the first separation apart
            meter.phase(phase)
            times = [separate()]
            if times[0][0] < LONG_S:
                phase = "validation"
                meter.phase(phase)
                times = [separate()]
                while sum(wall_s for wall_s, _ in times) < least_s:
                    times.append(separate())
        finally:
            meter.stop("measured")
        (attempt,), _ = read_attempts(Path(folder))
    joules = sum(attempt.phases[phase].joules.values()) if phase in attempt.phases else 0.0
    wall_s, cpu_s = map(sum, zip(*times, strict=True))
    return _Metered(wall_s, cpu_s, len(times), joules, attempt.components)


# --- in the process of its own ---------------------------------------------------------------------------------------

_work: tuple[Separator, np.ndarray]


def _open(files: Sequence[Path], chunks: ChunkConfig | None, device: str, threads: int, noise_s: float | None) -> float:
    """Load the models and make the noise; return its length in seconds."""
    global _work
    torch.set_num_threads(threads)
    separator = Separator(list(files), device=device, chunks=chunks, threads=threads)
    noise_s = noise_s or separator.chunks_at_once * max(plan.chunk_s for plan in separator.chunks)
    shape = (separator.channels or 2, round(noise_s * separator.sample_rate_hz))
    _work = separator, np.random.default_rng(0).uniform(-0.1, 0.1, shape).astype(np.float32)
    return noise_s


def _separate() -> tuple[float, float]:
    """Separate the noise; return the time and the process's CPU time in seconds."""
    separator, noise = _work
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    separator.separate(noise, separator.sample_rate_hz)
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def _peak_mb() -> float:
    return peak_memory_mb(torch.device(_work[0].device))

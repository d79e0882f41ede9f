"""Speed of making training examples, compared with the rate at which soundfile alone reads the same excerpts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import soundfile

from bandsplit.core.machine import peak_memory_mb
from bandsplit.data.examples.dataset import ExampleDataset
from bandsplit.data.examples.loading import AHEAD, load_batches

ROUNDS = 9


class DataSpeed(NamedTuple):
    """Examples per second, medians over rounds that measure all variants in turn, and their ratios to the floor."""

    floor: float
    """soundfile opening the same files, seeking and reading the same excerpts as float32, without any other work."""
    made: float
    """Examples read, levelled and mixed in this process."""
    made_ratio: float
    loaded: float
    """Batches of two delivered by a loader with one worker process."""
    loaded_ratio: float
    growth_mb: float
    """Growth of this process's peak memory from the first round to the last."""


def measure_examples(examples: ExampleDataset, per_round: int = 60) -> DataSpeed:
    """Measure in rounds, so that all variants see the same machine noise; the first round is a warm-up.

    Args:
        examples: the examples, at least ``per_round * (ROUNDS + 1)`` of them.
        per_round: examples per round and measurement.
    """
    floors, made, loaded = [], [], []
    memory_mb = 0.0
    for number in range(ROUNDS + 1):
        indices = range(number * per_round, (number + 1) * per_round)
        excerpts = [_excerpts(examples, index) for index in indices]
        rates = (
            _rate(lambda excerpts=excerpts: _read_all(excerpts), per_round),
            _rate(lambda indices=indices: [examples[index] for index in indices], per_round),
            _loaded_rate(examples, indices),
        )
        if number == 0:
            memory_mb = peak_memory_mb()
            continue
        for rate, rates_so_far in zip(rates, (floors, made, loaded), strict=True):
            rates_so_far.append(rate)
    ratios = [[a / b for a, b in zip(rates, floors, strict=True)] for rates in (made, loaded)]
    median = statistics.median
    growth_mb = max(0.0, peak_memory_mb() - memory_mb)  # Linux counts to a few pages
    return DataSpeed(median(floors), median(made), median(ratios[0]), median(loaded), median(ratios[1]), growth_mb)


def _excerpts(examples: ExampleDataset, index: int) -> list[tuple[str, int, int]]:
    """Return file, start and samples of every excerpt that an example reads."""
    found = []
    for stem, draw in examples.sampler.draw(index).stems.items():
        track, start, samples = examples.place(draw)
        if not draw.drop:
            found += [(str(file.path), start, min(samples, file.samples - start)) for file in track.stems[stem]]
    return found


def _read_all(excerpts: Sequence[Sequence[tuple[str, int, int]]]) -> None:
    for of_example in excerpts:
        for path, start, samples in of_example:
            with soundfile.SoundFile(path) as file:
                file.seek(start)
                file.read(samples, dtype="float32")


def _rate(work: Callable[[], object], examples: int) -> float:
    began = time.perf_counter()
    work()
    return examples / (time.perf_counter() - began)


def _loaded_rate(examples: ExampleDataset, indices: range) -> float:
    """Return the rate of a running worker, timed from the first batch to the last."""
    loader = iter(load_batches(examples, indices, batch_size=2, workers=1))
    next(loader)
    began = time.perf_counter()
    batches = sum(1 for _ in loader)
    # When the clock starts, the worker is ahead by at most the batches that it may prefetch.
    return 2 * (batches - AHEAD) / (time.perf_counter() - began)

"""Costs of a system that need no run: parameters, operations, size on the disk."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from bandsplit.models.families import count_flop
from bandsplit.runs.config import RunConfig
from bandsplit.separation.chunks import plan_chunks
from bandsplit.studies.costs.systems import CostedSystem, Network

SONG_S = 240.0
"""Length of the song whose chunks are counted; those of the MUSDB18-HQ test set have a mean of about four minutes."""


class Counted(NamedTuple):
    """Sums over the networks of a system; operations are those of matrix products."""

    parameters: int
    gflop_chunk: float
    """Of ten seconds inside a chunk, without overlap."""
    gflop_song: float
    """Of ten seconds of a song, cut into overlapping chunks, with all averages of the plan."""
    gflop_example: float | None
    """Of a training step for one example of each model; None for files."""
    bytes: int


def count_costs(system: CostedSystem) -> Counted:
    """Count the costs of a system."""
    return Counted(
        parameters=sum(network.parameters for network in system.networks),
        gflop_chunk=sum(map(_chunk_flop_per_s, system.networks)) * 10 / 1e9,
        gflop_song=song_flop(system, SONG_S) / SONG_S * 10 / 1e9,
        gflop_example=sum(map(example_flop, system.runs)) / 1e9 if system.runs else None,
        bytes=sum(network.bytes for network in system.networks),
    )


def song_flop(system: CostedSystem, song_s: float) -> float:
    """Count the operations of a song, chunk by chunk."""
    return sum(_plan_flop(network, song_s) for network in system.networks)


def example_flop(run: RunConfig) -> int:
    """Count the operations of a training step for one example: forward and backward."""
    return count_flop(run.model, round(run.training.excerpt_s * run.model.sample_rate_hz)).step


def training_flop(run: RunConfig) -> int:
    """Count the operations of a training to its last epoch or update, without validations."""
    return example_flop(run) * examples(run)


def examples(run: RunConfig) -> int:
    """Count the examples of a training: to its last epoch, or as many as a budget in counted operations pays for."""
    batch = run.training.update_examples
    paid = run.paid_updates(batch)
    return run.training.examples_per_epoch * run.training.max_epochs if paid is None else paid * batch


def _plan_flop(network: Network, song_s: float) -> float:
    config = network.config
    plan = plan_chunks(round(song_s * config.sample_rate_hz), network.chunks, config.sample_rate_hz)
    lengths = Counter(chunk.stop - chunk.start for chunk in plan.chunks)
    flop = sum(
        times * count_flop(config, config.geometry.fitting(samples)).forward for samples, times in lengths.items()
    )
    return flop * (1 + len(network.chunks.tta))


def _chunk_flop_per_s(network: Network) -> float:
    config, seconds = network.config, network.chunks.chunk_s
    return count_flop(config, config.geometry.fitting(round(seconds * config.sample_rate_hz))).forward / seconds

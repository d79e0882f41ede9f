"""The way of a song through the models of a system: chunks in, estimates of all its targets out, block by block."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bandsplit.audio.streams import Window, resample_blocks
from bandsplit.core.errors import AudioError
from bandsplit.models.chunk_config import ChunkConfig
from bandsplit.separation.channels import group_channels
from bandsplit.separation.chunks import ChunkPlan, plan_chunks
from bandsplit.separation.levels import NORMALISED, Level, averaged, measure_level
from bandsplit.separation.members import Mean, Member, combine
from bandsplit.separation.network import Network, needed_channels
from bandsplit.separation.opening import open_network
from bandsplit.separation.song_stream import SongStream, stored
from bandsplit.separation.streaming import skip_silence, stream_plan

Blocks = Iterator[np.ndarray]
Networks = Mapping[Member, Network]


@dataclass(frozen=True)
class Stage:
    """Models whose chunks are the same: they see a chunk one after the other."""

    chunks: ChunkConfig
    members: Mapping[Member, tuple[str, ...]]
    """The models, and the targets that are needed of each."""

    @property
    def rows(self) -> list[tuple[Member, str]]:
        """Models and targets of its estimates, in their order."""
        return [(member, target) for member, targets in self.members.items() for target in targets]


def make_stages(needed: Mapping[Member, set[str]], apart: bool) -> list[Stage]:
    """Group models by their chunks.

    Args:
        needed: the models, and the targets that are needed of each.
        apart: a stage for each model, but for those that see what others left.
    """
    groups: list[list[Member]] = []
    for member in needed:
        group = next((group for group in groups if _belongs(member, group, apart)), None)
        if group is None:
            groups.append([member])
        else:
            group.append(member)
    order = {member: tuple(target for target in member.targets if target in needed[member]) for member in needed}
    return [Stage(group[0].chunks, {member: order[member] for member in group}) for group in groups]


def _belongs(member: Member, group: Sequence[Member], apart: bool) -> bool:
    if apart:
        return any(provider in group for provider, _ in member.minus)
    return member.chunks == group[0].chunks


def load_stage(stage: Stage, **options: Any) -> dict[Member, Network]:
    """Load the models of a stage, as far as they are needed; ``options`` are those of `open_network`."""
    return {
        member: open_network(member.model, targets=None if targets == member.targets else targets, **options)
        for member, targets in stage.members.items()
    }


@dataclass(frozen=True)
class Pipeline:
    """The stages of a system, and how their estimates are joined."""

    mean: Mean
    stages: Sequence[Stage]
    targets: tuple[str, ...]
    """The wanted targets."""
    sample_rate_hz: int
    opened: Callable[[Stage], AbstractContextManager[Networks]]
    """Gives the networks of a stage for as long as they are needed."""
    batch_size: int | None
    """Chunks per call; None: as many as suit the networks."""
    apart: bool
    """One stage after the other, each for the complete song."""

    @property
    def reads_again(self) -> bool:
        """Whether a song is read more than once."""
        return self.apart or any(stage.chunks.normalise in NORMALISED for stage in self.stages)

    def plans(self, samples: int) -> list[ChunkPlan]:
        """Plan the chunks of each stage for a song of ``samples`` at the models' rate."""
        return [plan_chunks(samples, stage.chunks, self.sample_rate_hz) for stage in self.stages]

    def run(
        self, song: SongStream, plans: Sequence[ChunkPlan], report: Callable[[float], None]
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield a first sample, the mixture ``c samples`` and the estimates ``s c samples``, all at the song's rate.

        Args:
            song: the song.
            plans: those of its length.
            report: called often with the share of the work that is done.
        """
        # One step is one chunk in one network, so that progress is even for any number of models and any batch.
        total = sum(len(plan.chunks) * len(stage.members) for plan, stage in zip(plans, self.stages, strict=True))
        steps = (step / total for step in itertools.count(1))

        def done(count: int) -> None:
            report([next(steps) for _ in range(count)][-1])

        # The loop at the end pulls block by block, so that nothing here has the length of the song:
        #
        #     blocks --tee--> resample --tee--> window -> chunks -> estimate -> overlap -> join -> resample -> estimates
        #              \                  \---> the same with other chunks ------------/
        #               \--> window -----------------------------------------------------------------> mixture
        #
        # Resampling and chunks delay a branch; the tees store the difference.
        def models_blocks(blocks: Iterable[np.ndarray]) -> Blocks:
            return resample_blocks(blocks, song.sample_rate_hz, self.sample_rate_hz, plans[0].total_samples)

        kinds = {stage.chunks.normalise for stage in self.stages}
        levels = {kind: measure_level(models_blocks(song.blocks()), kind) for kind in kinds & NORMALISED}
        with ExitStack() as files:
            streams: list[Iterable[np.ndarray]] = []
            if self.apart:
                for stage, plan in zip(self.stages, plans, strict=True):
                    blocks = self._stage_blocks(stage, plan, models_blocks(song.blocks()), levels, song, done)
                    streams.append(files.enter_context(stored(song.name, blocks)))
            to_models, to_output = itertools.tee(song.blocks())
            inputs, *read = itertools.tee(models_blocks(to_models), 1 if self.apart else 1 + len(self.stages))
            for stage, plan, blocks in zip(self.stages, plans, read, strict=False):
                streams.append(self._stage_blocks(stage, plan, blocks, levels, song, done))
            joined = self._join(streams, inputs, song.channels)
            mixture, start = Window(to_output), 0
            for block in resample_blocks(joined, self.sample_rate_hz, song.sample_rate_hz, song.samples):
                samples = block.shape[1]
                yield start, mixture.read(start, samples), block.reshape(-1, song.channels, samples)
                start += samples

    def _stage_blocks(
        self,
        stage: Stage,
        plan: ChunkPlan,
        blocks: Blocks,
        levels: Mapping[str | None, Level],
        song: SongStream,
        done: Callable[[int], None],
    ) -> Blocks:
        """Yield the estimates of a stage, targets and channels in one axis."""
        level = levels.get(stage.chunks.normalise, Level())
        window = Window(map(level.apply, blocks))
        with self.opened(stage) as networks:
            estimate = partial(_estimate_stage, stage, networks, level, song, done)
            size = self.batch_size or max(network.batch_size for network in networks.values())
            for _, block in stream_plan(plan, window.read, estimate, size):
                yield block.reshape(-1, block.shape[-1])

    def _join(self, streams: Sequence[Iterable[np.ndarray]], inputs: Blocks, channels: int) -> Blocks:
        """Join the estimates of the stages, targets and channels in one axis."""
        first, *others = [iter(stream) for stream in streams]
        windows, mixture, start = [Window(stream) for stream in others], Window(inputs), 0
        for block in first:
            samples = block.shape[1]
            blocks = [block, *(window.read(start, samples) for window in windows)]
            found: dict[Member, dict[str, np.ndarray]] = {}
            for stage, rows in zip(self.stages, blocks, strict=True):
                estimates = rows.reshape(-1, channels, samples)
                for (member, target), estimate in zip(stage.rows, estimates, strict=True):
                    found.setdefault(member, {})[target] = estimate
            combined = combine(self.mean, found, mixture.read(start, samples))
            yield np.concatenate([combined[target] for target in self.targets])
            start += samples


def _estimate_stage(
    stage: Stage, networks: Networks, level: Level, song: SongStream, done: Callable[[int], None], batch: np.ndarray
) -> np.ndarray:
    """Estimate chunks ``b c samples``: ``b s c samples``, at the level of the song."""
    found: dict[tuple[Member, str], np.ndarray] = {}
    for member, targets in stage.members.items():
        seen = batch
        for provider in member.minus:
            seen = seen - found[provider] / np.float32(level.scale)
        estimates = _estimate_chunks(networks[member], member, level, song, seen)
        its = networks[member].config.targets
        found |= {(member, target): estimates[:, its.index(target)] for target in targets}
        done(len(batch))
    return np.stack([found[row] for row in stage.rows], axis=1)


def _estimate_chunks(network: Network, member: Member, level: Level, song: SongStream, batch: np.ndarray) -> np.ndarray:
    """Estimate chunks by one network. Silence skips it and stays silence."""
    groups = group_channels(song.channels, needed_channels(network.config), song.name)
    average = averaged(network.estimate, member.chunks.tta)
    targets = network.config.targets
    try:
        estimate = skip_silence(
            lambda chunks: level.undo(groups.estimate(average, chunks)), len(targets), level.silence
        )
        estimates = estimate(batch)
    except MemoryError:
        raise AudioError(
            f"{song.name}: {network.device} has too little memory for a chunk of {batch.shape[-1]} samples; "
            f"choose shorter chunks (--chunk), smaller batches or fewer jobs"
        ) from None
    # Checked here, where the target and the level of the mixture are still known.
    for target, values in zip(targets, estimates.swapaxes(0, 1), strict=True):
        if not np.isfinite(values).all():
            raise AudioError(
                f"{song.name}: the estimate of {target!r} is not finite; the mixture peaks at "
                f"{np.abs(level.undo(batch)).max():.3g} (full scale is 1), so scale it down, or the model is damaged"
            )
    return estimates

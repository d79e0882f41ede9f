"""Chunk plans: the positions where a song is cut for the network, and the fades that join its estimates.

A plan consists of integers and can be printed. Its chunks are in order, so that everything before the ``used_start`` of
the next chunk is final: a writer can follow the plan without keeping the song in memory.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from typing_extensions import assert_never

from bandsplit.core.errors import AudioError, ConfigError
from bandsplit.models.chunk_config import ChunkConfig, CrossfadeConfig, OverlapAddConfig
from bandsplit.models.contract import Geometry, ModelConfig


@dataclass(frozen=True)
class Chunk:
    """One inference window, in samples of the song; beyond the song's ends it contains zeros."""

    start: int
    stop: int
    used_start: int
    """First sample whose estimate is used."""
    used_stop: int
    """End of the samples whose estimate is used."""
    fade_in: int = 0
    """Length of the linear fade that starts at ``used_start``."""
    fade_out: int = 0
    """Length of the linear fade that ends at ``used_stop``."""


@dataclass(frozen=True)
class ChunkPlan:
    """All chunks of a song of ``total_samples``. Its text is a table in seconds."""

    config: CrossfadeConfig | OverlapAddConfig
    total_samples: int
    sample_rate_hz: int
    hop_samples: int
    """Distance of the chunks of an overlap-add; 0 otherwise."""
    chunks: tuple[Chunk, ...]

    def weights(self, chunk: Chunk) -> np.ndarray:
        """Return weights of a chunk's used samples, float32; over all chunks they sum to one at every sample."""
        if self.hop_samples:
            # Rectangular windows have equal weights: the sum of weights at a sample is the number of windows over it.
            # It is window / hop if the hop divides the window, as in the paper, and correct for every other hop.
            at = np.arange(chunk.used_start, chunk.used_stop)
            windows = (at + chunk.stop - chunk.start) // self.hop_samples - at // self.hop_samples
            return (1 / windows).astype(np.float32)
        weights = np.ones(chunk.used_stop - chunk.used_start)
        if chunk.fade_in:
            weights[: chunk.fade_in] = np.linspace(0, 1, chunk.fade_in)
        if chunk.fade_out:
            weights[-chunk.fade_out :] = 1 - np.linspace(0, 1, chunk.fade_out)
        return weights.astype(np.float32)

    def batches(self, batch_size: int) -> Iterator[list[Chunk]]:
        """Group neighbours of equal length, at most ``batch_size`` at a time."""
        for _, group in groupby(self.chunks, key=lambda chunk: chunk.stop - chunk.start):
            equal = list(group)
            for first in range(0, len(equal), batch_size):
                yield equal[first : first + batch_size]

    @property
    def title(self) -> str:
        """One line: the method, the number of chunks and the length of the song."""
        seconds = self.total_samples / self.sample_rate_hz
        chunks = f"{len(self.chunks)} chunk(s) for {seconds:.3f} s at {self.sample_rate_hz} Hz"
        return f"{describe_chunks(self.config)}: {chunks}"

    def __str__(self) -> str:
        """Return the title and a table with one line per chunk."""
        rows = [self.title, f"{'chunk':>5} {'start_s':>9} {'stop_s':>9} {'fade_in_s':>9} {'fade_out_s':>10}"]
        for number, chunk in enumerate(self.chunks, start=1):
            start_s, stop_s, fade_in_s, fade_out_s = (
                count / self.sample_rate_hz for count in (chunk.start, chunk.stop, chunk.fade_in, chunk.fade_out)
            )
            rows.append(f"{number:>5} {start_s:>9.3f} {stop_s:>9.3f} {fade_in_s:>9.3f} {fade_out_s:>10.3f}")
        return "\n".join(rows)


_OPTIONS = {"hop_s": "--hop", "overlap": "--overlap", "geometry": "--geometry"}  # settings of only one method


def choose_chunks(
    chunks: ChunkConfig | Mapping[str, Any] | None, models: Sequence[ModelConfig], names: Sequence[str]
) -> ChunkConfig:
    """Choose the plan for models that are used together.

    Args:
        chunks: the plan itself; or changes, ``kind`` among them, to the plan that the models' authors used; or None for
            that plan.
        models: the models.
        names: their names in errors.

    Raises:
        ConfigError: the authors' plans differ, so that one must be named; a setting is unknown, illegal or has no
            meaning with the method; or a model does not take chunks of this length.
    """
    geometries = [model.geometry for model in models]
    if isinstance(chunks, CrossfadeConfig | OverlapAddConfig):
        chosen = chunks
    else:
        for geometry, name in zip(geometries, names, strict=True):
            if geometry.published != geometries[0].published:
                raise ConfigError(
                    f"chunks: {names[0]} and {name} come with different plans; name the plan with --method and --chunk"
                )
        chosen = _change(chunks or {}, geometries[0])
    for model, geometry, name in zip(models, geometries, names, strict=True):
        check_chunks(chosen, geometry, model.sample_rate_hz, name)
    return chosen


def _change(settings: Mapping[str, Any], geometry: Geometry) -> ChunkConfig:
    published = geometry.published
    kind = settings.get("kind", published.kind)
    config = check_settings(settings, kind)
    best = {} if geometry.best_s is None else {"chunk_s": geometry.best_s}
    start = published.model_dump() if kind == published.kind else best
    return config.parse({**start, **settings})


def check_settings(settings: Mapping[str, Any], kind: str) -> type[CrossfadeConfig] | type[OverlapAddConfig]:
    """Return the class of the method ``kind``.

    Raises:
        ConfigError: a setting has no meaning with this method.
    """
    config = CrossfadeConfig if kind == "crossfade" else OverlapAddConfig
    if wrong := [_OPTIONS[name] for name in settings if name in _OPTIONS and name not in config.model_fields]:
        raise ConfigError(f"{', '.join(wrong)}: has no meaning with --method {kind}; leave it out")
    return config


def check_chunks(config: ChunkConfig, geometry: Geometry, sample_rate_hz: int, name: str) -> None:
    """Check that a model called ``name`` takes the longest chunks of a plan.

    Raises:
        ConfigError: it does not.
    """
    most = geometry.fixed_samples
    longest = _longest_samples(config, sample_rate_hz)
    if most is not None and longest > most:
        raise ConfigError(
            f"chunks: {describe_chunks(config)} has chunks of {longest / sample_rate_hz:.3f} s, but {name} takes at "
            f"most {most / sample_rate_hz:.3f} s at once; choose a shorter --chunk"
        )


def _longest_samples(config: ChunkConfig, sample_rate_hz: int) -> int:
    match config:
        case CrossfadeConfig(geometry="authors"):
            return _to_samples(config.chunk_s * (1 + 2 * config.overlap), sample_rate_hz) + 1  # two parts are rounded
        case _:
            return _to_samples(config.chunk_s, sample_rate_hz)


def describe_chunks(config: ChunkConfig) -> str:
    """Name the method and its settings in a few words."""
    match config:
        case CrossfadeConfig(geometry=geometry, chunk_s=chunk_s, overlap=overlap):
            return f"crossfade ({geometry} geometry, nominal chunk {chunk_s:g} s, overlap {overlap:.0%})"
        case OverlapAddConfig(chunk_s=chunk_s, hop_s=hop_s):
            return f"overlap-add (chunk {chunk_s:g} s, hop {hop_s:g} s)"
        case _ as unreachable:
            assert_never(unreachable)


def plan_chunks(total_samples: int, config: ChunkConfig, sample_rate_hz: int) -> ChunkPlan:
    """Plan the chunks of a song of ``total_samples`` >= 1.

    Source: docs/numerics.md#inference; paper, section IV-E; authors' code. The last for the geometry.

    Raises:
        AudioError: no samples.
        ConfigError: a chunk or hop shorter than one sample at this rate.
    """
    if total_samples < 1:
        raise AudioError(f"total_samples: {total_samples}; a song has at least 1 sample")
    chunk_samples = _to_samples(config.chunk_s, sample_rate_hz)
    if chunk_samples < 1:
        raise ConfigError(f"chunk_s: {config.chunk_s:g} s is less than one sample at {sample_rate_hz} Hz; give more")
    match config:
        case OverlapAddConfig():
            hop = _to_samples(config.hop_s, sample_rate_hz)
            if hop < 1:
                raise ConfigError(
                    f"hop_s: {config.hop_s:g} s is less than one sample at {sample_rate_hz} Hz; give more"
                )
            chunks = _overlap_add(total_samples, chunk_samples, hop)
        case CrossfadeConfig():
            hop = 0
            fade = _to_samples(config.chunk_s * config.overlap, sample_rate_hz)
            if config.geometry == "authors":
                first = _to_samples(config.chunk_s * (1 + config.overlap), sample_rate_hz)
                chunks = _authors_crossfade(total_samples, first, fade)
            else:
                chunks = _even_crossfade(total_samples, chunk_samples, fade)
        case _ as unreachable:
            assert_never(unreachable)
    return ChunkPlan(config, total_samples, sample_rate_hz, hop, tuple(chunks))


def stream_plan(
    plan: ChunkPlan,
    read: Callable[[int, int], np.ndarray],
    estimate: Callable[[np.ndarray], np.ndarray],
    batch_size: int = 1,
) -> Iterator[tuple[int, np.ndarray]]:
    """Estimate a song chunk by chunk and yield final samples; memory does not depend on the song's length.

    Args:
        plan: the plan for the length of the song.
        read: returns the mixture ``c samples``, given the first sample and the number of samples.
        estimate: turns a batch of chunks ``b c samples`` into estimates ``b s c samples``.
        batch_size: chunks of equal length per call of ``estimate``; it changes the speed, not the plan.

    Yields:
        Neighbouring blocks that cover the song: their first sample, and estimates, float32 ``s c samples``.
    """
    # After a chunk, all samples before the `used_start` of the next one are final; later ones may still change:
    #
    #     chunk 1  |----------\
    #     chunk 2          /----------\
    #     chunk 3                  /----------|
    #     yielded  [ 1    ][ 2    ][ 3        ]
    #
    # The rest waits in `pending`, whose first sample is sample `first` of the song.
    finals = iter([*(chunk.used_start for chunk in plan.chunks[1:]), plan.total_samples])
    first, pending = 0, None
    for batch in plan.batches(batch_size):
        estimates = estimate(np.stack([_cut(read, plan.total_samples, chunk) for chunk in batch]))
        if pending is None:
            pending = np.zeros((*estimates.shape[1:-1], 0), np.float32)
        for chunk, estimated in zip(batch, estimates, strict=True):
            used = estimated[..., chunk.used_start - chunk.start : chunk.used_stop - chunk.start]
            new = np.zeros((*pending.shape[:-1], chunk.used_stop - first - pending.shape[-1]), np.float32)
            pending = np.concatenate([pending, new], axis=-1)
            pending[..., chunk.used_start - first :] += used * plan.weights(chunk)
            final = next(finals) - first
            if final:  # 0 while the next window of an overlap-add also begins before the song
                yield first, pending[..., :final]
            first, pending = first + final, pending[..., final:]


def _to_samples(seconds: float, sample_rate_hz: int) -> int:
    """Return the full samples in ``seconds``; the small term keeps 10 * 1.1 s from losing one to rounding."""
    return int(seconds * sample_rate_hz + 1e-6)


def _authors_crossfade(total: int, first: int, fade: int) -> Iterator[Chunk]:
    """Yield chunks that end at multiples of ``first`` and begin one fade before: later ones are longer by the fade."""
    start, stop = 0, min(first, total)
    while True:
        last = stop == total
        yield Chunk(start, stop, start, stop, fade_in=fade if start else 0, fade_out=0 if last else fade)
        if last:
            return
        start, stop = stop - fade, min(stop + first, total)


def _even_crossfade(total: int, length: int, fade: int) -> Iterator[Chunk]:
    """Yield chunks of one length; the last is moved back to end with the song, and its surplus is only context."""
    start, used_start, stop = 0, 0, min(length, total)
    while True:
        last = stop == total
        yield Chunk(start, stop, used_start, stop, fade_in=fade if start else 0, fade_out=0 if last else fade)
        if last:
            return
        used_start = stop - fade
        start = min(used_start, total - length)
        stop = start + length


def _overlap_add(total: int, window: int, hop: int) -> Iterator[Chunk]:
    """Yield windows on a grid that begins one window before the song; those that cover only zeros are left out."""
    for start in range(hop - window, total, hop):
        yield Chunk(start, start + window, max(start, 0), min(start + window, total))


def _cut(read: Callable[[int, int], np.ndarray], total: int, chunk: Chunk) -> np.ndarray:
    start, stop = max(chunk.start, 0), min(chunk.stop, total)
    zeros = (start - chunk.start, chunk.stop - stop)
    inside = read(start, stop - start)
    return np.pad(inside, ((0, 0), zeros)) if any(zeros) else inside

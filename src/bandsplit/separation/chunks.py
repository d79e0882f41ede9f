"""Chunk plans: the positions where a song is cut for the network, and the fades that join its estimates.

A plan consists of integers and can be printed. Its chunks are in order, so that everything before the ``used_start`` of
the next chunk is final: a writer can follow the plan without keeping the song in memory.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from typing_extensions import assert_never

from bandsplit.core.errors import AudioError, ConfigError
from bandsplit.core.text import counted
from bandsplit.models.chunk_config import (
    BoundedConfig,
    ChunkConfig,
    CrossfadeConfig,
    FadedConfig,
    FoldedConfig,
    HammingConfig,
    JoinedConfig,
    OverlapAddConfig,
    TriangleConfig,
    TrimmedConfig,
)
from bandsplit.separation.weights import chunk_weights

MOST_SHIFT_S = 0.5
"""Time that the rows of chunks of shifted separations spread over."""


@dataclass(frozen=True)
class Chunk:
    """One inference window, in samples of the song; beyond the song's ends it contains zeros, unless reflected."""

    start: int
    stop: int
    used_start: int
    """First sample whose estimate is used."""
    used_stop: int
    """End of the samples whose estimate is used."""
    fade_in: int = 0
    """Length of the linear fade at the beginning."""
    fade_out: int = 0
    """Length of the linear fade at the end."""
    repeats: int = 1
    """Times that its estimate is added."""
    reflected: int = 0
    """Samples beyond each end of the song that are reflections about its first or last sample."""
    mirrored: bool = False
    """Whether samples beyond these are reflections about the last of them, not zeros."""
    skipped: int = 0
    """Samples of its window before the first used one."""
    grid: int = 0
    """Number of its row of chunks; the mean of several rows is the result."""


@dataclass(frozen=True)
class ChunkPlan:
    """All chunks of a song of ``total_samples``. Its text is a table in seconds."""

    config: ChunkConfig
    total_samples: int
    sample_rate_hz: int
    hop_samples: int
    """Distance of the chunks of an overlap-add; 0 otherwise."""
    chunks: tuple[Chunk, ...]

    @property
    def chunk_samples(self) -> int:
        """Nominal length of a chunk."""
        return _to_samples(self.config.chunk_s, self.sample_rate_hz)

    def weights(self, chunk: Chunk) -> np.ndarray:
        """Return weights of a chunk's used samples, float32; see `bandsplit.separation.weights`."""
        return chunk_weights(self, chunk).astype(np.float32)

    def over(self, chunk: Chunk) -> Sequence[Chunk]:
        """Return the chunks that share used samples with one of the plan, itself included."""
        first = bisect_right(self.chunks, chunk.used_start, key=lambda other: other.used_stop)
        return self.chunks[first : bisect_left(self.chunks, chunk.used_stop, key=lambda other: other.used_start)]

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


def plan_chunks(total_samples: int, config: ChunkConfig, sample_rate_hz: int) -> ChunkPlan:
    """Plan the chunks of a song of ``total_samples`` >= 1.

    Source: docs/numerics.md#inference; paper, section IV-E; authors' code; Music-Source-Separation-Training;
    kuielab/sdx23; python-audio-separator; DTTNet-Pytorch; Demucs. The last five for their own plans.

    Raises:
        AudioError: no samples.
        ConfigError: a chunk or hop shorter than one sample at this rate.
    """
    if total_samples < 1:
        raise AudioError(f"total_samples: {total_samples}; a song has at least 1 sample")
    length = _at_least_one("chunk_s", config.chunk_s, sample_rate_hz)
    hop = 0
    match config:
        case OverlapAddConfig():
            hop = _at_least_one("hop_s", config.hop_s, sample_rate_hz)
            chunks = _overlap_add(total_samples, length, hop)
        case CrossfadeConfig():
            fade = _to_samples(config.chunk_s * config.overlap, sample_rate_hz)
            if config.geometry == "authors":
                first = _to_samples(config.chunk_s * (1 + config.overlap), sample_rate_hz)
                chunks = _authors_crossfade(total_samples, first, fade)
            else:
                chunks = _even_crossfade(total_samples, length, fade)
        case FadedConfig():
            step = _share_of(length, config.overlaps)
            chunks = _faded(total_samples, length, step, config.exact_batch)
        case FoldedConfig():
            chunks = _folded(total_samples, length, _share_of(length, config.overlaps))
        case HammingConfig():
            chunks = _hamming(total_samples, length, _at_least_one("hop_s", config.hop_s, sample_rate_hz))
        case TrimmedConfig():
            chunks = _trimmed(total_samples, length, _to_samples(config.trim_s, sample_rate_hz))
        case BoundedConfig():
            chunks = _bounded(total_samples, length, _to_samples(config.trim_s, sample_rate_hz))
        case JoinedConfig():
            chunks = _joined(total_samples, length)
        case TriangleConfig():
            chunks = _triangles(total_samples, length, config, sample_rate_hz)
        case _ as unreachable:
            assert_never(unreachable)
    return ChunkPlan(config, total_samples, sample_rate_hz, hop, tuple(chunks))


def longest_samples(config: ChunkConfig, sample_rate_hz: int) -> int:
    """Return the length of the longest chunks that a plan can have."""
    if isinstance(config, CrossfadeConfig) and config.geometry == "authors":
        return _to_samples(config.chunk_s * (1 + 2 * config.overlap), sample_rate_hz) + 1  # two parts are rounded
    return _to_samples(config.chunk_s, sample_rate_hz)


def describe_chunks(config: ChunkConfig) -> str:
    """Name the method and its settings in a few words; other settings have another text."""
    match config:
        case CrossfadeConfig(geometry=geometry, chunk_s=chunk_s, overlap=overlap):
            common = _describe_common(config)
            return f"crossfade ({geometry} geometry, nominal chunk {chunk_s:g} s, overlap {overlap:.0%}{common})"
        case OverlapAddConfig() | HammingConfig():
            settings = f"hop {config.hop_s:g} s"
        case FadedConfig():
            batch = "" if config.exact_batch is None else f", fades as in batches of {config.exact_batch}"
            settings = f"{counted(config.overlaps, 'overlap')}{batch}"
        case FoldedConfig():
            settings = counted(config.overlaps, "overlap")
        case TrimmedConfig() | BoundedConfig():
            settings = f"trim {config.trim_s:g} s"
        case JoinedConfig():
            settings = "16 bits" if config.sixteen_bits else "float"
        case TriangleConfig():
            settings = _describe_triangles(config)
        case _ as unreachable:
            assert_never(unreachable)
    return f"{config.kind} (chunk {config.chunk_s:g} s, {settings}{_describe_common(config)})"


def work_notes(plans: Iterable[ChunkConfig]) -> list[str]:
    """Return notes for the user on averages, with the work that they cost."""
    return [f"{describe_chunks(plan)}: {plan.times} times the work of one estimate" for plan in plans if plan.times > 1]


def _describe_common(config: ChunkConfig) -> str:
    level = f", song normalised ({config.normalise})" if config.normalise not in (None, "none") else ""
    mean = f", mean with altered {' and '.join(config.tta)}: {1 + len(config.tta)} times the work" if config.tta else ""
    return level + mean


def _describe_triangles(config: TriangleConfig) -> str:
    power = "" if config.power == 1 else f", power {config.power:g}"
    lengths = ""
    if not config.multiple_samples:
        lengths = ", complete pieces"
    elif config.multiple_samples > 1 or config.less_samples:
        lengths = f", pieces of multiples of {config.multiple_samples} less {config.less_samples} samples"
    shifts = f", mean of {config.shifts} shifts: {config.shifts} times the work" if config.shifts > 1 else ""
    return f"overlap {config.overlap:.4g}{power}{lengths}{shifts}"


def _to_samples(seconds: float, sample_rate_hz: int) -> int:
    """Return the full samples in ``seconds``; the small term keeps 10 * 1.1 s from losing one to rounding."""
    return int(seconds * sample_rate_hz + 1e-6)


def _at_least_one(name: str, seconds: float, sample_rate_hz: int) -> int:
    samples = _to_samples(seconds, sample_rate_hz)
    if samples < 1:
        raise ConfigError(f"{name}: {seconds:g} s is less than one sample at {sample_rate_hz} Hz; give more")
    return samples


def _share_of(length: int, overlaps: int) -> int:
    if overlaps > length:
        raise ConfigError(f"overlaps: {overlaps} chunks over each sample need longer chunks than {length} samples")
    return length // overlaps


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
    return _clipped(total, window, range(hop - window, total, hop))


def _clipped(total: int, length: int, starts: Iterable[int]) -> Iterator[Chunk]:
    """Yield chunks of one length that begin before the end of the song; their samples in the song are used."""
    for start in starts:
        yield Chunk(start, start + length, max(start, 0), min(start + length, total))


def _faded(total: int, length: int, step: int, batch: int | None) -> Iterator[Chunk]:
    """Yield chunks over a song that is extended by reflection, if it is long enough, so that its ends are covered."""
    border = length - step if total > 2 * (length - step) else 0
    starts = range(-border, total + border, step)
    # Theirs decides on fades by batch; chunks that lie beyond the song count, though nothing of them is used.
    first_fades = batch is not None and min(batch, len(starts)) > 1
    unfaded = (len(starts) - 1) // (batch or 1) * (batch or 1)
    inside = len(range(-border, total, step))
    for number, chunk in enumerate(_clipped(total, length, starts[:inside])):
        yield replace(
            chunk,
            fade_in=length // 10 if number or first_fades else 0,
            fade_out=length // 10 if number < unfaded else 0,
            reflected=border,
            mirrored=chunk.stop > total + border > chunk.start + length // 2,
        )


def _folded(total: int, length: int, hop: int) -> Iterator[Chunk]:
    """Yield windows on a grid that begins one window before the song and ends as soon as the last one is past it."""
    more = hop - (total - length) % hop
    return _clipped(total, length, range(hop - length, min(total, total + more - hop + 1), hop))


def _hamming(total: int, length: int, hop: int) -> Iterator[Chunk]:
    """Yield chunks that begin with the song; those that pass its end are replaced by its last samples."""
    if total <= length:
        yield Chunk(0, total, 0, total)
        return
    starts = range(0, total, min(hop, length))
    inside = len(range(0, total - length + 1, starts.step))
    yield from _clipped(total, length, starts[:inside])
    if inside < len(starts):
        yield Chunk(total - length, total, total - length, total, repeats=len(starts) - inside)


def _trimmed(total: int, length: int, trim: int) -> Iterator[Chunk]:
    """Yield chunks whose middles are neighbours."""
    middle = length - 2 * trim
    if middle < 1:
        raise ConfigError(f"trim_s: {trim} samples at each end leave nothing of a chunk of {length}; give less")
    for start in range(0, total, middle):
        yield Chunk(start - trim, start - trim + length, start, min(start + middle, total))


def _bounded(total: int, length: int, trim: int) -> Iterator[Chunk]:
    """Yield chunks whose middles are neighbours, without what of their context lies beyond the song's ends."""
    for chunk in _trimmed(total, length, trim):
        yield replace(chunk, start=max(chunk.start, 0), stop=min(chunk.stop, total))


def _joined(total: int, length: int) -> Iterator[Chunk]:
    """Yield chunks that begin with the song at half their length, until one reaches its end."""
    hop = -(-length // 2)
    starts = range(0, max(1, total - (length - hop) + 1), hop)
    for chunk in _clipped(total, length, starts):
        last = chunk.start == starts[-1]
        yield replace(chunk, fade_in=length - hop if chunk.start else 0, fade_out=0 if last else length - hop)


def _triangles(total: int, length: int, config: TriangleConfig, sample_rate_hz: int) -> Iterator[Chunk]:
    """Yield chunks from the song's beginning, or from before it, in the middle of the pieces that the network sees."""
    multiple, less, hop = config.multiple_samples or length, config.less_samples, int((1 - config.overlap) * length)
    if hop < 1:
        raise ConfigError(f"overlap: {config.overlap:g} leaves no hop between chunks of {length} samples; give less")
    shifts = [_to_samples(MOST_SHIFT_S * number / config.shifts, sample_rate_hz) for number in range(config.shifts)]
    starts = [(start, grid) for grid, shift in enumerate(shifts) for start in range(-shift, total, hop)]
    for start, grid in sorted(starts):
        stop = min(start + length, total)
        if stop > 0:
            used, missing = max(start, 0), -(stop - start + less) % multiple
            before, after = missing // 2, missing - missing // 2
            yield Chunk(start - before, stop + after, used, stop, skipped=used - start, grid=grid)

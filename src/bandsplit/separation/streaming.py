"""Songs estimated chunk by chunk, in memory that does not depend on their length."""

from collections.abc import Callable, Iterator
from itertools import accumulate

import numpy as np

from bandsplit.models.chunk_config import JoinedConfig
from bandsplit.separation.chunks import Chunk, ChunkPlan

Read = Callable[[int, int], np.ndarray]
Estimate = Callable[[np.ndarray], np.ndarray]


def stream_plan(
    plan: ChunkPlan, read: Read, estimate: Estimate, batch_size: int = 1
) -> Iterator[tuple[int, np.ndarray]]:
    """Estimate a song chunk by chunk and yield final samples; memory does not depend on the song's length.

    Args:
        plan: the plan for the length of the song.
        read: returns the mixture ``c samples``, given the first sample, which never decreases, and the number of
            samples.
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
    starts = iter(_first_reads(plan))
    sixteen_bits = isinstance(plan.config, JoinedConfig) and plan.config.sixteen_bits
    first, pending = 0, None
    for batch in plan.batches(batch_size):
        estimates = estimate(np.stack([_cut(read, next(starts), plan.total_samples, chunk) for chunk in batch]))
        if sixteen_bits:
            estimates = np.clip(np.floor(estimates * 32768), -32768, 32767) / np.float32(32768)
        if pending is None:
            pending = np.zeros((*estimates.shape[1:-1], 0), np.float32)
        for chunk, estimated in zip(batch, estimates, strict=True):
            used = estimated[..., chunk.used_start - chunk.start : chunk.used_stop - chunk.start]
            new = np.zeros((*pending.shape[:-1], chunk.used_stop - first - pending.shape[-1]), np.float32)
            pending = np.concatenate([pending, new], axis=-1)
            pending[..., chunk.used_start - first :] += used * plan.weights(chunk)
            final = next(finals) - first
            if final:  # 0 while the next chunk also begins before the song
                done = pending[..., :final]
                # The original rounds chunks down, and their weighted sums towards zero.
                yield first, np.trunc(done * 32768) / np.float32(32768) if sixteen_bits else done
            first, pending = first + final, pending[..., final:]


def skip_silence(estimate: Estimate, targets: int, silence: float = 0.0) -> Estimate:
    """Let ``estimate`` see only chunks with sound: silence in, silence out, whatever biases a network has.

    Args:
        estimate: turns a batch of chunks ``b c samples`` into estimates ``b s c samples``.
        targets: number of its targets.
        silence: value of digital silence in a chunk, besides 0 beyond the song's ends.
    """

    def skip(batch: np.ndarray) -> np.ndarray:
        sounding = ((batch != 0) & (batch != silence)).any(axis=(1, 2))
        estimates = np.zeros((len(batch), targets, *batch.shape[1:]), np.float32)
        if sounding.any():
            estimates[sounding] = estimate(batch[sounding])
        return estimates

    return skip


def _first_reads(plan: ChunkPlan) -> list[int]:
    """Return for each chunk the first sample of the song that this or a later chunk needs, since reads are in order."""
    needed = [_sources(chunk, plan.total_samples)[0] for chunk in plan.chunks]
    return list(accumulate(reversed(needed), min))[::-1]


def _sources(chunk: Chunk, total: int) -> tuple[int, int]:
    """Return the range of the song's samples that a chunk contains, its reflections included."""
    start, stop = chunk.start, chunk.stop
    if not chunk.reflected and not chunk.mirrored:
        return max(start, 0), min(stop, total)
    ends = _reflect(np.array([start, min(stop, total + chunk.reflected) - 1]), total).tolist()
    return max(0, min(start, *ends)), min(total, max(stop, ends[0] + 1))


def _cut(read: Read, first: int, total: int, chunk: Chunk) -> np.ndarray:
    """Return the samples of a chunk, zeros and reflections included; read the song from ``first`` on."""
    _, stop = _sources(chunk, total)
    inside = read(first, stop - first)
    if chunk.start >= 0 and chunk.stop <= total:
        return inside[:, chunk.start - first :]
    if not chunk.reflected and not chunk.mirrored:
        zeros = (max(0, -chunk.start), max(0, chunk.stop - total))
        return np.pad(inside[:, max(chunk.start, 0) - first :], ((0, 0), zeros))
    at, extended = np.arange(chunk.start, chunk.stop), total + chunk.reflected
    kept = at < extended
    if chunk.mirrored:
        at, kept = np.where(kept, at, 2 * (extended - 1) - at), np.ones_like(kept)
    return inside[:, np.where(kept, _reflect(at, total) - first, 0)] * kept


def _reflect(at: np.ndarray, total: int) -> np.ndarray:
    """Map positions beyond the song's ends to their reflections about its first and last sample."""
    at = np.abs(at)
    return np.where(at < total, at, 2 * (total - 1) - at)

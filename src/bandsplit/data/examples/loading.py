"""Batches of examples from worker processes, in shared memory that is reused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset, get_worker_info

from bandsplit.core.processes import leave_signals_to_parent
from bandsplit.data.examples.dataset import Example, Examples

AHEAD = 2
"""Batches that each worker makes ahead."""


def load_batches(
    examples: Examples, indices: Sequence[int], batch_size: int, *, workers: int = 0, pin_memory: bool = False
) -> DataLoader[Example]:
    """Load the examples ``indices`` in batches.

    A batch is valid until the next one is requested: then workers overwrite it. Allocating shared memory for every
    batch would cost as much as computing the batch.

    Args:
        examples: the examples.
        indices: indices of the examples to load, in order.
        batch_size: examples per batch; the last batch may be smaller.
        workers: processes that make examples; 0 makes them in this one.
        pin_memory: whether to copy batches to memory that a GPU reads fast.
    """
    # Without its own generator, each pass would draw from torch's random state, which a resumed run restores.
    options: dict[str, Any] = {"pin_memory": pin_memory, "generator": torch.Generator()}
    if workers:
        options |= {
            "num_workers": workers,
            "prefetch_factor": AHEAD,
            "collate_fn": _SharedBatches(),
            "worker_init_fn": _start_worker,
        }
    return DataLoader(Subset(examples, indices), batch_size, **options)


def _start_worker(_: int) -> None:
    leave_signals_to_parent()


@dataclass
class _SharedBatches:
    """Stacks examples into shared memory slots in rotation: one per batch made ahead, and one for the batch in use."""

    slots: list[tuple[Tensor, ...]] = field(default_factory=list)
    count: int = 0

    def __call__(self, examples: list[Example]) -> Example:
        """Stack examples to a batch."""
        assert get_worker_info(), "memory is only shared with workers"
        # Batches of one worker, with two ahead: it may start batch n + 3, which reuses the slot of n, only when n + 1
        # is requested, which ends the use of n.
        #
        #     in use      n    n+1  n+2  n+3
        #     being made  n+1  n+2  n+3  n+4
        #                 n+2  n+3  n+4  n+5
        turn, self.count = self.count % (AHEAD + 1), self.count + 1
        signals = [[example.mixture for example in examples], [example.targets for example in examples]]
        if turn == len(self.slots):  # allocated by the worker: only it knows the shapes, and no other uses the slots
            self.slots.append(tuple(_shared(len(parts), parts[0]) for parts in signals))
        stacked = [
            torch.stack(parts, out=slot[: len(parts)]) for parts, slot in zip(signals, self.slots[turn], strict=True)
        ]
        problems, notes = ([getattr(example, name) for example in examples] for name in ("problem", "note"))
        return Example(stacked[0], stacked[1], problems, notes)


def _shared(count: int, like: Tensor) -> Tensor:
    return torch.empty((count, *like.shape), dtype=like.dtype).share_memory_()

"""Batches of examples from worker processes, through memory that is used again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset, default_collate, get_worker_info

from bandsplit.core.processes import leave_signals_to_parent
from bandsplit.data.examples.dataset import Example, ExampleDataset

AHEAD = 2
"""Batches that each worker makes ahead."""


def load_batches(
    examples: ExampleDataset, indices: Sequence[int], batch_size: int, *, workers: int = 0, pin_memory: bool = False
) -> DataLoader[Example]:
    """Load the examples ``indices`` in batches.

    A batch is valid until the next one is asked for: workers write over it then. New shared memory for every batch
    costs as much as making it.

    Args:
        examples: where examples come from.
        indices: which ones, in this order.
        batch_size: examples per batch; the last batch may be smaller.
        workers: processes that make examples; 0 makes them in this one.
        pin_memory: whether batches are copied to memory that a GPU reads quickly.
    """
    # Without a generator of its own, each pass would draw from torch's random state, which a resumed run restores.
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
    """Stacks examples into shared memory, taken in turn: the batches made ahead, and the one in use."""

    slots: list[tuple[Tensor, ...]] = field(default_factory=list)
    count: int = 0

    def __call__(self, examples: list[Example]) -> Example:
        """Join examples to a batch."""
        assert get_worker_info(), "memory is only shared with workers"
        # Of one worker's batches, with two ahead: it may begin batch n + 3, which goes into the slot of n, only when
        # n + 1 is asked for, which ends the use of n.
        #
        #     in use      n    n+1  n+2  n+3
        #     being made  n+1  n+2  n+3  n+4
        #                 n+2  n+3  n+4  n+5
        turn, self.count = self.count % (AHEAD + 1), self.count + 1
        signals = [[example.mixture for example in examples], [example.targets for example in examples]]
        if turn == len(self.slots):  # made by the worker: only it knows the shapes, and it keeps the slots to itself
            self.slots.append(tuple(_shared(len(parts), parts[0]) for parts in signals))
        stacked = [
            torch.stack(parts, out=slot[: len(parts)]) for parts, slot in zip(signals, self.slots[turn], strict=True)
        ]
        return Example(stacked[0], stacked[1], default_collate([example.problem for example in examples]))


def _shared(count: int, like: Tensor) -> Tensor:
    return torch.empty((count, *like.shape), dtype=like.dtype).share_memory_()

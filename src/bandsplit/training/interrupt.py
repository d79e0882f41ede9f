"""Reasons to stop or to save between two updates, on which all processes agree."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from lightning_fabric import Fabric

from bandsplit.core.errors import RunStopped
from bandsplit.core.interrupt import collected

AGREE_EVERY = 10
"""Updates between two agreements of several processes, which cost a message each."""
_TIME_IS_UP = 1000  # above all numbers of signals


class Decision(NamedTuple):
    """The decision after an update: to stop, to save, or neither."""

    stop: str | None
    """Why to stop: a signal's name or ``time limit``."""
    save: bool


class Interruptions:
    """Watches signals and clocks."""

    def __init__(self, fabric: Fabric, folder: Path, save_every_s: float, max_s: float | None) -> None:
        """Start the clocks; messages name ``folder``."""
        self.fabric, self.folder, self.save_every_s, self.max_s = fabric, folder, save_every_s, max_s
        self.began = self.saved = time.monotonic()
        self.received: Sequence[int] = ()
        self.asked = 0

    def just_saved(self) -> None:
        """Restart the clock of saving."""
        self.saved = time.monotonic()

    def decide(self) -> Decision:
        """Decide after an update; every process gets the same answer, within `AGREE_EVERY` updates."""
        now = time.monotonic()
        reason = self.received[0] if self.received else 0
        if self.max_s is not None and now - self.began >= self.max_s:
            reason = reason or _TIME_IS_UP
        save = now - self.saved >= self.save_every_s
        if self.fabric.world_size > 1:
            self.asked += 1
            if self.asked % AGREE_EVERY:
                return Decision(None, False)
            votes = torch.tensor([reason, save], dtype=torch.int64, device=self.fabric.device)
            reason, save = self.fabric.all_reduce(votes, reduce_op="max").tolist()  # pyright: ignore[reportAttributeAccessIssue]
        if reason == _TIME_IS_UP:
            return Decision("time limit", True)
        return Decision(signal.Signals(reason).name, True) if reason else Decision(None, bool(save))

    def stopped(self, reason: str) -> RunStopped:
        """Make the error that ends a run whose state is saved."""
        text = f"{self.folder}: stopped by {reason}, state saved; the same command with --resume continues the run"
        return RunStopped(text, reason)

    def stop_alone(self) -> None:
        """Stop at once if asked to, in a run of one process whose state is saved; several processes agree later.

        Raises:
            RunStopped: with the reason.
        """
        if self.fabric.world_size == 1 and (decision := self.decide()).stop:
            raise self.stopped(decision.stop)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Collect signals instead of dying in the middle of an update; a second Ctrl-C acts as usual.

        A second SIGTERM does not: a cluster and torchrun may both send one.
        """
        with collected() as self.received:
            yield

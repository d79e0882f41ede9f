"""What a run tells while it goes on, and what measures its energy: two interfaces, so that the loop knows no screen."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from bandsplit.runs.config import RunConfig
from bandsplit.training.execution import BatchPlan
from bandsplit.training.validation import Validation


class Start(NamedTuple):
    """A run that begins or goes on."""

    folder: Path
    config: RunConfig
    batches: BatchPlan
    learning_rate: float
    """That of the first update, worked out from the global batch."""
    updates: int
    """Updates at most."""
    done: int
    """Updates done before."""


class Step(NamedTuple):
    """An update that is done."""

    epoch: int
    """Epoch it belongs to, from 1."""
    update: int
    """Updates done, this one included."""
    loss: float
    """Mean of the epoch so far; NaN before the first batch is known."""
    learning_rate: float
    examples_per_s: float
    """Over all devices, since the epoch began or the run went on."""
    waiting: float
    """Share of that time in which this process waited for examples, 0 to 1."""
    kwh: float | None
    """Energy of all attempts so far, without PUE; None where it is not measured."""


class Reporter(Protocol):
    """Is told what happens; `bandsplit.training.reporters.terminal.TerminalProgress` shows it."""

    def start(self, start: Start) -> None:
        """The run begins or goes on."""

    def step(self, step: Step) -> None:
        """An update is done."""

    def validated(self, epoch: int, loss: float, validation: Validation, best: bool) -> None:
        """The songs of the validation have been separated after ``epoch`` epochs."""

    def skipped(self, problem: str) -> None:
        """Examples are left out, since a song is missing or broken; told once for each reason."""

    def note(self, text: str) -> None:
        """Something that a user should know."""


class Silence:
    """A reporter that shows nothing: for all processes but the first, and to build others on."""

    def start(self, start: Start) -> None:
        """Do nothing."""

    def step(self, step: Step) -> None:
        """Do nothing."""

    def validated(self, epoch: int, loss: float, validation: Validation, best: bool) -> None:
        """Do nothing."""

    def skipped(self, problem: str) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""


class Both:
    """Tells two reporters."""

    def __init__(self, first: Reporter, second: Reporter) -> None:
        """Tell ``first``, then ``second``."""
        self.reporters = (first, second)

    def start(self, start: Start) -> None:
        """Tell both."""
        for reporter in self.reporters:
            reporter.start(start)

    def step(self, step: Step) -> None:
        """Tell both."""
        for reporter in self.reporters:
            reporter.step(step)

    def validated(self, epoch: int, loss: float, validation: Validation, best: bool) -> None:
        """Tell both."""
        for reporter in self.reporters:
            reporter.validated(epoch, loss, validation, best)

    def skipped(self, problem: str) -> None:
        """Tell both."""
        for reporter in self.reporters:
            reporter.skipped(problem)

    def note(self, text: str) -> None:
        """Tell both."""
        for reporter in self.reporters:
            reporter.note(text)

"""Events of a run, for reporters to show, so that the loop is independent of any screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bandsplit.runs.config import RunConfig
from bandsplit.training.execution import BatchPlan
from bandsplit.training.initial import InitialModel
from bandsplit.training.validation import Validation


@dataclass(frozen=True)
class Start:
    """A run begins or continues."""

    folder: Path
    config: RunConfig
    batches: BatchPlan
    learning_rate: float
    """Learning rate of the first update, worked out from the global batch."""
    updates: int | None
    """Updates at most; None under a budget of energy or time."""
    done: int
    """Updates done before."""
    initial: InitialModel | None = None
    """The model that the run starts from."""
    share: float = 0.0
    """Share of the run that was done before, 0 to 1."""


@dataclass(frozen=True)
class Step:
    """An update is done."""

    epoch: int
    """Epoch it belongs to, from 1."""
    update: int
    """Updates done, this one included."""
    loss: float
    """Mean of the epoch so far; NaN before the first batch is known."""
    learning_rate: float
    examples_per_s: float
    """Over all devices, since the epoch or this attempt began."""
    waiting: float
    """Share of that time in which this process waited for examples, 0 to 1."""
    kwh: float | None
    """Energy of all attempts so far, without PUE; None where it is not measured."""
    share: float = 0.0
    """Share of the run that is done, 0 to 1."""


@dataclass(frozen=True)
class Validated:
    """The songs of the validation have been separated."""

    epoch: int
    """Epochs trained."""
    loss: float | None
    """Training loss, the mean of the last epoch; None before the first."""
    validation: Validation
    best: bool
    """Whether it is the best so far."""
    others: int = 0
    """Other weights that were validated and have a lower score."""


@dataclass(frozen=True)
class Skipped:
    """Examples are left out because a song is missing or broken; reported once for each reason."""

    problem: str


@dataclass(frozen=True)
class Note:
    """A note for the user."""

    text: str


Event: TypeAlias = Start | Step | Validated | Skipped | Note
Reporter: TypeAlias = Callable[[Event], None]
"""Called with each event of a run, only in the first process."""


def report_to(*reporters: Reporter) -> Reporter:
    """Return a reporter that passes each event to all of these, in their order; without any it shows nothing."""

    def report(event: Event) -> None:
        for reporter in reporters:
            reporter(event)

    return report

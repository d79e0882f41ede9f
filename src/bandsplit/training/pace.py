"""Pace of a run: the share of its schedule that is done, by its updates or by what it has spent of a budget."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from lightning_fabric import Fabric

from bandsplit.core.errors import ConfigError, RunError
from bandsplit.core.unfinished import temporary_folder
from bandsplit.data.songs.tracks import Track
from bandsplit.runs.budgets import Budget
from bandsplit.runs.config import RunConfig
from bandsplit.runs.energy.card import JOULES_PER_KWH
from bandsplit.runs.energy.interface import MakeMeter, Meter, Place
from bandsplit.runs.folder import TrainingPosition
from bandsplit.training.execution import BatchPlan
from bandsplit.training.interrupt import AGREE_EVERY
from bandsplit.training.learner import Learner
from bandsplit.training.optimisation import decayed, first_learning_rate
from bandsplit.training.plan import validation_s

TRIAL_S = 1.0
"""Seconds of steps that are measured before a run with a budget of energy or time begins."""


class Pace:
    """The length of a run, and its place in the schedule of the learning rate.

    The schedule takes ``max_epochs``. A budget stretches it: the share of the schedule that is done is the share of the
    budget that is spent. A budget in counted operations is a number of updates, known before the run begins; energy and
    time are measured.
    """

    def __init__(self, config: RunConfig, batches: BatchPlan, fabric: Fabric) -> None:
        """Work out the length.

        Raises:
            ConfigError: a budget in counted operations does not pay for an update.
        """
        self.training, self.global_batch, self.fabric = config.training, batches.global_batch, fabric
        self.first_rate = first_learning_rate(self.training, self.global_batch)
        self.updates_per_epoch = self.training.examples_per_epoch // self.global_batch
        self.planned = self.updates_per_epoch * self.training.max_epochs
        """Updates of the schedule."""
        budget, paid = self.training.budget, config.paid_updates(self.global_batch)
        self.updates = self.planned if budget is None else paid
        """Updates of the run; None where they depend on a measurement."""
        self.measured = budget if budget is not None and paid is None else None
        """The budget, if it is one of energy or time."""
        self.purse: Purse | None = None
        """What was spent of it, in the first process."""

    def updates_done(self, position: TrainingPosition) -> int:
        """Return the updates of all epochs."""
        return position.epoch * self.updates_per_epoch + position.examples // self.global_batch

    def share(self, position: TrainingPosition) -> float:
        """Return the share of the run that is done, 0 to 1."""
        if self.measured is not None:
            return min(1.0, position.spent / self.measured.share)
        assert self.updates is not None
        return min(1.0, self.updates_done(position) / self.updates)

    def is_over(self, position: TrainingPosition) -> bool:
        """Return whether all epochs are done, or the budget is spent."""
        return self.share(position) >= 1

    def epochs(self, position: TrainingPosition) -> float:
        """Return the epochs of the schedule that are done."""
        return self._place(position, 0) / self.updates_per_epoch

    def rate(self, position: TrainingPosition, before: int = 0) -> float:
        """Return the learning rate of the next update, or of the one ``before`` some updates."""
        return self.first_rate * decayed(
            self.training, self._place(position, before), self.updates_per_epoch, position.decays
        )

    def _place(self, position: TrainingPosition, before: int) -> float:
        """Return the updates of the schedule that are done."""
        if self.measured is not None:
            return self.planned * self.share(position)
        done = self.updates_done(position) - before
        return done if self.updates == self.planned else min(self.planned, self.planned * done / (self.updates or 1))

    def begin(self, position: TrainingPosition, wall_before_s: float, meter: Meter | None) -> None:
        """Begin to measure, if the budget is one of energy or time; see `Purse`."""
        if self.measured is not None and self.fabric.is_global_zero:
            self.purse = Purse(self.measured, position.spent, wall_before_s, meter)

    def spend(self, position: TrainingPosition, *, now: bool = False) -> None:
        """Measure what is spent; several processes agree on it now, or every `AGREE_EVERY` updates.

        Raises:
            RunError: the meter has failed.
        """
        agrees = now or self.fabric.world_size == 1 or self.updates_done(position) % AGREE_EVERY == 0
        if self.measured is not None and agrees:
            position.spent = self.fabric.broadcast(self.purse.spent() if self.purse else 0.0)


class Purse:
    """What all attempts at a run have spent of a budget of energy or time; the first process keeps it."""

    def __init__(self, budget: Budget, earlier: float, wall_before_s: float, meter: Meter | None) -> None:
        """Start the clock.

        Args:
            budget: the budget.
            earlier: what the state of the run says; it counts where the log or the energy cards know of less.
            wall_before_s: time of earlier attempts, as the log has it.
            meter: the meter of this attempt, which knows the energy of earlier ones.
        """
        self.budget, self.meter = budget, meter
        self.began = time.monotonic() - wall_before_s
        self.unknown = max(0.0, earlier - self._reading())

    def spent(self) -> float:
        """Return seconds or kWh.

        Raises:
            RunError: the meter has failed.
        """
        return self.unknown + self._reading()

    def _reading(self) -> float:
        if self.budget.kind == "time":
            return time.monotonic() - self.began
        assert self.meter is not None
        problem = self.meter.problem()
        if problem is not None:
            raise RunError(f"budget {self.budget}: no energy is measured any more ({problem}); --resume tries again")
        return self.meter.kwh()


def check_measured_budget(learner: Learner, songs: Sequence[Track], make_meter: MakeMeter | None) -> None:
    """Estimate from some steps whether a budget of energy or time pays for an update and a validation.

    Raises:
        ConfigError: it does not, or the energy cannot be measured.
    """
    budget = learner.training.budget
    assert budget is not None
    by_energy = budget.kind == "energy"
    instead = "or give a budget in flop or time"
    if by_energy and make_meter is None:
        raise ConfigError(f"budget {budget}: energy is not measured; leave out --no-energy, {instead}")
    with temporary_folder() as folder:
        meter = (
            make_meter(Path(folder), 1, Place.of(learner.fabric.device))
            if by_energy and make_meter is not None
            else None
        )
        if meter is not None:
            meter.start()
        learner.try_step()  # the first one takes longer
        began, before_kwh = time.monotonic(), meter.kwh() if meter else 0.0
        steps, trial_s = 0, 0.0
        while trial_s < TRIAL_S:
            learner.try_step()
            steps, trial_s = steps + 1, time.monotonic() - began
        batches = learner.batches
        least = batches.accumulate * trial_s / steps + validation_s(learner, songs, batches.devices)
        if meter is not None:
            meter.stop("tried")
            problem = meter.problem()
            if problem is not None:
                raise ConfigError(f"budget {budget}: energy cannot be measured here ({problem}); {instead}")
            watts = (meter.kwh() - before_kwh) * JOULES_PER_KWH / (time.monotonic() - began)
            least *= watts * batches.devices / JOULES_PER_KWH
    if budget.share < least:
        what = f"an update of {learner.config.recipe} and a validation, by a trial on this machine"
        raise budget.too_small(what, least)

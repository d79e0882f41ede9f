"""Predicted cost of the trainings of a system: on a named GPU from counted operations, or from measured steps."""

from __future__ import annotations

from dataclasses import dataclass

from bandsplit.core.errors import ConfigError
from bandsplit.runs.config import RunConfig
from bandsplit.runs.energy.facts import GpuPeak
from bandsplit.studies.costs.counts import training_flop
from bandsplit.studies.costs.rows import TrainingCost
from bandsplit.studies.costs.systems import CostedSystem
from bandsplit.studies.runner.costs import CostSpan

UTILISATION = 0.35
"""Share of the peak rate that trainings reach, unless the user states another."""


@dataclass(frozen=True)
class Assumption:
    """A GPU, and the share of its peak rate that trainings reach."""

    gpu: GpuPeak
    utilisation: float

    def __post_init__(self) -> None:
        """Check the share.

        Raises:
            ConfigError: it is not above 0 and at most 1.
        """
        if not 0 < self.utilisation <= 1:
            raise ConfigError(
                f"utilisation: {self.utilisation:g} must be above 0 and at most 1, for example {UTILISATION:g}"
            )

    def __str__(self) -> str:
        """Name both."""
        return f"{self.gpu.name} at {100 * self.utilisation:g} % of its peak rate"

    def hours(self, run: RunConfig) -> float:
        """Return the hours of a training to its last epoch, at the rate of its precision."""
        rate = self.gpu.tflops(run.training.precision) * 1e12 * self.utilisation
        return training_flop(run) / rate / 3600


def estimate_training(system: CostedSystem, assumed: Assumption) -> TrainingCost:
    """Estimate hours and energy of all trainings of a recipe, to their last epoch.

    The energy is that of the GPU at its rated power, without the rest of the machine and without PUE.
    """
    hours = sum(map(assumed.hours, system.runs))
    kwh = hours * assumed.gpu.watts / 1000
    return TrainingCost(
        system=system.name, source=system.trainings, how="counted", machine=str(assumed),
        hours=(hours, hours), kwh=(kwh, kwh),
    )  # fmt: skip


def training_of_steps(system: CostedSystem, one: CostSpan, machine: str) -> TrainingCost:
    """Predict all trainings of a recipe from the measured steps of the first one; the others take as long."""
    count = len(system.runs)
    hours, kwh = one.hours, one.kwh
    return TrainingCost(
        system=system.name, source=system.trainings, how="steps", machine=machine,
        hours=(count * hours.low, count * hours.high),
        kwh=None if kwh is None else (count * kwh.low, count * kwh.high),
    )  # fmt: skip

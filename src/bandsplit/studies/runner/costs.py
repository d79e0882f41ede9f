"""Costs of the runs of a study, before any starts: as published, and as measured on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from bandsplit.core.targets import TARGETS
from bandsplit.evaluation.groups import group
from bandsplit.models.tensors import count_parameters
from bandsplit.published.paper import table2
from bandsplit.studies.costs.counts import training_flop
from bandsplit.studies.plans import PlannedRun
from bandsplit.studies.runner.folder import StudyRun

if TYPE_CHECKING:
    from bandsplit.training.plan import RunForecast

PUBLISHED_PUE = 1.5
SMALL_GPU_W, LARGE_GPU_W = 250.0, 350.0
"""Rated power of an RTX 2080 Ti and an L40S, which trained small and large models (paper, section IV-D2)."""
LARGE_PARAMETERS = 30_000_000
"""The paper's largest small model has 27 million, its smallest large one 37."""

GPU_HOURS = (
    "an estimate, since no hours are published: as if GPUs alone had drawn the published energy at their rated power "
    f"({SMALL_GPU_W:.0f} W for small models on RTX 2080 Ti, {LARGE_GPU_W:.0f} W for large ones on L40S)"
)
PUBLISHED = "the paper's Table II, for all four targets and with a PUE of 1.5, divided by the targets"


class Span(NamedTuple):
    """From the least (patience runs out at once) to the most (all epochs)."""

    low: float
    high: float


class CostSpan(NamedTuple):
    """The cost of one run on this machine."""

    hours: Span
    kwh: Span | None
    """Without PUE; None without a meter."""
    updates: float = 0.0
    """Updates at most."""


class CostSum(NamedTuple):
    """A sum over runs, some of which may have no figure."""

    runs: int
    low: float
    high: float
    unknown: int
    """Runs without a figure, which the sum leaves out."""


@dataclass(frozen=True)
class RecipeCost:
    """The runs of one recipe."""

    recipe: str
    runs: tuple[StudyRun, ...]
    measured: CostSpan | str | None
    """Cost of one run; a text: why it could not be measured; None: it was not tried."""

    @property
    def updates(self) -> float | None:
        """Updates of one run at most; None if they depend on a measurement that was not made."""
        config = self.runs[0].config
        training, paid = config.training, config.paid_updates(config.training.update_examples)
        if training.budget is None:
            return training.examples_per_epoch // training.update_examples * training.max_epochs
        if paid is not None:
            return paid
        return self.measured.updates if isinstance(self.measured, CostSpan) else None

    @property
    def left(self) -> tuple[StudyRun, ...]:
        """Runs that are not finished; a running one counts in full."""
        return tuple(run for run in self.runs if not run.finished)

    @property
    def gpu_hours(self) -> CostSum:
        """GPU-hours of all runs, estimated from the published energy."""
        return sum_gpu_hours(run.planned for run in self.runs)

    @property
    def published_kwh(self) -> CostSum:
        """Energy of all runs as published."""
        return sum_published(run.planned for run in self.runs)


def published_kwh(run: PlannedRun) -> float | None:
    """Return the published energy of a run: its targets' share of the row of Table II; None if it is in no row."""
    row = table2().get(run.recipe)
    return None if row is None else row.energy_kwh * len(run.targets) / len(TARGETS)


def counted_flop(runs: Iterable[PlannedRun]) -> float | None:
    """Count the operations of runs: of their matrix products, forward and backward, over all epochs or their budgets.

    None if the length of one depends on a measurement.
    """
    total = 0.0
    for config in (run.config for run in runs):
        if config.training.budget is not None and config.training.budget.kind != "flop":
            return None
        total += training_flop(config)
    return total


def estimated_gpu_hours(run: PlannedRun) -> float | None:
    """Estimate the GPU-hours of a run from its published energy, see `GPU_HOURS`; None if it is in no row."""
    kwh = published_kwh(run)
    if kwh is None:
        return None
    large = count_parameters(run.config.model) >= LARGE_PARAMETERS
    return kwh / PUBLISHED_PUE * 1000 / (LARGE_GPU_W if large else SMALL_GPU_W)


def sum_gpu_hours(runs: Iterable[PlannedRun]) -> CostSum:
    """Add the estimated GPU-hours of runs."""
    return _sum([None if (hours := estimated_gpu_hours(run)) is None else Span(hours, hours) for run in runs])


def sum_published(runs: Iterable[PlannedRun]) -> CostSum:
    """Add the published energy of runs."""
    return _sum([None if (kwh := published_kwh(run)) is None else Span(kwh, kwh) for run in runs])


def sum_hours(costs: Sequence[RecipeCost], *, left: bool) -> CostSum:
    """Add the measured hours, of all runs or of those not finished."""
    return _sum(
        [one.hours if isinstance(one := cost.measured, CostSpan) else None for cost, _ in _each_run(costs, left)]
    )


def sum_kwh(costs: Sequence[RecipeCost], *, left: bool) -> CostSum:
    """Add the measured energy, of all runs or of those not finished."""
    return _sum([one.kwh if isinstance(one := cost.measured, CostSpan) else None for cost, _ in _each_run(costs, left)])


def cost_study(runs: Sequence[StudyRun], measured: Mapping[str, CostSpan | str] | None = None) -> list[RecipeCost]:
    """Group runs by recipe, in their order, with the measured cost of each recipe."""
    groups = group(runs, lambda run: run.planned.recipe)
    return [RecipeCost(recipe, tuple(some), (measured or {}).get(recipe)) for recipe, some in groups.items()]


def span_of(plan: RunForecast) -> CostSpan:
    """Return the span of a measured plan."""
    fewest, most = plan.epochs
    kwh = (plan.kwh(fewest), plan.kwh(most))
    return CostSpan(
        Span(plan.hours(fewest).low, plan.hours(most).high),
        Span(kwh[0].low, kwh[1].high) if kwh[0] is not None and kwh[1] is not None else None,
        plan.updates,
    )


def _each_run(costs: Sequence[RecipeCost], left: bool) -> Iterable[tuple[RecipeCost, StudyRun]]:
    return ((cost, run) for cost in costs for run in (cost.left if left else cost.runs))


def _sum(spans: Sequence[Span | None]) -> CostSum:
    known = [span for span in spans if span is not None]
    return CostSum(
        len(spans), sum(span.low for span in known), sum(span.high for span in known), len(spans) - len(known)
    )

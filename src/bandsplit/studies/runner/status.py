"""Progress of a study: the hours that remain, and the energy of all its attempts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bandsplit.core.errors import RunError
from bandsplit.runs.energy.report import find_runs, make_report
from bandsplit.studies.runner.folder import StudyFolder, StudyRun


class Left(NamedTuple):
    """Estimated time of the unfinished runs, from those that are finished."""

    runs: int
    hours: float
    """Hours of all runs one after the other, less the hours that unfinished ones already took."""
    guessed: int
    """Runs of recipes without a finished run: they count with the mean of all finished runs."""
    unknown: int
    """Runs without a figure, since no run is finished."""


@dataclass(frozen=True)
class Account:
    """Energy of every attempt of every run below the folder, without PUE."""

    kwh: float
    finished_kwh: float
    """Energy of finished runs, with their interrupted attempts."""
    unfinished_kwh: float
    """Energy of failed, interrupted and running ones."""
    attempts: int
    without_card: int
    """Runs that were not measured, or whose card cannot be read; the sums leave them out."""


def estimate_left(runs: Sequence[StudyRun]) -> Left:
    """Estimate the remaining hours."""
    took: dict[str, list[float]] = {}
    for run in runs:
        if run.finished and run.record is not None and run.record.hours is not None:
            took.setdefault(run.planned.recipe, []).append(run.record.hours)
    everything = [hours for some in took.values() for hours in some]
    todo = [run for run in runs if not run.finished]
    total, guessed = 0.0, 0
    for run in todo if everything else []:
        own = took.get(run.planned.recipe)
        guessed += own is None
        spent = run.record.hours or 0.0 if run.record is not None else 0.0
        total += max(0.0, statistics.fmean(own or everything) - spent)
    return Left(len(todo), total, guessed, 0 if everything else len(todo))


def account_energy(folder: StudyFolder) -> Account | None:
    """Sum the energy of all attempts, including failed and interrupted runs; None before the first run."""
    try:
        found = find_runs([folder.runs])
    except RunError:  # there is no run
        return None
    report = make_report(found)
    finished = {str(run.record.folder) for run in found if run.record.finished}
    kwh = {True: 0.0, False: 0.0}
    for line in report.runs:
        kwh[line.folder in finished] += line.kwh
    attempts = sum(line.attempts for line in report.runs)
    return Account(report.total.kwh, kwh[True], kwh[False], attempts, len(report.without_card))

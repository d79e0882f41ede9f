"""How far a study is, what is left of it, and the energy of all its attempts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bandsplit.core.errors import RunError
from bandsplit.runs.energy.report import find_runs, make_report
from bandsplit.runs.records import read_run
from bandsplit.studies.runner.folder import StudyFolder, StudyRun


class Left(NamedTuple):
    """What the unfinished runs will take, from those that are finished."""

    runs: int
    hours: float
    """Of all runs one after the other; less what unfinished ones took already."""
    guessed: int
    """Runs of recipes that none was finished of: they count with the mean of all finished runs."""
    unknown: int
    """Runs without a figure, since no run is finished."""


@dataclass(frozen=True)
class Account:
    """Energy of every attempt of every run below the folder, without PUE."""

    kwh: float
    finished_kwh: float
    """Of finished runs, with their interrupted attempts."""
    unfinished_kwh: float
    """Of failed, interrupted and running ones."""
    attempts: int
    without_card: int
    """Runs that did not measure, or whose card cannot be read; they are not in the sums."""


def estimate_left(runs: Sequence[StudyRun]) -> Left:
    """Estimate the hours that are left."""
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
    """Sum the energy of all attempts, those of runs that failed or were interrupted too; none before the first run."""
    try:
        report = make_report(find_runs([folder.runs]))
    except RunError:  # there is no run
        return None
    kwh = {True: 0.0, False: 0.0}
    for line in report["runs"]:
        kwh[read_run(Path(line["folder"])).finished] += line["kwh"]
    return Account(
        report["total"]["kwh"],
        kwh[True],
        kwh[False],
        sum(line["attempts"] for line in report["runs"]),
        len(report["without_card"]),
    )

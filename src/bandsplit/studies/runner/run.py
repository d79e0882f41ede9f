"""Run a study: train the planned runs, then score their models."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from bandsplit.models.pretrained.entries import Entry
from bandsplit.models.pretrained.registry import cached_files
from bandsplit.studies.plans import PlannedRun, Study
from bandsplit.studies.runner.fetching import fetch_models
from bandsplit.studies.runner.folder import StudyFolder
from bandsplit.studies.runner.processes import Processes, last_lines
from bandsplit.studies.runner.scoring import (
    Scoring,
    Songs,
    find_systems,
    is_scored,
    made_of_scores,
    plan_public,
    plan_scoring,
    plan_yardsticks,
    score,
)
from bandsplit.studies.runner.training import Outcome, Report, check_data, train_runs

COMMAND = (sys.executable, "-m", "bandsplit")
"""Command that runs this package in its own process."""


@dataclass
class StudyResult:
    """Result of one call of `run_study`."""

    trained: Outcome = field(default_factory=Outcome)
    fetched: Outcome = field(default_factory=Outcome)
    """Public weights that were not in the cache."""
    scored: Outcome = field(default_factory=Outcome)
    unscored: dict[str, list[str]] = field(default_factory=dict)
    """Systems that wait for runs -> these runs."""

    @property
    def exit_code(self) -> int:
        """1: something failed; 3: something was stopped or left, the same command continues it; 0: all is done."""
        outcomes = (self.trained, self.fetched, self.scored)
        if any(one.failed for one in outcomes):
            return 1
        return 3 if any(one.stopped for one in outcomes) else 0


def run_study(
    study: Study,
    planned: Sequence[PlannedRun],
    folder: StudyFolder,
    sets: Sequence[Songs],
    report: Report,
    *,
    jobs: int = 1,
    device: str = "auto",
    options: Sequence[str] = (),
    evaluate: bool = True,
    command: Sequence[str] = (),
    public: Sequence[str] = (),
    allowed: Collection[str] = (),
) -> StudyResult:
    """Score public weights, train the runs that are not finished, and score those that are; call it again to continue.

    Args:
        study: the study.
        planned: the runs to finish.
        folder: where all files are written.
        sets: the data sets: the first for training and scoring, the others for scoring only.
        report: called with what happens, line by line.
        jobs: processes at once.
        device: for training and scoring, as ``--device``.
        options: further options of ``bandsplit train``.
        evaluate: whether to score.
        command: command that runs ``bandsplit``; by default this Python with this package.
        public: registered names of public weights to score.
        allowed: those that may be downloaded.

    Raises:
        DataError: an existing run was trained on other songs.
    """
    check_data(folder.look(planned), sets[0].dataset)
    processes = Processes(command or COMMAND, jobs)
    options = (*sets[0].options, "--device", device, *options)
    result = StudyResult()
    with processes.watching():
        if evaluate and public:
            plan = plan_public(folder, study, public, sets)
            result.fetched = fetch_models(folder, missing_models(folder, plan), allowed, processes, report)
            absent = {*result.fetched.failed, *result.fetched.stopped}
            plan = [one for one in plan if one.public is None or one.public.name not in absent]
            result.scored.add(score(folder, plan, device, processes, report))
        result.trained = train_runs(folder, planned, options, processes, report)
        if evaluate and not processes.stopping:
            systems, result.unscored = find_systems(folder, study, planned)
            if systems or public:
                plan = [*plan_yardsticks(folder, study, sets), *plan_scoring(folder, study, systems, sets)]
                result.scored.add(score(folder, plan, device, processes, report))
    return result


def missing_models(folder: StudyFolder, plan: Sequence[Scoring]) -> list[Entry]:
    """List the public weights that are not in the cache and have scorings to be done, each once."""
    scored = made_of_scores(folder)
    needed = {one.public.name: one.public for one in plan if one.public is not None and not is_scored(one, scored)}
    return [entry for entry in needed.values() if not cached_files(entry)]


def report_failures(result: StudyResult) -> list[str]:
    """List all that failed, with the file and the last lines of the output."""
    lines = []
    for name, log in (result.trained.failed | result.fetched.failed | result.scored.failed).items():
        lines += [f"FAILED: {name}, output in {log}", *(f"    {line}" for line in last_lines(log))]
    return lines

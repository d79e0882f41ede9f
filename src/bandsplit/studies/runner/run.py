"""Run a study: train the planned runs, then score their models."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from bandsplit.studies.plans import PlannedRun, Study
from bandsplit.studies.runner.folder import StudyFolder
from bandsplit.studies.runner.processes import Processes, last_lines
from bandsplit.studies.runner.scoring import Songs, find_systems, plan_scoring, score
from bandsplit.studies.runner.training import Outcome, Report, check_data, train_runs

COMMAND = (sys.executable, "-m", "bandsplit")
"""Command that runs this package in its own process."""


@dataclass
class StudyResult:
    """Result of one call of `run_study`."""

    trained: Outcome
    scored: Outcome = field(default_factory=Outcome)
    unscored: dict[str, list[str]] = field(default_factory=dict)
    """Systems that wait for runs -> these runs."""

    @property
    def exit_code(self) -> int:
        """1: something failed; 3: something was stopped or left, the same command continues it; 0: all is done."""
        if self.trained.failed or self.scored.failed:
            return 1
        return 3 if self.trained.stopped or self.scored.stopped else 0


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
) -> StudyResult:
    """Train the runs that are not finished, and score those that are; call it again to continue.

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

    Raises:
        DataError: an existing run was trained on other songs.
    """
    check_data(folder.look(planned), sets[0].dataset)
    processes = Processes(command or COMMAND, jobs)
    options = (*sets[0].options, "--device", device, *options)
    with processes.watching():
        result = StudyResult(train_runs(folder, planned, options, processes, report))
        if evaluate and not processes.stopping:
            systems, result.unscored = find_systems(folder, study, planned)
            if systems:
                result.scored = score(folder, plan_scoring(folder, study, systems, sets), device, processes, report)
    return result


def report_failures(result: StudyResult) -> list[str]:
    """List all that failed, with the file and the last lines of the output."""
    lines = []
    for name, log in (result.trained.failed | result.scored.failed).items():
        lines += [f"FAILED: {name}, output in {log}", *(f"    {line}" for line in last_lines(log))]
    return lines

"""Run a study: train what is planned, then score what was trained."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from bandsplit.studies.plans import PlannedRun, Study
from bandsplit.studies.runner.folder import StudyFolder
from bandsplit.studies.runner.processes import Processes, last_lines
from bandsplit.studies.runner.scoring import Songs, find_systems, plan_scoring, score
from bandsplit.studies.runner.training import Outcome, Tell, check_data, train_runs

COMMAND = (sys.executable, "-m", "bandsplit")
"""What runs this package as a process of its own."""


@dataclass
class StudyResult:
    """What became of a study in one go."""

    trained: Outcome
    scored: Outcome = field(default_factory=Outcome)
    unscored: dict[str, list[str]] = field(default_factory=dict)
    """Systems that wait for runs, and these."""

    @property
    def exit_code(self) -> int:
        """1: something failed; 3: something was stopped or left, the same command goes on; 0: all is done."""
        if self.trained.failed or self.scored.failed:
            return 1
        return 3 if self.trained.stopped or self.scored.stopped else 0


def run_study(
    study: Study,
    planned: Sequence[PlannedRun],
    folder: StudyFolder,
    sets: Sequence[Songs],
    tell: Tell,
    *,
    jobs: int = 1,
    device: str = "auto",
    options: Sequence[str] = (),
    evaluate: bool = True,
    command: Sequence[str] = (),
) -> StudyResult:
    """Train the runs that are not finished, and score those that are; call it again to go on.

    Args:
        study: the study.
        planned: its runs that are wanted.
        folder: where all goes.
        sets: the songs, those that are trained on first; the others are scored only.
        tell: is told what happens, line by line.
        jobs: processes at once.
        device: for training and scoring, as ``--device``.
        options: further options of ``bandsplit train``.
        evaluate: whether to score.
        command: what runs ``bandsplit``; by default this Python, with this package.

    Raises:
        DataError: a run that is there was trained on other songs.
    """
    check_data(folder.look(planned), sets[0].dataset)
    processes = Processes(command or COMMAND, jobs)
    options = (*sets[0].options, "--device", device, *options)
    with processes.watching():
        result = StudyResult(train_runs(folder, planned, options, processes, tell))
        if evaluate and not processes.stopping:
            systems, result.unscored = find_systems(folder, study, planned)
            if systems:
                result.scored = score(folder, plan_scoring(folder, study, systems, sets), device, processes, tell)
    return result


def report_failures(result: StudyResult) -> list[str]:
    """Say of everything that failed where its output is, and how that ends."""
    lines = []
    for name, log in (result.trained.failed | result.scored.failed).items():
        lines += [f"FAILED: {name}, output in {log}", *(f"    {line}" for line in last_lines(log))]
    return lines

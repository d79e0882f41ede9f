"""Train the runs of a study, each in its own process, whose failure does not affect the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bandsplit.core.errors import DataError
from bandsplit.data.songs.tracks import Dataset
from bandsplit.studies.plans import PlannedRun
from bandsplit.studies.runner.folder import StudyFolder, StudyRun
from bandsplit.studies.runner.processes import Ended, Job, Processes, last_lines
from bandsplit.training.cluster import train_arguments

STOPPED = 3
"""Exit code of ``bandsplit train`` when it was stopped and can be resumed."""
LOOK_EVERY_S = 1.0
"""Seconds between checks of runs that other processes train."""

Report = Callable[[str], None]


@dataclass
class Outcome:
    """Outcome of one call for the runs of a study, by name."""

    finished: list[str] = field(default_factory=list)
    """Runs that finished now or earlier."""
    stopped: list[str] = field(default_factory=list)
    """Runs that were stopped, or not begun because the study was stopped."""
    failed: dict[str, Path] = field(default_factory=dict)
    """Failed runs, with the file of their output."""

    def add(self, other: Outcome) -> None:
        """Add the outcome of further work."""
        self.finished += other.finished
        self.stopped += other.stopped
        self.failed |= other.failed


def check_data(runs: Sequence[StudyRun], dataset: Dataset) -> None:
    """Check that existing runs were trained on these songs.

    Raises:
        DataError: a run was not; results on different songs cannot be compared.
    """
    for run in runs:
        there = run.record.fingerprints if run.record is not None else {}
        for split in ("train", "valid"):
            if split in there and there[split] != dataset.fingerprints.get(split):
                raise DataError(
                    f"{run.folder}: was trained on {run.record and run.record.data} ({split}: {there[split]}), "
                    f"{dataset.root} is other data ({split}: {dataset.fingerprints.get(split)}); give the same --data "
                    f"as before, or choose another --folder"
                )


def check_budget(planned: Sequence[PlannedRun]) -> None:
    """Check that a budget in counted operations pays for an update of each run; others are checked as runs begin.

    Raises:
        ConfigError: it does not; the message names the smallest that does.
    """
    missing: dict[str, float] = {}
    for run in planned:
        budget, config = run.budget, run.config
        if budget is not None and budget.kind == "flop":
            flop = config.update_flop(config.training.update_examples)
            if budget.share < flop:
                missing[run.recipe] = max(flop * budget.models, missing.get(run.recipe, 0.0))
    if missing and planned[0].budget is not None:
        system = planned[0].budget.model_copy(update={"models": 1})
        raise system.too_small(f"an update of {', '.join(missing)}", max(missing.values()))


def run_arguments(run: PlannedRun, folder: StudyFolder, options: Sequence[str]) -> tuple[str, ...]:
    """Return the command line of a run, without ``bandsplit``: it starts the run or continues it."""
    price = ("--budget", str(run.budget)) if run.budget else ()
    where = ("--seed", str(run.seed), *price, "--runs", str(folder.runs), "--resume")
    return train_arguments(run.recipe, run.targets, (*where, *options))


def train_runs(
    folder: StudyFolder, planned: Sequence[PlannedRun], options: Sequence[str], processes: Processes, report: Report
) -> Outcome:
    """Train the unfinished runs, in order; stopped runs continue where they were.

    Wait for a run that another process trains: if that ends unfinished, the run continues here.

    Args:
        folder: the study's.
        planned: the runs.
        options: further options of ``bandsplit train``.
        processes: where they run; its signals must be watched.
        report: called with what happens, line by line.
    """
    outcome = Outcome()
    waiting, elsewhere = list(planned), set[PlannedRun]()
    under_way: dict[str, StudyRun] = {}
    # Wall-clock time, as in the events of other processes; the time of the next look uses a clock that never jumps.
    began, look_at = time.time(), 0.0
    while waiting or under_way:
        if processes.stopping:
            outcome.stopped += [run.name for run in folder.look(waiting) if not run.finished]
            waiting = []
        # The folder is read again at each look: other processes may have taken or finished runs in the meantime.
        if processes.free and time.monotonic() > look_at:
            for run in folder.look(waiting):
                if run.planned in elsewhere and not run.running and _ended_since(run, began, outcome):
                    waiting.remove(run.planned)
                elif run.finished:
                    outcome.finished.append(run.name)
                    waiting.remove(run.planned)
                elif processes.free and _start(run, folder, options, processes):
                    under_way[run.name] = run
                    waiting.remove(run.planned)
                    report(f"{run.name}: {'continues' if run.record else 'started'}")
                elif processes.free and run.planned not in elsewhere:
                    elsewhere.add(run.planned)
                    report(f"{run.name}: another process is training it; waiting")
            look_at = time.monotonic() + LOOK_EVERY_S
        for ended in processes.ended():
            _note_end(under_way.pop(ended.job.name), ended, folder, processes.stopping, outcome, report)
            look_at = 0.0  # a place is free now
    return outcome


def _ended_since(run: StudyRun, began: float, outcome: Outcome) -> bool:
    """Record a run that another process gave up in the meantime; it is not tried again at once."""
    event = run.event
    if run.finished or event is None or event["unix_time_s"] < began or event["event"] not in ("failed", "stopped"):
        return False
    if event["event"] == "failed":
        outcome.failed[run.name] = Path(event["log"])
    else:
        outcome.stopped.append(run.name)
    return True


def _start(run: StudyRun, folder: StudyFolder, options: Sequence[str], processes: Processes) -> bool:
    """Start a run, unless another process has it: the run's own lock is taken only when training begins."""
    name = run.name.replace(" ", "-")
    job = Job(run.name, run_arguments(run.planned, folder, options), folder.logs / f"{name}.log")
    if run.running or not processes.start_alone(job, folder.locks / f"{name}.lock"):
        return False
    folder.append("started", run=run.name, command=[*processes.command, *job.arguments], log=str(job.log))
    return True


def _note_end(
    run: StudyRun, ended: Ended, folder: StudyFolder, stopping: bool, outcome: Outcome, report: Report
) -> None:
    (now,) = folder.look([run.planned])
    facts = {"run": run.name, "code": ended.code, "seconds": round(ended.seconds, 3)}
    if ended.code == 0 and now.finished:
        folder.append("finished", **facts)
        outcome.finished.append(run.name)
        best = now.record and now.record.best
        report(f"{run.name}: finished, best {best.validation_usdr_db:.2f} dB @{best.epoch}" if best else run.name)
    elif ended.code == STOPPED or stopping:
        folder.append("stopped", **facts)
        outcome.stopped.append(run.name)
        report(f"{run.name}: stopped, can be resumed")
    else:
        lines = last_lines(ended.job.log, 1)
        reason = f"killed by signal {-ended.code}" if ended.code < 0 else lines[0] if lines else "no output"
        folder.append("failed", **facts, reason=reason, log=str(ended.job.log))
        outcome.failed[run.name] = ended.job.log
        report(f"{run.name}: FAILED (exit code {ended.code}): {reason}")

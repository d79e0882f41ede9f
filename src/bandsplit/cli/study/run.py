"""Parts of ``study plan`` and ``study run``: measurements, options for ``train``, jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from bandsplit.cli.options import JobOptions, Launcher, option_name
from bandsplit.cli.terminal import print_lines
from bandsplit.cli.training_options import AttemptOptions, EnergyOptions, ExecutionOptions
from bandsplit.core.errors import BandsplitError, ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from bandsplit.data.songs.tracks import Dataset
    from bandsplit.studies.plans import PlannedRun
    from bandsplit.studies.runner.costs import CostSpan
    from bandsplit.studies.runner.folder import StudyFolder, StudyRun
    from bandsplit.training.execution import Execution

PASSED = {
    option_name(field): field.default is not False
    for group in (ExecutionOptions, AttemptOptions, EnergyOptions)
    for field in fields(group)
}
"""Options of ``train`` that every run of a study may get, and whether they take a value."""


def check_train_options(options: Sequence[str]) -> None:
    """Check the options after ``--`` before any run starts.

    Raises:
        ConfigError: one is not an option of ``train``, or the study sets it itself.
    """
    rest = iter(options)
    for text in rest:
        option, equals, _ = text.partition("=")
        if option == "--set":
            raise ConfigError(
                "--set: a run with settings changed by hand is not part of a study; use `bandsplit train`"
            )
        if option not in PASSED:
            raise ConfigError(
                f"{text}: cannot be passed on to the runs; legal after the --: {', '.join(PASSED)}. Options that "
                f"choose runs, songs, device and jobs go before it"
            )
        if not PASSED[option] and equals:
            raise ConfigError(f"{text}: {option} takes no value")
        if PASSED[option] and not equals and next(rest, None) is None:
            raise ConfigError(f"{option}: needs a value")


def measure_run(run: PlannedRun, dataset: Dataset, execution: Execution) -> CostSpan | str:
    """Measure the cost of a run on this machine; return the reason, as text, if it cannot be measured."""
    import torch

    from bandsplit.runs.energy.meter import meters
    from bandsplit.studies.runner.costs import span_of
    from bandsplit.training.plan import plan_run

    config = run.config
    torch.manual_seed(config.seed)
    try:
        return span_of(plan_run(config, dataset, execution, meters()))
    except BandsplitError as error:
        return str(error)


def submit_runs(
    console: Console,
    runs: Sequence[StudyRun],
    folder: StudyFolder,
    options: Sequence[str],
    *,
    again: bool,
    launcher: Launcher,
    jobs: JobOptions,
) -> None:
    """Submit a job for each run that is not finished, running, or submitted before."""
    from bandsplit.studies.runner.training import run_arguments

    todo = []
    for run in runs:
        job = run.event["job"] if run.event is not None and run.event["event"] == "submitted" else None
        if run.running:
            print_lines(console, f"{run.name}: is running, not submitted")
        elif job is not None and not run.finished and not again:
            print_lines(console, f"{run.name}: was submitted as job {job}; --again submits it once more")
        elif not run.finished:
            todo.append(run)
    if not todo:
        print_lines(console, f"nothing to submit; {sum(run.finished for run in runs)} of {len(runs)} runs are finished")
        return
    commands = [run_arguments(run.planned, folder, options) for run in todo]
    submitted = jobs.submit(commands, folder.jobs, launcher, "bandsplit-study")
    for run, job, command in zip(todo, submitted, commands, strict=True):
        folder.append("submitted", run=run.name, command=list(command), job=str(job.job_id))
        print_lines(console, f"job {job.job_id}: {run.name}, output in {job.paths.stderr}")
    print_lines(console, "when they are finished, run the same command without --launcher to score the models")

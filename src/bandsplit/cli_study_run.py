"""What ``study plan`` and ``study run`` do with the command line: measurements, options of ``train``, jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from bandsplit.errors import BandsplitError, ConfigError
from bandsplit.terminal import DEFAULT_STEMS, tell

if TYPE_CHECKING:
    from rich.console import Console

    from bandsplit.data.tracks import Dataset
    from bandsplit.studies import PlannedRun
    from bandsplit.studying.costs import Measured
    from bandsplit.studying.folder import StudyFolder, StudyRun
    from bandsplit.training.execution import Execution

DECIDED = {
    "changes": "a run with settings changed by hand is no part of a study",
    "recipe": "the study names the recipes, choose with --rows",
    "target": "choose with --targets",
    "seed": "choose with --seeds",
    "runs": "choose the study's --folder",
    "plan": "use `bandsplit study plan --measure`",
    **dict.fromkeys(
        ("data", "device", "stems", "lengths", "mixture", "allow", "launcher", "hours", "gpus", "cpus", "slurm"),
        "is an option of `study run` itself, write it before the --",
    ),
    "valid": "a study trains, validates and scores on one set",
    "jobs": "output of jobs goes to the study's folder",
    "resume": "a study always goes on with its runs",
    "price_kwh": "has a meaning with --plan only",
    "price_hour": "has a meaning with --plan only",
}
"""Options of ``train`` that a study decides, and why or where."""


def check_train_options(options: Sequence[str]) -> None:
    """Check what was given after ``--`` before any run starts.

    Raises:
        ConfigError: ``train`` has no such option, or the study decides it.
    """
    import click
    from click.core import ParameterSource
    from typer.main import get_command

    from bandsplit.cli import app

    command = get_command(app)
    assert isinstance(command, click.Group)
    try:
        context = command.commands["train"].make_context("train", ["base", "--data", ".", *options])
    except click.ClickException as error:
        raise ConfigError(f"{' '.join(options)}: {error.format_message()}; see `bandsplit train --help`") from None
    given = {name for name in context.params if context.get_parameter_source(name) == ParameterSource.COMMANDLINE} - {
        "recipe",
        "data",
    }
    if any(option == "--data" or option.startswith("--data=") for option in options):
        given.add("data")
    for name in sorted(given & set(DECIDED)):
        option = "--set" if name == "changes" else f"--{name.replace('_', '-')}"
        raise ConfigError(f"{option}: cannot be given to the runs: {DECIDED[name]}")


def data_options(stems: str, lengths: str, mixture: str, allow: bool) -> tuple[str, ...]:
    """Return the options that say how songs are read, as both ``train`` and ``evaluate`` take them."""
    named = {"--stems": (stems, DEFAULT_STEMS), "--lengths": (lengths, "error"), "--mixture": (mixture, "file")}
    given = [part for option, (value, usual) in named.items() if value != usual for part in (option, value)]
    return (*given, *(["--allow"] if allow else []))


def measure_run(run: PlannedRun, dataset: Dataset, execution: Execution) -> Measured | str:
    """Measure what a run would take on this machine; a text says why it could not be measured."""
    import torch

    from bandsplit.recipes import find_recipe
    from bandsplit.studying.costs import span_of
    from bandsplit.training.energy import meters
    from bandsplit.training.plan import plan_run

    config = find_recipe(run.recipe).run_config(run.targets, seed=run.seed)
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
    executor: Literal["slurm", "local"],
    hours: float,
    gpus: int,
    cpus: int,
    slurm: Sequence[str],
) -> None:
    """Submit a job for each run that is not finished, running, or submitted before."""
    from bandsplit.cli_launch import parse_options
    from bandsplit.studying.training import train_arguments
    from bandsplit.training.launch import submit

    todo = []
    for run in runs:
        job = run.event["job"] if run.event is not None and run.event["event"] == "submitted" else None
        if run.running:
            tell(console, f"{run.name}: is running, not submitted")
        elif job is not None and not run.finished and not again:
            tell(console, f"{run.name}: was submitted as job {job}; --again submits it anew")
        elif not run.finished:
            todo.append(run)
    if not todo:
        tell(console, f"nothing to submit; {sum(run.finished for run in runs)} of {len(runs)} runs are finished")
        return
    commands = [train_arguments(run.planned, folder, options) for run in todo]
    jobs = submit(
        commands, folder.jobs, executor=executor, hours=hours, gpus=gpus, cpus=cpus, options=parse_options(slurm),
        name="bandsplit-study",
    )  # fmt: skip
    for run, job, command in zip(todo, jobs, commands, strict=True):
        folder.tell("submitted", run=run.name, command=list(command), job=str(job.job_id))
        tell(console, f"job {job.job_id}: {run.name}, output in {job.paths.stderr}")
    tell(console, "when they are finished, the same command without --launcher scores the models")

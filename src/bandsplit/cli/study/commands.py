"""The commands ``bandsplit study ...``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bandsplit.cli.study.outcome import FolderOption, StudyArgument, figures, report, tables
from bandsplit.cli.terminal import (
    DEFAULT_STEMS,
    AllowOption,
    DataOption,
    DeviceOption,
    LengthsOption,
    MixtureOption,
    StemsOption,
    can_continue,
    make_console,
    open_dataset,
    tell,
)
from bandsplit.core.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from bandsplit.studies.plans import PlannedRun, Study
    from bandsplit.studies.runner.costs import CostSpan
    from bandsplit.studies.runner.folder import StudyFolder

study_app = typer.Typer(no_args_is_help=True, help="Studies: many runs, planned, trained, scored and told together.")

PartsOption = Annotated[
    str | None, typer.Option("--parts", help="Parts of the study, separated by commas (default: all).")
]
RowsOption = Annotated[
    str | None, typer.Option("--rows", help="Rows of Table II or recipes, as 1,5,20b or base,simo (default: all).")
]
SeedsOption = Annotated[str | None, typer.Option("--seeds", help="Seeds, separated by commas (default: all).")]
TargetsOption = Annotated[
    str | None,
    typer.Option("--targets", "--target", "-t", help="Targets, separated by commas (default: those of the study)."),
]

study_app.command()(tables)
study_app.command()(figures)
study_app.command()(report)


@study_app.command("list")
def list_(
    study: Annotated[str | None, typer.Argument(help="Name of a study (default: all).", show_default=False)] = None,
) -> None:
    """List the studies: their parts, recipes and seeds, what was published, what each recipe changes."""
    from bandsplit.cli.study.screen import list_table
    from bandsplit.studies.plans import STUDIES, find_study

    out = make_console(err=False)
    for one in [find_study(study)] if study else STUDIES.values():
        tell(out, f"{one.id}: {one.about}; targets {', '.join(one.targets)}")
        out.print(list_table(one))


@study_app.command()
def plan(
    study: StudyArgument,
    data: Annotated[Path | None, typer.Option("--data", help="Songs, for --measure.")] = None,
    parts: PartsOption = None,
    rows: RowsOption = None,
    seeds: SeedsOption = None,
    targets: TargetsOption = None,
    folder: FolderOption = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Train some steps of each recipe on this machine: hours and kWh.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", help="As for train, for --measure.", min=0)] = 0,
    batch: Annotated[int | None, typer.Option("--batch", help="As for train, for --measure.", min=1)] = None,
    device: DeviceOption = "auto",
    stems: StemsOption = DEFAULT_STEMS,
    lengths: LengthsOption = "error",
    mixture: MixtureOption = "file",
    allow: AllowOption = False,
) -> None:
    """Say what a study takes before anything starts: runs, hours, kWh."""
    from bandsplit.cli.study.run import measure_run
    from bandsplit.cli.study.screen import cost_table, cost_totals
    from bandsplit.studies.runner.costs import cost_study

    console, out = make_console(), make_console(err=False)
    found, planned, where = _choose(study, parts, rows, seeds, targets, folder)
    runs = where.look(planned)
    measured: dict[str, CostSpan | str] = {}
    if measure:
        from bandsplit.training.execution import Execution

        if data is None:
            raise ConfigError("--measure: needs songs to train some steps on; give --data")
        execution = Execution(device, workers=workers, batch_size=batch)
        dataset = open_dataset(
            console, data, ("train", "valid"), stems=stems, lengths=lengths, mixture=mixture, allow=allow
        )
        for recipe in dict.fromkeys(run.recipe for run in planned):
            with console.status(f"measuring some steps of {recipe}"):
                one = next(run for run in planned if run.recipe == recipe)
                measured[recipe] = measure_run(one, dataset, execution)
    costs = cost_study(runs, measured)
    out.print(cost_table(found, costs))
    for line in cost_totals(costs, measured=measure):
        tell(out, line)


@study_app.command()
@can_continue("the same command continues")
def run(
    study: StudyArgument,
    data: DataOption,
    options: Annotated[
        list[str] | None, typer.Argument(help="After --: options of `train`, as -- --workers 4.", show_default=False)
    ] = None,
    parts: PartsOption = None,
    rows: RowsOption = None,
    seeds: SeedsOption = None,
    targets: TargetsOption = None,
    folder: FolderOption = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", help="Runs at once, each with its share of the cores.", min=1)
    ] = 1,
    device: DeviceOption = "auto",
    no_evaluate: Annotated[bool, typer.Option("--no-evaluate", help="Train only; score nothing.")] = False,
    also: Annotated[
        list[Path] | None, typer.Option("--also", help="Score the models on the test songs of this set too.")
    ] = None,
    launcher: Annotated[
        Literal["slurm", "local"] | None, typer.Option("--launcher", help="Submit each run as a job; score nothing.")
    ] = None,
    hours: Annotated[float, typer.Option("--hours", help="Wall time of a job, for --launcher.")] = 24.0,
    gpus: Annotated[int, typer.Option("--gpus", help="GPUs of a job, for --launcher.", min=0)] = 1,
    cpus: Annotated[int, typer.Option("--cpus", help="CPU cores of a job, for --launcher.", min=1)] = 4,
    slurm: Annotated[
        list[str] | None, typer.Option("--slurm", help="An option of sbatch, as partition=gpu; repeatable.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Submit what was submitted before, too.")] = False,
    stems: StemsOption = DEFAULT_STEMS,
    lengths: LengthsOption = "error",
    mixture: MixtureOption = "file",
    allow: AllowOption = False,
) -> None:
    """Train the runs of a study that are not finished, then score the models; the same command goes on.

    Exit code 1 if something failed (the rest was done), 3 if something was stopped or left.
    """
    from bandsplit.cli.study.run import check_train_options, data_options, submit_runs
    from bandsplit.studies.runner.run import report_failures, run_study
    from bandsplit.studies.runner.scoring import Songs
    from bandsplit.studies.runner.training import check_data

    console = make_console()
    found, planned, where = _choose(study, parts, rows, seeds, targets, folder)
    check_train_options(options or [])
    evaluate = not no_evaluate and launcher is None
    named = data_options(stems, lengths, mixture, allow)
    sets = []
    paths: list[Path] = [data, *(also or [])] if evaluate else [data]
    for number, path in enumerate(paths):
        splits = (*(("train", "valid") if number == 0 else ()), *(("test",) if evaluate else ()))
        dataset = open_dataset(console, path, splits, stems=stems, lengths=lengths, mixture=mixture, allow=allow)
        for split in splits:
            dataset.songs(split)  # what lacks is told now, not after hours of training
        sets.append(Songs(dataset, ("--data", str(path), *named)))
    if launcher is not None:
        runs = where.look(planned)
        check_data(runs, sets[0].dataset)
        submit_runs(
            console, runs, where, (*sets[0].options, "--device", device, *(options or [])), again=again,
            executor=launcher, hours=hours, gpus=gpus, cpus=cpus, slurm=slurm or [],
        )  # fmt: skip
        return
    result = run_study(
        found, planned, where, sets, lambda line: _tell_time(console, line), jobs=jobs, device=device,
        options=options or [], evaluate=evaluate,
    )  # fmt: skip
    for name, runs in result.unscored.items():
        tell(console, f"not scored: {name}; not finished: {', '.join(runs)}")
    for line in report_failures(result):
        tell(console, line, style="red")
    trained, scored = result.trained, result.scored
    left = len(trained.stopped) + len(scored.stopped)
    tell(
        console,
        f"{len(trained.finished)} of {len(planned)} runs finished, {len(trained.failed)} failed; "
        f"{len(scored.finished)} scorings done, {len(scored.failed)} failed"
        + (f"; {left} stopped or left: the same command goes on" if left else "")
        + f"; `bandsplit study status {study}` tells more",
    )
    if result.exit_code:
        raise typer.Exit(result.exit_code)


@study_app.command()
def status(
    study: StudyArgument,
    parts: PartsOption = None,
    rows: RowsOption = None,
    seeds: SeedsOption = None,
    targets: TargetsOption = None,
    folder: FolderOption = None,
) -> None:
    """Tell how far each run of a study is, what failed and why, what is left, and the energy of all attempts."""
    from bandsplit.cli.study.screen import status_lines, status_table
    from bandsplit.studies.runner.status import account_energy, estimate_left

    out = make_console(err=False)
    _, planned, where = _choose(study, parts, rows, seeds, targets, folder)
    runs = where.look(planned)
    out.print(status_table(runs))
    for line in status_lines(runs, estimate_left(runs), account_energy(where)):
        tell(out, line)
    for one in runs:
        if one.failure is not None:
            tell(out, f"FAILED: {one.name}: {one.failure}", style="red")


def _choose(
    study: str, parts: str | None, rows: str | None, seeds: str | None, targets: str | None, folder: Path | None
) -> tuple[Study, list[PlannedRun], StudyFolder]:
    from bandsplit.studies.plans import find_study, planned_runs
    from bandsplit.studies.runner.folder import StudyFolder

    found = find_study(study)
    numbers = []
    for text in _split(seeds):
        if not text.isdecimal():
            raise ConfigError(f"--seeds {seeds}: {text!r} is no seed; give whole numbers separated by commas, as 1,2")
        numbers.append(int(text))
    planned = planned_runs(found, _split(parts), _split(rows), numbers, _split(targets))
    if not planned:
        raise ConfigError(f"study {study}: no run has all that was chosen with --parts, --rows, --seeds and --targets")
    return found, planned, StudyFolder(folder or Path("study") / found.id)


def _split(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _tell_time(console: Console, line: str) -> None:
    import time

    tell(console, f"{time.strftime('%H:%M:%S')} {line}")

"""The commands ``bandsplit study ...``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bandsplit.cli.costs import study_costs
from bandsplit.cli.options import (
    DataOption,
    DatasetOptions,
    DeviceOption,
    JobOptions,
    Launcher,
    as_arguments,
    job_option,
    with_options,
)
from bandsplit.cli.study.outcome import (
    BudgetOption,
    FolderOption,
    StudyArgument,
    figures,
    open_study,
    prices,
    report,
    tables,
)
from bandsplit.cli.terminal import can_continue, make_console, print_lines, split_names
from bandsplit.core.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from bandsplit.studies.plans import PlannedRun, Study
    from bandsplit.studies.runner.costs import CostSpan
    from bandsplit.studies.runner.folder import StudyFolder
    from bandsplit.studies.runner.run import StudyResult
    from bandsplit.studies.runner.scoring import Songs

study_app = typer.Typer(
    no_args_is_help=True, help="Studies: many runs, planned, trained, scored and reported together."
)


@dataclass(frozen=True)
class SelectionOptions:
    """Selected runs of a study, their budget, and its folder."""

    parts: Annotated[
        str | None, typer.Option("--parts", help="Parts of the study, separated by commas (default: all).")
    ] = None
    rows: Annotated[
        str | None,
        typer.Option(
            "--rows",
            help="Rows of Table II, recipes, systems or public weights, for example 1,20b, base,simo or ht-demucs "
            "(default: all).",
        ),
    ] = None
    seeds: Annotated[str | None, typer.Option("--seeds", help="Seeds, separated by commas (default: all).")] = None
    targets: Annotated[
        str | None,
        typer.Option("--targets", "--target", "-t", help="Targets, separated by commas (default: those of the study)."),
    ] = None
    budget: BudgetOption = None
    folder: FolderOption = None

    def choose(self, study: str) -> tuple[Study, list[PlannedRun], StudyFolder]:
        """Find a study, its selected runs and its folder.

        Raises:
            ConfigError: there is no such study, part, row, seed or target, or no run has all of them and no public
                weights are selected; the budget is not one, or does not pay for an update of each run.
        """
        from bandsplit.studies.plans import planned_runs
        from bandsplit.studies.runner.training import check_budget

        found, where = open_study(study, self.budget, self.folder)
        seeds = split_names(self.seeds or "")
        wrong = [seed for seed in seeds if not seed.isdecimal()]
        if wrong:
            raise ConfigError(
                f"--seeds {self.seeds}: {wrong[0]!r} is not a seed; give integers separated by commas, for example 1,2"
            )
        parts, rows, targets = (split_names(text or "") for text in (self.parts, self.rows, self.targets))
        planned = planned_runs(found, parts, rows, [int(seed) for seed in seeds], targets)
        if not planned and not self.choose_public(found):
            raise ConfigError(f"study {study}: no run matches all of --parts, --rows, --seeds and --targets")
        check_budget(planned)
        return found, planned, where

    def again(self, study: str) -> str:
        """Return the words that name the study and its budget on a command line."""
        return study if self.budget is None else f"{study} --budget {self.budget}"

    def choose_public(self, study: Study) -> tuple[str, ...]:
        """Return the registered names of the selected public weights of a study."""
        from bandsplit.studies.plans import planned_public

        return planned_public(study, split_names(self.parts or ""), split_names(self.rows or ""))


study_app.command()(tables)
study_app.command()(figures)
study_app.command()(prices)
study_app.command()(report)
study_app.command("costs")(study_costs)


@study_app.command("list")
def list_(
    study: Annotated[str | None, typer.Argument(help="Name of a study (default: all).", show_default=False)] = None,
) -> None:
    """List the studies: their parts, recipes and seeds, what was published, what each recipe changes."""
    from bandsplit.cli.study.screen import list_table
    from bandsplit.studies.plans import STUDIES, find_study

    out = make_console(err=False)
    for one in [find_study(study)] if study else STUDIES.values():
        print_lines(out, f"{one.id}: {one.about}; targets {', '.join(one.targets)}")
        out.print(list_table(one))


@study_app.command()
@with_options
def plan(
    study: StudyArgument,
    *,
    data: Annotated[Path | None, typer.Option("--data", help="Songs, for --measure.")] = None,
    selection: SelectionOptions,
    measure: Annotated[
        bool, typer.Option("--measure", help="Train some steps of each recipe on this machine: hours and kWh.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", help="As for train, for --measure.", min=0)] = 0,
    batch: Annotated[int | None, typer.Option("--batch", help="As for train, for --measure.", min=1)] = None,
    device: DeviceOption = "auto",
    songs: DatasetOptions,
) -> None:
    """Print the runs, hours and kWh of a study before anything starts."""
    from bandsplit.cli.study.run import measure_run
    from bandsplit.cli.study.screen import cost_table, cost_totals
    from bandsplit.cli.study.systems import forms_table, forms_totals
    from bandsplit.studies.runner.costs import cost_study
    from bandsplit.studies.runner.public import look_public

    console, out = make_console(), make_console(err=False)
    found, planned, where = selection.choose(study)
    runs = where.look(planned)
    measured: dict[str, CostSpan | str] = {}
    if measure:
        from bandsplit.training.execution import Execution

        if data is None:
            raise ConfigError("--measure: needs songs to train some steps on; give --data")
        execution = Execution(device, workers=workers, batch_size=batch)
        dataset = songs.open(console, data, ("train", "valid"))
        for recipe in dict.fromkeys(run.recipe for run in planned):
            with console.status(f"measuring some steps of {recipe}"):
                one = next(run for run in planned if run.recipe == recipe)
                measured[recipe] = measure_run(one, dataset, execution)
    costs = cost_study(runs, measured)
    public = look_public(where, selection.choose_public(found))
    if found.systems:
        out.print(forms_table(found, costs, public))
    if measure or not found.systems:
        out.print(cost_table(found, costs))
    lines = forms_totals(found, costs, public) if found.systems else []
    for line in [*lines, *cost_totals(costs, measured=measure, published=not found.systems)]:
        print_lines(out, line)


@study_app.command()
@with_options
@can_continue("run the same command again to continue")
def run(
    study: StudyArgument,
    data: DataOption,
    options: Annotated[
        list[str] | None,
        typer.Argument(help="After --: options of `train`, for example -- --workers 4.", show_default=False),
    ] = None,
    *,
    selection: SelectionOptions,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", help="Runs at once, each with its share of the cores.", min=1)
    ] = 1,
    device: DeviceOption = "auto",
    no_evaluate: Annotated[bool, typer.Option("--no-evaluate", help="Train only; score nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Fetch public weights without asking.")] = False,
    also: Annotated[
        list[Path] | None, typer.Option("--also", help="Score the models on the test songs of this set too.")
    ] = None,
    songs: DatasetOptions,
    launcher: Annotated[
        Launcher | None, job_option("--launcher", help="Submit each run as a job; score nothing.")
    ] = None,
    per_job: JobOptions,
    again: Annotated[bool, job_option("--again", help="Also submit runs that were submitted before.")] = False,
) -> None:
    """Train the runs of a study that are not finished, and score the models; run it again to continue.

    A study with public weights scores these first.

    Exit code 1 if something failed (the rest was done), 3 if something was stopped or left.
    """
    from bandsplit.cli.study.run import check_train_options, submit_runs
    from bandsplit.cli.study.systems import consent
    from bandsplit.studies.runner.public import look_public
    from bandsplit.studies.runner.run import run_study
    from bandsplit.studies.runner.training import check_data

    console, passed = make_console(), options or []
    found, planned, where = selection.choose(study)
    check_train_options(passed)
    evaluate = not no_evaluate and launcher is None
    sets = _open_sets(console, [data, *(also or [])] if evaluate else [data], songs, bool(planned), evaluate)
    if launcher is not None:
        runs = where.look(planned)
        check_data(runs, sets[0].dataset)
        named = (*sets[0].options, "--device", device, *passed)
        submit_runs(console, runs, where, named, again=again, launcher=launcher, jobs=per_job)
        return
    public = selection.choose_public(found) if evaluate else ()
    allowed = consent(console, look_public(where, public), yes)
    result = run_study(
        found, planned, where, sets, lambda line: _print_time(console, line), jobs=jobs, device=device,
        options=passed, evaluate=evaluate, public=public, allowed=allowed,
    )  # fmt: skip
    _print_result(console, selection.again(study), result, len(planned))
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _open_sets(
    console: Console, paths: Sequence[Path], songs: DatasetOptions, train: bool, evaluate: bool
) -> list[Songs]:
    """Open the songs: those of the first path for training, those of all paths for scoring."""
    from bandsplit.studies.runner.scoring import Songs

    sets = []
    for number, path in enumerate(paths):
        splits = (*(("train", "valid") if number == 0 and train else ()), *(("test",) if evaluate else ()))
        dataset = songs.open(console, path, splits)
        for split in splits:
            dataset.songs(split)  # an empty split is an error now, not after hours of training
        sets.append(Songs(dataset, ("--data", str(path), *as_arguments(songs))))
    return sets


def _print_result(console: Console, study: str, result: StudyResult, planned: int) -> None:
    from bandsplit.studies.runner.run import report_failures

    for name, runs in result.unscored.items():
        print_lines(console, f"not scored: {name}; not finished: {', '.join(runs)}")
    for line in report_failures(result):
        print_lines(console, line, style="red")
    trained, scored, fetched = result.trained, result.scored, result.fetched
    left = len(trained.stopped) + len(scored.stopped) + len(fetched.stopped)
    missing = f"{len(fetched.failed)} public models not fetched; " if fetched.failed else ""
    print_lines(
        console,
        f"{len(trained.finished)} of {planned} runs finished, {len(trained.failed)} failed; "
        f"{missing}{len(scored.finished)} scorings done, {len(scored.failed)} failed"
        + (f"; {left} stopped or left: run the same command again to continue" if left else "")
        + f"; details: `bandsplit study status {study}`",
    )


@study_app.command()
@with_options
def status(
    study: StudyArgument,
    selection: SelectionOptions,
) -> None:
    """Show the progress of each run of a study, failures and their reasons, hours left and energy of all attempts."""
    from bandsplit.cli.study.screen import status_lines, status_table
    from bandsplit.cli.study.systems import failed_lines, public_lines
    from bandsplit.studies.runner.public import look_public
    from bandsplit.studies.runner.status import account_energy, estimate_left

    out = make_console(err=False)
    found, planned, where = selection.choose(study)
    runs, public = where.look(planned), look_public(where, selection.choose_public(found))
    out.print(status_table(runs))
    for line in [*status_lines(runs, estimate_left(runs), account_energy(where)), *public_lines(public)]:
        print_lines(out, line)
    failures = [f"FAILED: {one.name}: {one.failure}" for one in runs if one.failure is not None]
    for line in [*failures, *failed_lines(public)]:
        print_lines(out, line, style="red")


def _print_time(console: Console, line: str) -> None:
    import time

    print_lines(console, f"{time.strftime('%H:%M:%S')} {line}")

"""The commands ``bandsplit models costs`` and ``bandsplit study costs``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bandsplit.cli.options import DatasetOptions, DeviceOption, with_options
from bandsplit.cli.study.outcome import FolderOption, StudyArgument
from bandsplit.cli.terminal import can_continue, make_console, print_lines, show, split_names
from bandsplit.core.errors import BandsplitError, ConfigError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from bandsplit.studies.costs.rows import Cost, Key
    from bandsplit.studies.costs.systems import CostedSystem

CONTINUE = "run the same command again to continue"


@dataclass(frozen=True)
class CostOptions:
    """Costs to measure or predict, and the form of the tables."""

    measure: Annotated[
        bool, typer.Option("--measure", help="Measure speed, memory and energy of separation on this machine.")
    ] = False
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            help="Length of the noise, for --measure (default: as many chunks as are estimated at once).",
            min=0.1,
            show_default=False,
        ),
    ] = None
    device: DeviceOption = "auto"
    gpu: Annotated[
        str | None,
        typer.Option(
            "--gpu", help="Estimate trainings on: RTX 2080 Ti, RTX 4090, L40S, A100, H100, H200.", metavar="NAME"
        ),
    ] = None
    utilisation: Annotated[
        float | None,
        typer.Option(
            "--utilisation",
            help="Share of the GPU's peak rate that trainings reach, for --gpu (default: 0.35).",
            show_default=False,
        ),
    ] = None
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Songs: train some steps of each recipe on this machine, to predict trainings."),
    ] = None
    form: Annotated[Literal["screen", "md", "tex", "csv"], typer.Option("--format", help="Format of the tables.")] = (
        "screen"
    )


@with_options
@can_continue(CONTINUE)
def model_costs(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="Recipes, registered models, files or bags (default: `bandsplit models list --architectures`).",
            show_default=False,
        ),
    ] = None,
    *,
    options: CostOptions,
    songs: DatasetOptions,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File of measured costs; what it holds is not measured again.")
    ] = None,
) -> None:
    """Show what systems cost: parameters, operations, disk; measured speed, memory and energy; predicted trainings."""
    from bandsplit.recipes.catalogue import RECIPES
    from bandsplit.studies.costs.systems import find_system

    chosen = names or [id for id, recipe in RECIPES.items() if recipe.architecture]
    _show_costs({name: find_system(name) for name in chosen}, options, songs, out)


@with_options
@can_continue(CONTINUE)
def study_costs(
    study: StudyArgument,
    *,
    rows: Annotated[
        str | None,
        typer.Option("--rows", help="Systems, registered models, recipes, or rows of Table II (default: all)."),
    ] = None,
    options: CostOptions,
    songs: DatasetOptions,
    folder: FolderOption = None,
) -> None:
    """Show what the systems of a study cost; measured and predicted costs are kept in its folder, for the figures."""
    from bandsplit.studies.costs.systems import systems_of
    from bandsplit.studies.plans import find_study
    from bandsplit.studies.runner.folder import StudyFolder

    found = find_study(study)
    where = StudyFolder(folder or Path("study") / found.id)
    _show_costs(systems_of(found, split_names(rows or "")), options, songs, where.costs)


def _show_costs(
    systems: Mapping[str, CostedSystem | str], options: CostOptions, songs: DatasetOptions, path: Path | None
) -> None:
    """Find the costs of systems, or for each the reason why it has none, and show them in tables."""
    from bandsplit.studies.costs.rows import append_costs, read_costs
    from bandsplit.studies.costs.tables import CostLine, cost_tables

    console = make_console()
    known = {} if path is None else read_costs(path, lambda note: print_lines(console, f"note: {note}"))
    finder = _Finder(console, options, songs)
    if path is not None and (options.measure or options.gpu or options.data):
        append_costs(path, ())  # before long measurements, so that a file that cannot be written costs none
    lines = []
    for name, system in systems.items():
        if isinstance(system, str):
            lines.append(CostLine(name, None, system))
            continue
        reasons = []
        for key, find in finder.tasks(system):
            if key in known:
                continue
            twin = next((row for row in known.values() if row.key._replace(system=key.system) == key), None)
            try:
                known[key] = twin.model_copy(update={"system": key.system}) if twin else find()
            except BandsplitError as error:
                reasons.append(format(error))
            else:
                if path is not None:
                    append_costs(path, [known[key]])
        lines.append(CostLine(name, system, "; ".join(reasons)))
    out = make_console(err=False)
    for table in cost_tables(lines, known.values()):
        if options.form == "screen":
            out.print(table.screen())
        else:
            show(*{"md": table.markdown, "tex": table.latex, "csv": table.csv}[options.form]().split("\n"))


class _Finder:
    """The costs that the options ask for."""

    def __init__(self, console: Console, options: CostOptions, songs: DatasetOptions) -> None:
        """Check the options, and open the songs for steps of training, before anything is measured."""
        from bandsplit.runs.energy.facts import find_peak
        from bandsplit.studies.costs.training import UTILISATION, Assumption

        if options.seconds is not None and not options.measure:
            raise ConfigError("seconds: is the length of the noise; give --measure, too")
        if options.utilisation is not None and options.gpu is None:
            raise ConfigError("utilisation: is that of a GPU; name it with --gpu")
        share = UTILISATION if options.utilisation is None else options.utilisation
        self._console, self._options = console, options
        self._assumed = Assumption(find_peak(options.gpu), share) if options.gpu else None
        self._dataset = songs.open(console, options.data, ("train", "valid")) if options.data else None

    def tasks(self, system: CostedSystem) -> Iterator[tuple[Key, Callable[[], Cost]]]:
        """Yield the costs of a system to find, each with what finds it."""
        from bandsplit.core.machine import describe_machine
        from bandsplit.separation.torch_network import pick_device
        from bandsplit.studies.costs.rows import Key
        from bandsplit.studies.costs.training import estimate_training

        options, assumed = self._options, self._assumed
        if assumed is not None and system.runs:
            key = Key("training", system.name, system.trainings, str(assumed))
            yield key, partial(estimate_training, system, assumed)
        if options.measure or self._dataset is not None:
            device = pick_device(options.device)
            machine = describe_machine(device)
            if options.measure:
                key = Key("separation", system.name, system.source, machine)
                yield key, partial(self._measure, system, device)
            if self._dataset is not None and system.runs:
                key = Key("training", system.name, system.trainings, machine)
                yield key, partial(self._try_steps, system, machine)

    def _measure(self, system: CostedSystem, device: torch.device) -> Cost:
        from bandsplit.studies.costs.measuring import measure_separation_cost

        with self._console.status(f"measuring {system.name}"):
            return measure_separation_cost(system, device, noise_s=self._options.seconds)

    def _try_steps(self, system: CostedSystem, machine: str) -> Cost:
        from bandsplit.cli.study.run import measure_run
        from bandsplit.studies.costs.training import training_of_steps
        from bandsplit.studies.plans import PlannedRun
        from bandsplit.training.execution import Execution

        first = system.runs[0]
        assert self._dataset is not None
        with self._console.status(f"measuring some steps of {system.name}"):
            run = PlannedRun(first.recipe, first.model.targets, first.seed, first.training.budget)
            span = measure_run(run, self._dataset, Execution(self._options.device))
        if isinstance(span, str):
            raise BandsplitError(span)
        return training_of_steps(system, span, machine)

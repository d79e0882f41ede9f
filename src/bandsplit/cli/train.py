"""The command ``train``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

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

    from bandsplit.data.songs.tracks import Dataset
    from bandsplit.runs.config import RunConfig
    from bandsplit.runs.energy.interface import MakeMeter
    from bandsplit.training.execution import Execution


@can_continue("the same command continues, with --resume where the run has begun")
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe; see `bandsplit models list --architectures`.")],
    data: DataOption,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "--targets", "-t", help="Stem to estimate; not for recipes that share a model."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the initial weights and of every example.", min=0)] = 0,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a setting, as in training.max_epochs=20; the run is then no row of a table."
        ),
    ] = None,
    runs: Annotated[Path, typer.Option("--runs", help="Folder of all runs.")] = Path("runs"),
    device: DeviceOption = "auto",
    devices: Annotated[
        int | None,
        typer.Option("--devices", help="Devices of this machine, one process each.", min=1),
    ] = None,
    workers: Annotated[
        int,
        typer.Option("--workers", help="Processes that prepare examples for a device; no effect on the result.", min=0),
    ] = 0,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            help="Examples per step and device; the global batch stays.",
            min=1,
        ),
    ] = None,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Save memory: compute activations again in the backward pass.")
    ] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the blocks with torch.compile.")] = False,
    save_every: Annotated[float, typer.Option("--save-every", help="Minutes between saved states.", min=0)] = 5.0,
    max_hours: Annotated[
        float | None,
        typer.Option("--max-hours", help="Save the state and stop after so many hours (exit code 3).", min=0),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write curves for TensorBoard into the run's folder.")
    ] = False,
    no_energy: Annotated[bool, typer.Option("--no-energy", help="Do not measure energy.")] = False,
    pue: Annotated[
        float, typer.Option("--pue", help="Energy of the building / of its computers; kept apart.", min=1)
    ] = 1.5,
    intensity: Annotated[
        float | None, typer.Option("--intensity", help="Grams of CO2e per kWh of this electricity.")
    ] = None,
    country: Annotated[
        str | None, typer.Option("--country", help="Or the country, as in FRA: its mean, from codecarbon.")
    ] = None,
    gpu_tdp: Annotated[
        float | None, typer.Option("--gpu-tdp", help="Watts of a GPU that our table does not know.", min=1)
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Measure some steps and predict hours, memory and energy; train nothing.")
    ] = False,
    price_kwh: Annotated[float | None, typer.Option("--price-kwh", help="Price of a kWh, for --plan.", min=0)] = None,
    price_hour: Annotated[
        float | None, typer.Option("--price-hour", help="Price of an hour of the machine, for --plan.", min=0)
    ] = None,
    launcher: Annotated[
        Literal["slurm", "local"] | None,
        typer.Option("--launcher", help="Submit a job for each --target, put back into the queue at its wall time."),
    ] = None,
    hours: Annotated[float, typer.Option("--hours", help="Wall time of a job, for --launcher.")] = 24.0,
    gpus: Annotated[int, typer.Option("--gpus", help="GPUs of a job, for --launcher.", min=0)] = 1,
    cpus: Annotated[int, typer.Option("--cpus", help="CPU cores of a job, for --launcher.", min=1)] = 4,
    slurm: Annotated[
        list[str] | None, typer.Option("--slurm", help="An option of sbatch, as partition=gpu; repeatable.")
    ] = None,
    jobs: Annotated[Path, typer.Option("--jobs", help="Folder for the output of jobs.")] = Path("jobs"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run if it exists.")] = False,
    valid: Annotated[
        Path | None, typer.Option("--valid", help="Validation songs, where --data has none of its own.")
    ] = None,
    stems: StemsOption = DEFAULT_STEMS,
    lengths: LengthsOption = "error",
    mixture: MixtureOption = "file",
    allow: AllowOption = False,
) -> None:
    """Train a model of the paper on a folder of songs."""
    import torch

    from bandsplit.cli.launch import launch
    from bandsplit.recipes.catalogue import find_recipe
    from bandsplit.runs.energy.meter import meters
    from bandsplit.runs.energy.sensors import find_intensity
    from bandsplit.training.execution import Execution
    from bandsplit.training.loop import train as train_run
    from bandsplit.training.reporters.events import report_to
    from bandsplit.training.reporters.tensorboard import TensorBoard
    from bandsplit.training.reporters.terminal import TerminalProgress

    console = make_console()
    found, settings = find_recipe(recipe), dict(map(_parse_change, changes or []))
    if launcher is not None:
        for group in [target or []] if found.shared or not target else [[name] for name in target]:
            found.run_config(group, seed=seed, changes=settings)  # mistakes are told here, not by the jobs
        launch(
            sys.argv[1:], found, target or [], executor=launcher, hours=hours, gpus=gpus, cpus=cpus,
            options=slurm or [], folder=jobs,
        )  # fmt: skip
        return
    config = found.run_config(target or [], seed=seed, changes=settings)
    options: dict[str, Any] = {"stems": stems, "lengths": lengths, "mixture": mixture, "allow": allow}
    dataset = open_dataset(console, data, ("train", "valid") if valid is None else ("train",), **options)
    if valid is not None:
        dataset = dataset.with_validation(open_dataset(console, valid, ("valid",), **options))
    execution = Execution(
        device, devices, None, workers, batch, checkpointing, compile, 60 * save_every,
        None if max_hours is None else 3600 * max_hours,
    )  # fmt: skip
    make_meter = None if no_energy else meters(pue, find_intensity(intensity, country), gpu_tdp)
    torch.manual_seed(config.seed)
    if plan:
        _show_plan(console, config, dataset, execution, make_meter, price_kwh, price_hour)
        return
    with TerminalProgress(console) as progress:
        reporter = report_to(progress, TensorBoard()) if tensorboard else progress
        result = train_run(config, dataset, runs, reporter, execution=execution, resume=resume, make_meter=make_meter)
    unit = "dB uSDR" if config.training.monitor == "usdr" else "(negated loss)"
    tell(
        console,
        f"best after epoch {result.best_epoch} of {result.epochs}: {result.best_score:.2f} {unit}, in {result.best}",
    )


def _show_plan(
    console: Console,
    config: RunConfig,
    dataset: Dataset,
    execution: Execution,
    make_meter: MakeMeter | None,
    price_kwh: float | None,
    price_hour: float | None,
) -> None:
    from bandsplit.core.screen import PlainTable
    from bandsplit.training.plan import describe_plan, plan_run

    with console.status("measuring some steps"):
        plan = plan_run(config, dataset, execution, make_meter)
    out = make_console(err=False)
    table = PlainTable(show_header=False, box=None, padding=(0, 2, 0, 0))
    for what, text in describe_plan(plan, price_kwh=price_kwh, price_hour=price_hour):
        table.add_row(what, text)
    out.print(table, highlight=False)
    if plan.fits:
        table = PlainTable("batch", "checkpointing", "examples/s", "memory", title="What fits", title_justify="left")
        for fit in plan.fits:
            speed = "does not fit" if fit.examples_per_s is None else f"{fit.examples_per_s:.1f}"
            memory = "" if fit.memory_gb is None else f"{fit.memory_gb:.1f} GB"
            table.add_row(str(fit.batch_size), "yes" if fit.checkpointing else "no", speed, memory)
        out.print(table, highlight=False)


def _parse_change(text: str) -> tuple[str, Any]:
    import yaml

    path, equals, value = text.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {text}: must be PATH=VALUE, for example training.max_epochs=20")
    try:
        return path, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {text}: {value!r} is not a value; quote it as in YAML or JSON") from None

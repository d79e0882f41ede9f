"""The command ``bandsplit plan``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from bandsplit.cli.options import DatasetOptions, DeviceOption, with_options
from bandsplit.cli.terminal import make_console
from bandsplit.cli.training_options import EnergyOptions, ExecutionOptions, RecipeArgument, RunOptions, TargetOption

if TYPE_CHECKING:
    from rich.table import Table

    from bandsplit.training.plan import Fit


@with_options
def plan(
    recipe: RecipeArgument,
    *,
    target: TargetOption = None,
    run: RunOptions,
    songs: DatasetOptions,
    price_kwh: Annotated[float | None, typer.Option("--price-kwh", help="Price of a kWh.", min=0)] = None,
    price_hour: Annotated[
        float | None, typer.Option("--price-hour", help="Price of an hour of the machine.", min=0)
    ] = None,
    device: DeviceOption = "auto",
    execution: ExecutionOptions,
    energy: EnergyOptions,
) -> None:
    """Predict hours, memory and energy of a training from some steps measured on this machine."""
    import torch

    from bandsplit.core.screen import PlainTable
    from bandsplit.recipes.catalogue import find_recipe
    from bandsplit.training.plan import describe_plan, plan_run

    console, out = make_console(), make_console(err=False)
    config = run.config(find_recipe(recipe), target or [])
    dataset = run.open_dataset(console, songs)
    torch.manual_seed(config.seed)
    with console.status("measuring some steps"):
        found = plan_run(config, dataset, execution.execution(device), energy.make_meter(), run.init_file(config))
    table = PlainTable(show_header=False, box=None, padding=(0, 2, 0, 0))
    for what, text in describe_plan(found, price_kwh=price_kwh, price_hour=price_hour):
        table.add_row(what, text)
    out.print(table, highlight=False)
    if found.fits:
        out.print(_fits_table(found.fits), highlight=False)


def _fits_table(fits: Sequence[Fit]) -> Table:
    from bandsplit.core.screen import PlainTable

    table = PlainTable("batch", "checkpointing", "examples/s", "memory", title="What fits", title_justify="left")
    for fit in fits:
        speed = "does not fit" if fit.examples_per_s is None else f"{fit.examples_per_s:.1f}"
        memory = "" if fit.memory_gb is None else f"{fit.memory_gb:.1f} GB"
        table.add_row(str(fit.batch_size), "yes" if fit.checkpointing else "no", speed, memory)
    return table

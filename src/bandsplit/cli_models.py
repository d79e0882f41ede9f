"""The commands ``bandsplit models``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bandsplit.terminal import make_console

models_app = typer.Typer(
    no_args_is_help=True, help="List architectures, look at model files, import the authors' weights."
)


@models_app.command("list")
def list_models() -> None:
    """Show every named architecture: parameters beside the paper's, targets, what it is in the paper."""
    from rich import box
    from rich.table import Table

    from bandsplit.models.build import count_parameters
    from bandsplit.recipes import RECIPES

    title = "Architectures: parameters of all four targets, in millions"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    for heading, place in (
        ("recipe", "left"),
        ("ours", "right"),
        ("paper", "right"),
        ("models", "left"),
        ("row", "left"),
    ):
        table.add_column(heading, justify=place, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("what it is")
    for recipe in filter(lambda recipe: recipe.architecture, RECIPES.values()):
        count_m = sum(count_parameters(config.model) for config in recipe.all_run_configs()) / 1e6
        digits = 2 if recipe.shared else 1
        published = "-" if recipe.parameters_m is None else f"{recipe.parameters_m:.{digits}f}"
        models = "1 of 4 targets" if recipe.shared else "4 of 1 target"
        table.add_row(recipe.id, f"{count_m:.{digits}f}", published, models, recipe.row or "-", recipe.about)
    make_console(err=False).print(table)


@models_app.command("show")
def show_model(file: Annotated[Path, typer.Argument(help="A model file.")]) -> None:
    """Show the card and the configuration of a model file."""
    from bandsplit.models.files import read_card

    config, card = read_card(file)
    for field, value in card:
        typer.echo(f"{field:18s} {value}")
    typer.echo(f"{'targets':18s} {', '.join(config.targets)}")
    typer.echo(f"{'sample_rate_hz':18s} {config.sample_rate_hz}")
    typer.echo(config.model_dump_json(indent=1))


@models_app.command("import")
def import_model(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint (.ckpt) of the paper's authors.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The model file to write (default: CHECKPOINT.safetensors).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing file.")] = False,
) -> None:
    """Turn a checkpoint of the paper's authors into a model file. No code in it is run."""
    from bandsplit.errors import ModelFileError
    from bandsplit.models.files import save_model
    from bandsplit.pretrained import import_checkpoint

    path = out or checkpoint.with_suffix(".safetensors")
    if path.exists() and not force:
        raise ModelFileError(f"{path}: exists already; choose another name with -o, or replace it with --force")
    model, card = import_checkpoint(checkpoint)
    save_model(path, model, card)
    parameters_m = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    targets = ", ".join(model.config.targets)
    typer.echo(f"{path}: {targets}, {parameters_m:.2f} M parameters, {model.config.sample_rate_hz} Hz")
    typer.echo(f"licence: {card.licence}\ntraining data: {card.training_data}")

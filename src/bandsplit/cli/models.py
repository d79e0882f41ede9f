"""The commands ``bandsplit models ...``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bandsplit.cli.model_choice import agrees, install
from bandsplit.cli.options import ForceOption, JsonOption, YesOption
from bandsplit.cli.terminal import make_console, print_lines, show, show_json

if TYPE_CHECKING:
    from rich.table import Table

    from bandsplit.models.pretrained.registry import Entry

models_app = typer.Typer(
    no_args_is_help=True, help="List, fetch, show, import, export and remove models; list architectures."
)

NameArgument = Annotated[str, typer.Argument(help="A registered name; see `bandsplit models list`.")]
MirrorOption = Annotated[
    str | None,
    typer.Option(
        "--mirror", envvar="BANDSPLIT_MIRROR", help="Address of a folder with the archive, instead of its record."
    ),
]


@models_app.command("list")
def list_models(
    architectures: Annotated[
        bool, typer.Option("--architectures", help="List the networks of the paper instead, which can be trained.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the models that are cached or can be fetched; with --architectures every network that can be trained."""
    from bandsplit.models.pretrained.registry import entries, models_folder

    out = make_console(err=False)
    if architectures:
        rows = _architectures()
        if as_json:
            show_json(rows)
        else:
            out.print(_architectures_table(rows))
        return
    if as_json:
        show_json([_facts(entry) for entry in entries()])
        return
    out.print(_models_table(entries()))
    for what, field in (("licence", "licence"), ("training data", "training_data"), ("source", "doi")):
        for value in dict.fromkeys(getattr(entry, field) for entry in entries()):
            names = [entry.name for entry in entries() if getattr(entry, field) == value]
            of = "" if len(names) == len(entries()) else f" of {', '.join(names)}"
            print_lines(out, f"{what}{of}: {f'https://doi.org/{value}' if field == 'doi' else value}")
    print_lines(
        out, "scores: cSDR in dB on the test set of MUSDB18-HQ, as their authors published them; not measured here"
    )
    print_lines(out, f"cache: {models_folder()}; networks that can be trained: bandsplit models list --architectures")


@models_app.command("show")
def show_model(
    model: Annotated[str, typer.Argument(help="A registered name, or a model file.")], as_json: JsonOption = False
) -> None:
    """Show the facts about a registered model, or the card and the configuration of a model file."""
    from bandsplit.models.card import MODEL_SUFFIXES, read_card, stored_types
    from bandsplit.models.pretrained.registry import cached_files, find_entry

    if os.path.isfile(model) or Path(model).suffix in MODEL_SUFFIXES:
        files = [Path(model)]
    else:
        entry = find_entry(model)
        files = cached_files(entry)
        if not as_json:
            show(*entry.notice().splitlines())
            show(f"in cache: {', '.join(map(str, files)) or f'no; bandsplit models fetch {entry.name}'}")
        elif not files:
            show_json([_facts(entry)])
            return
    if as_json:
        described = [{"file": str(file), **_card_facts(file)} for file in files]
        show_json(described)
        return
    for file in files:
        config, card = read_card(file)
        show("", *([file] if len(files) > 1 else []))
        for field, value in card:
            show(f"{field:18s} {value}")
        if file.suffix == ".safetensors":
            show(f"{'weights':18s} {', '.join(f'{count} of {name}' for name, count in stored_types(file).items())}")
        show(f"{'targets':18s} {', '.join(config.targets)}", f"{'sample_rate_hz':18s} {config.sample_rate_hz}")
        if len(files) == 1:
            show_json(config.model_dump(mode="json"))


@models_app.command("fetch")
def fetch_model(
    name: NameArgument,
    yes: YesOption = False,
    mirror: MirrorOption = None,
    md5: Annotated[str | None, typer.Option("--md5", help="Of the archive, if none is registered.")] = None,
    archive: Annotated[
        Path | None, typer.Option("--archive", help="The archive, downloaded by other means; checked and kept.")
    ] = None,
) -> None:
    """Fetch a model into the cache: download, check, import without running its code; resumes after a break."""
    from bandsplit.models.pretrained.registry import cached_files, find_entry

    console = make_console()
    entry = find_entry(name)
    if files := cached_files(entry):
        print_lines(console, f"{entry.name}: is in the cache already: {files[0].parent}")
        return
    if not yes and not agrees(console, entry):
        raise typer.Abort
    install(console, entry, mirror=mirror, md5=md5, archive=archive)


@models_app.command("import")
def import_model(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint of the paper's authors, or of other software that a family knows.")
    ],
    config: Annotated[
        Path | None, typer.Option("--config", help="Its configuration file (.yaml), if the checkpoint has no settings.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The model file to write (default: CHECKPOINT.safetensors).")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Convert a checkpoint of other software to a model file. No code in it is run."""
    from bandsplit.core.errors import ModelFileError
    from bandsplit.models.importing import read_model

    path = out or checkpoint.with_suffix(".safetensors")
    if path.resolve() == checkpoint.resolve():
        raise ModelFileError(f"{path}: is the checkpoint itself; choose another name with -o")
    if os.path.exists(path) and not force:
        raise ModelFileError(f"{path}: exists already; choose another name with -o, or replace it with --force")
    imported = read_model(checkpoint, config)
    imported.save(path)
    model, card = imported.model, imported.card
    parameters_m = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    targets = ", ".join(model.config.targets)
    show(f"{path}: {targets}, {parameters_m:.2f} M parameters, {model.config.sample_rate_hz} Hz")
    show(f"licence: {card.licence}", f"training data: {card.training_data}")


@models_app.command("export")
def export_model(
    name: NameArgument,
    to: Annotated[Path, typer.Argument(help="Folder for the copies.")] = Path("."),
    force: ForceOption = False,
) -> None:
    """Copy a model out of the cache, as one .safetensors per network; any of them can be used by its path."""
    from bandsplit.models.pretrained.registry import find_entry
    from bandsplit.models.pretrained.store import copy_model

    for path in copy_model(find_entry(name), to, force):
        show(path)


@models_app.command("remove")
def remove_model(name: NameArgument) -> None:
    """Remove a model and its unfinished downloads from the cache."""
    from bandsplit.core.fetching import in_gb
    from bandsplit.models.pretrained.registry import find_entry
    from bandsplit.models.pretrained.store import remove_model

    entry = find_entry(name)
    freed_bytes = remove_model(entry)
    what = f"removed, {in_gb(freed_bytes)} freed" if freed_bytes else "was not in the cache"
    print_lines(make_console(), f"{entry.name}: {what}")


def _facts(entry: Entry) -> dict[str, Any]:
    """Return the facts about a registered model as plain data."""
    from bandsplit.models.pretrained.registry import cached_files

    scores = entry.scores
    files = [str(path) for path in cached_files(entry)]
    published = scores and {"csdr_db": dict(scores.values_db), "split": "test", "source": scores.source}
    return {
        **entry.model_dump(mode="json"),
        "cached": bool(files),
        "files": files,
        "published_scores": published,
    }


def _card_facts(file: Path) -> dict[str, Any]:
    from bandsplit.models.card import read_card, stored_types

    config, card = read_card(file)
    weights = {"weights": stored_types(file)} if file.suffix == ".safetensors" else {}
    return {"card": card.model_dump(mode="json"), **weights, "config": config.model_dump(mode="json")}


def _models_table(entries: Sequence[Entry]) -> Table:
    from bandsplit.core.fetching import in_gb
    from bandsplit.core.screen import lean_table
    from bandsplit.models.pretrained.registry import cached_files
    from bandsplit.published.paper import COLUMNS

    table = lean_table()
    for heading in ("model", "state", "fetch", "kept"):
        table.add_column(heading, justify="right" if heading in ("fetch", "kept") else "left", no_wrap=True)
    for target in COLUMNS:
        table.add_column(target, justify="right", no_wrap=True)
    for entry in entries:
        values = entry.scores.values_db if entry.scores else {}
        table.add_row(
            [entry.name, *(f"= {alias}" for alias in entry.aliases)],
            "cached" if cached_files(entry) else "to fetch" if entry.md5 else "needs md5",
            in_gb(entry.archive_bytes),
            in_gb(entry.kept_bytes),
            *("-" if values.get(target) is None else f"{values[target]:.2f}" for target in COLUMNS),
        )
    return table


def _architectures() -> list[dict[str, Any]]:
    from bandsplit.models.tensors import count_parameters
    from bandsplit.recipes.catalogue import RECIPES

    recipes = [recipe for recipe in RECIPES.values() if recipe.architecture]
    models = {recipe.id: [config.model for config in recipe.all_run_configs()] for recipe in recipes}
    return [
        {
            "recipe": recipe.id,
            "family": models[recipe.id][0].family,
            "targets": [target for model in models[recipe.id] for target in model.targets],
            "parameters_m": round(sum(map(count_parameters, models[recipe.id])) / 1e6, 3),
            "published_parameters_m": recipe.parameters_m,
            "shared": recipe.shared,
            "row": recipe.row,
            "about": recipe.about,
            "unknown": dict(recipe.unknown),
        }
        for recipe in recipes
    ]


def _architectures_table(rows: Sequence[dict[str, Any]]) -> Table:
    from bandsplit.core.screen import lean_table

    title = "Architectures: parameters of all targets, in millions"
    table = lean_table(title=title, title_justify="left")
    for heading, place in (
        ("recipe", "left"),
        ("ours", "right"),
        ("published", "right"),
        ("models", "left"),
        ("row", "left"),
    ):
        table.add_column(heading, justify=place, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("what it is")
    for row in rows:
        digits = 2 if row["shared"] else 1
        published = row["published_parameters_m"]
        table.add_row(
            row["recipe"],
            f"{row['parameters_m']:.{digits}f}",
            "-" if published is None else f"{published:.{digits}f}",
            f"1 of {len(row['targets'])} targets" if row["shared"] else f"{len(row['targets'])} of 1 target",
            row["row"] or "-",
            [row["about"], *([f"not published: {', '.join(row['unknown'])}"] if row["unknown"] else [])],
        )
    return table

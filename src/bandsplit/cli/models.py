"""The commands ``bandsplit models ...``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bandsplit.cli.costs import model_costs
from bandsplit.cli.model_choice import agrees, install, look_up
from bandsplit.cli.options import ForceOption, JsonOption, YesOption, complete_models
from bandsplit.cli.terminal import make_console, print_lines, show, show_json

if TYPE_CHECKING:
    from bandsplit.models.pretrained.entries import Entry

models_app = typer.Typer(
    no_args_is_help=True, help="List, fetch, show, import, export, publish and remove models; list architectures."
)

models_app.command("costs")(model_costs)

NameArgument = Annotated[str, typer.Argument(help="A name of `bandsplit models list`.", autocompletion=complete_models)]
MirrorOption = Annotated[
    str | None,
    typer.Option("--mirror", envvar="BANDSPLIT_MIRROR", help="Address of another folder with the files."),
]


@models_app.command("list")
def list_models(
    architectures: Annotated[
        bool, typer.Option("--architectures", help="List the networks that can be trained instead.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the models that are cached or can be fetched; with --architectures every network that can be trained."""
    from bandsplit.cli.model_tables import architectures_rows, architectures_table, footnotes, models_table
    from bandsplit.models.pretrained.registry import known_entries, models_folder

    out = make_console(err=False)
    if architectures:
        rows = architectures_rows()
        if as_json:
            show_json(rows)
        else:
            out.print(architectures_table(rows))
        return
    entries = known_entries()
    if as_json:
        show_json([_facts(entry) for entry in entries])
        return
    out.print(models_table(entries))
    print_lines(out, *footnotes(entries))
    print_lines(out, f"cache: {models_folder()}; networks that can be trained: bandsplit models list --architectures")


@models_app.command("show")
def show_model(
    model: Annotated[str, typer.Argument(help="A registered name, a model file or a bag.")], as_json: JsonOption = False
) -> None:
    """Show the facts about a registered model, the card and configuration of a model file, or the members of a bag."""
    from bandsplit.models.bags import is_bag
    from bandsplit.models.card import MODEL_SUFFIXES
    from bandsplit.models.pretrained.registry import cached_files, find_entry, model_files

    if is_bag(model):
        _show_bag(Path(model), as_json)
        return
    if os.path.isfile(model) or Path(model).suffix in MODEL_SUFFIXES:
        files = [Path(model)]
    else:
        entry = find_entry(model)
        files, used = model_files(entry), cached_files(entry)
        if not as_json:
            show(*entry.notice().splitlines())
            show(f"in cache: {', '.join(map(str, used)) or f'no; bandsplit models fetch {entry.name}'}")
        elif not files:
            show_json([_facts(entry)])
            return
    if as_json:
        show_json([{"file": str(file), **_card_facts(file)} for file in files])
        return
    for file in files:
        show("", *([file] if len(files) > 1 else []))
        _show_card(file)
        if len(files) == 1:
            show_json(_card_facts(file)["config"])


def _show_card(file: Path) -> None:
    from bandsplit.models.card import read_card, stored_types

    config, card = read_card(file)
    for field, value in card:
        show(f"{field:18s} {value}")
    if file.suffix == ".safetensors":
        show(f"{'weights':18s} {', '.join(f'{count} of {name}' for name, count in stored_types(file).items())}")
    show(f"{'targets':18s} {', '.join(config.targets)}", f"{'sample_rate_hz':18s} {config.sample_rate_hz}")


@models_app.command("fetch")
def fetch_model(
    name: Annotated[
        str,
        typer.Argument(
            help="A registered name, hf:OWNER/NAME[@REVISION], or the address of a file with --sha256.",
            autocompletion=complete_models,
        ),
    ],
    yes: YesOption = False,
    mirror: MirrorOption = None,
    sha256: Annotated[str | None, typer.Option("--sha256", help="Of the file at an address.")] = None,
    named: Annotated[
        str | None, typer.Option("--name", help="Name that a file at an address gets (default: its own).")
    ] = None,
    md5: Annotated[str | None, typer.Option("--md5", help="Of the file, if no digest is registered.")] = None,
    archive: Annotated[
        Path | None,
        typer.Option(
            "--archive", help="The archive or checkpoint, or a folder with the files of a bag; checked and kept."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="The configuration file of a checkpoint, if none is registered.")
    ] = None,
) -> None:
    """Fetch a model into the cache: download, check, import without running its code; resumes after a break."""
    from bandsplit.models.pretrained.registry import cached_files
    from bandsplit.models.pretrained.sources import Sources

    console = make_console()
    sources = Sources(mirror, md5, archive, config)
    entry = look_up(name, sha256, named, sources)
    if files := cached_files(entry):
        print_lines(console, f"{entry.name}: is in the cache already: {files[0].parent}")
        return
    if not yes and not agrees(console, entry):
        raise typer.Abort
    install(console, entry, sources)


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


@models_app.command("bag")
def make_bag(
    models: Annotated[
        list[str], typer.Argument(metavar="MODELS", help="Model files, bags, folders of some, or registered names.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="BAG", help="The bag to write, a .yaml file.")],
    mixer: Annotated[
        Path | None, typer.Option("--mixer", help="Mixer of KUIELab-MDX-Net (mixer.ckpt), applied to the means.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Average models: write a bag in which each has weight 1 for all its targets. Weights can be edited in the file."""
    from bandsplit.cli.model_tables import bag_lines
    from bandsplit.core.errors import ModelFileError
    from bandsplit.models.bags import Bag, BagMember, is_bag, write_bag
    from bandsplit.separation.systems import check_bag

    if not is_bag(out):
        raise ModelFileError(f"{out}: is not a name of a bag; choose one that ends with .yaml")
    if os.path.exists(out) and not force:
        raise ModelFileError(f"{out}: exists already; choose another name with -o, or replace it with --force")
    members = [os.path.relpath(model, out.parent) if os.path.exists(model) else model for model in models]
    found = None
    if mixer is not None:
        from bandsplit.models.mixers import read_mixer

        found = read_mixer(mixer)
    bag = Bag(members=tuple(BagMember(model=member) for member in members), mixer=found)
    mean = check_bag(out, bag)
    write_bag(out, bag)
    show(f"{out}: a bag of {len(members)}; use: -n {out}", *bag_lines(mean))


@models_app.command("export")
def export_model(
    name: NameArgument,
    to: Annotated[Path, typer.Argument(help="Folder for the copies.")] = Path("."),
    force: ForceOption = False,
) -> None:
    """Copy a model out of the cache, as one .safetensors per network, or a folder of a bag; use either by its path."""
    from bandsplit.models.pretrained.registry import find_entry
    from bandsplit.models.pretrained.store import copy_model

    for path in copy_model(find_entry(name), to, force):
        show(path)


@models_app.command("push")
def push_model(
    models: Annotated[list[str], typer.Argument(metavar="MODELS", help="Model files, registered names, or one bag.")],
    to: Annotated[str, typer.Argument(metavar="hf:OWNER/NAME", help="The page; it is made if it does not exist.")],
    public: Annotated[bool, typer.Option("--public", help="Show a new page to everybody, not to you alone.")] = False,
    yes: YesOption = False,
) -> None:
    """Publish models on the Hub: .safetensors files alone, with a page made from their cards; needs a token."""
    from bandsplit.models.pretrained.hub import parse_hub_name
    from bandsplit.models.pretrained.publishing import prepare, publish
    from bandsplit.models.pretrained.registry import find_models

    console = make_console()
    publication = prepare(find_models(models), parse_hub_name(to))
    print_lines(console, *publication.notice(public))
    if not yes and not typer.confirm("Publish?", err=True):
        raise typer.Abort
    commit = publish(publication, public)
    print_lines(console, f"{publication.name.page}: commit {commit}")
    print_lines(console, f"others fetch it: bandsplit models fetch {publication.name}@{commit[:12]}")


@models_app.command("remove")
def remove_model(name: NameArgument) -> None:
    """Remove a model and its unfinished downloads from the cache."""
    from bandsplit.core.fetching import in_gb
    from bandsplit.models.pretrained.store import entry_to_remove, remove_model

    entry = entry_to_remove(name)
    freed_bytes = remove_model(entry)
    what = f"removed, {in_gb(freed_bytes)} freed" if freed_bytes else "was not in the cache"
    print_lines(make_console(), f"{entry.name}: {what}")


def _show_bag(path: Path, as_json: bool) -> None:
    from bandsplit.cli.model_tables import bag_lines
    from bandsplit.models.bags import read_bag
    from bandsplit.separation.systems import read_system

    bag, system = read_bag(path), read_system([path])
    if as_json:
        show_json({"bag": bag.model_dump(mode="json"), "files": [str(file) for file in system.files]})
        return
    show(f"{bag.name}: a bag of {len(bag.members)}", *bag_lines(system.mean))


def _facts(entry: Entry) -> dict[str, Any]:
    """Return the facts about a registered model as plain data."""
    from bandsplit.models.pretrained.registry import cached_files

    files = [str(path) for path in cached_files(entry)]
    published = [{**scores.model_dump(mode="json"), "comparable": scores.comparable} for scores in entry.scores]
    facts = entry.model_dump(mode="json", exclude={"published"})
    return {**facts, "cached": bool(files), "files": files, "needs": entry.lack, "published_scores": published}


def _card_facts(file: Path) -> dict[str, Any]:
    from bandsplit.models.card import read_card, stored_types

    config, card = read_card(file)
    weights = {"weights": stored_types(file)} if file.suffix == ".safetensors" else {}
    return {"card": card.model_dump(mode="json"), **weights, "config": config.model_dump(mode="json")}

"""Registry of published models: their facts and addresses, the ones in the cache, and the choice of one to use.

Nothing here uses the network or loads a model; `bandsplit.models.pretrained.store` installs models in the cache.
"""

from __future__ import annotations

import difflib
import functools
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.core.fetching import in_gb
from bandsplit.core.settings import cache_folder
from bandsplit.core.targets import TARGETS
from bandsplit.models.bags import BAG_FILE, is_bag, read_bag
from bandsplit.models.card import MODEL_SUFFIXES
from bandsplit.models.pretrained.entries import Entry

MARKER = "model.json"
"""File next to the model files of a cached model, which describes them. A folder without it is not a model."""

DEMO_MODELS = "demo/runs/demo/*/*/best.safetensors"

FETCH_FIX = "bandsplit models fetch"

HUB = "hf:"
"""Before the owner and name of a model on the Hub."""


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Return the registered models, those with comparable scores first, the best of them at the head."""
    text = resources.files("bandsplit.models.pretrained").joinpath("registry.json").read_text(encoding="utf-8")
    return tuple(sorted(map(Entry.parse, json.loads(text)), key=lambda entry: -(entry.average_db or 0.0)))


def known_entries() -> tuple[Entry, ...]:
    """Return the registered models, then those in the cache that a user named by their page or address."""
    return (*entries(), *unlisted_entries())


def unlisted_entries() -> tuple[Entry, ...]:
    """Return the models in the cache that are not registered, as their markers describe them."""
    found, markers = [], []
    with suppress(OSError):  # as for each marker: what cannot be read is not there
        markers = sorted(models_folder().glob(f"*/{MARKER}"))
    for path in markers:
        described = (read_marker(path.parent) or {}).get("entry")
        with suppress(ConfigError):
            if described is not None and folder_of(entry := Entry.parse(described)) == path.parent:
                found.append(entry)
    return tuple(found)


def is_registered(name: str) -> bool:
    """Return whether a registered model has this name or alias."""
    return name.lower() in {alias for entry in entries() for alias in (entry.name, *entry.aliases)}


def is_hub_name(name: object) -> bool:
    """Return whether a model is named by its page on the Hub, as in ``hf:OWNER/NAME``."""
    return str(name).startswith(HUB)


def find_entry(name: str) -> Entry:
    """Look up a registered model by its name or an alias, whatever its case, or a fetched one by the name it got.

    Raises:
        ModelFileError: no model has this name; the message suggests the nearest.
    """
    named = {alias: entry for entry in entries() for alias in (entry.name, *entry.aliases)}
    for entry in unlisted_entries():
        if entry.name == name:
            return entry
    if is_hub_name(name):
        raise ModelFileError(f"{name}: is not in the cache ({models_folder()}); fetch it first: {FETCH_FIX} {name}")
    if name.lower() not in named:
        near = difflib.get_close_matches(name.lower(), named, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ModelFileError(
            f"{name}: is not a file, a folder with model files or the name of a registered model; "
            f"{hint}legal: the path of a model file or folder, or {', '.join(named)}"
        )
    return named[name.lower()]


# --- the cache -------------------------------------------------------------------------------------------------------


def models_folder() -> Path:
    """Return the folder of fetched models."""
    return cache_folder() / "models"


def folder_of(entry: Entry) -> Path:
    """Return the folder of the model files of ``entry``, if it is cached."""
    return models_folder() / entry.folder


def read_marker(folder: Path) -> dict[str, Any] | None:
    """Return the description of a cached model; None if the model is absent or incomplete."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        whole = all((folder / file["file"]).stat().st_size == file["bytes"] for file in marker["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return marker if whole and marker["files"] else None


def cached_files(entry: Entry) -> list[Path]:
    """Return the files of ``entry`` in the cache that are used together; an empty list unless all its files exist.

    They are models, in the order of its targets, or one bag.
    """
    marker = read_marker(folder_of(entry))
    if marker is None:
        return []
    return [folder_of(entry) / marker["bag"]] if "bag" in marker else all_files(entry)


def all_files(entry: Entry) -> list[Path]:
    """Return all files of models and bags of ``entry`` in the cache; an empty list unless all exist."""
    marker = read_marker(folder_of(entry))
    return [folder_of(entry) / file["file"] for file in marker["files"]] if marker else []


def model_files(entry: Entry) -> list[Path]:
    """Return the model files of ``entry`` in the cache, also those of a bag; an empty list unless all files exist."""
    return [path for path in all_files(entry) if not is_bag(path)]


def find_models(
    names: str | Path | Sequence[str | Path] = (),
    fetch: Callable[[Entry], object] | None = None,
    say: Callable[[str], None] = lambda text: None,
    runtime: str = "auto",
) -> list[Path]:
    """Find the files of models and bags: all that are needed for their stems.

    Args:
        names: paths of model files, of bags or of folders of some, and registered names; if empty, the best available
            model: the best in the cache, else the one that ``fetch`` installs, else the demo's model in this folder. A
            folder with a bag, and a registered one, is the file of the bag alone.
        fetch: called with a requested or recommended registered model that is not in the cache; it may install it. So
            it is with registered members of bags.
        say: called with a line that names the chosen model and its published score, if none was named.
        runtime: computes them: "onnx" prefers the .onnx files of a folder, all others its .safetensors.

    Raises:
        ModelFileError: no model was found; the message says how to get one.
    """
    names = [names] if isinstance(names, str | Path) else names
    if not names:
        return _find_default(fetch, say)
    return [file for name in names for file in _find_named(name, fetch, runtime)]


def _find_named(name: str | Path, fetch: Callable[[Entry], object] | None, runtime: str) -> list[Path]:
    if not is_hub_name(name) and (files := _find_at(Path(name), fetch, runtime)):
        return files
    entry = find_entry(str(name))
    if not cached_files(entry) and fetch is not None:
        fetch(entry)
    if files := cached_files(entry):
        return files
    raise ModelFileError(
        f"{entry.name}: is not in the cache ({models_folder()}); fetch it first ({in_gb(entry.source.bytes)}): "
        f"{FETCH_FIX} {entry.name}"
    )


def _find_at(path: Path, fetch: Callable[[Entry], object] | None, runtime: str) -> list[Path]:
    """Return the bag or the model files at a path."""
    if (bag := _bag_at(path)) is not None:
        _find_members(bag, fetch, runtime)
        return [bag]
    if os.path.isfile(path) or path.suffix in MODEL_SUFFIXES:
        return [path]  # loading reports a file that is missing or not a model
    suffixes = sorted(MODEL_SUFFIXES, reverse=runtime != "onnx")
    return next((files for suffix in suffixes if (files := _in_order(path, suffix))), [])


def _bag_at(path: Path) -> Path | None:
    """Return the path if it is that of a bag, or the bag in this folder."""
    if is_bag(path):
        return path
    return path / BAG_FILE if os.path.isfile(path / BAG_FILE) else None


def _find_members(
    bag: Path, fetch: Callable[[Entry], object] | None, runtime: str, around: Sequence[Path] = ()
) -> None:
    """Find registered members, which ``fetch`` may install, in bags in the bag, too; loading reports missing files."""
    if bag.resolve() in around or not os.path.isfile(bag):
        return
    for number, member in enumerate(read_bag(bag).members, 1):
        path = bag.parent / os.path.expanduser(member.model)
        if (inner := _bag_at(path)) is not None:
            _find_members(inner, fetch, runtime, [*around, bag.resolve()])
        elif not path.exists():
            try:
                _find_named(member.model, fetch, runtime)
            except ModelFileError as error:
                raise ModelFileError(f"{bag}: members: number {number}: {error}") from None


def _in_order(folder: Path, suffix: str) -> list[Path]:
    """Return the model files of a folder; those named like targets are in the order of all tables."""
    order = {name: number for number, name in enumerate(TARGETS)}
    found = folder.glob(f"*{suffix}") if os.path.isdir(folder) else ()
    return sorted(found, key=lambda path: (order.get(path.stem, len(order)), path.name))


def _find_default(fetch: Callable[[Entry], object] | None, say: Callable[[str], None]) -> list[Path]:
    """Choose by comparable scores; a model without them is used only if no other is in the cache."""
    cached = [entry for entry in known_entries() if cached_files(entry)]
    best = next((entry for entry in cached if entry.average_db is not None), None)
    recommended = entries()[0]
    if best is None and fetch is not None:
        fetch(recommended)
        best = recommended if cached_files(recommended) else None
    if best is not None:
        say(f"model: {best.name}, the best in the cache ({best.scores[0].summary()}; licence: {best.licence})")
        return cached_files(best)
    if len(cached) == 1:
        score = f"{cached[0].scores[0].summary()}, not comparable" if cached[0].scores else "score not published"
        say(f"model: {cached[0].name}, the only one in the cache ({score}; licence: {cached[0].licence})")
        return cached_files(cached[0])
    if cached:
        names = ", ".join(entry.name for entry in cached)
        raise ModelFileError(
            f"no model was named, and the scores of those in the cache ({names}) cannot be compared; name one with -n"
        )
    demo = max(Path().glob(DEMO_MODELS), key=lambda path: path.stat().st_mtime, default=None)
    how = f"{FETCH_FIX} {recommended.name} ({in_gb(recommended.source.bytes)})"
    if demo is None:
        raise ModelFileError(
            f"no model was named, none is in the cache ({models_folder()}), and this folder has no model of the demo; "
            f"legal: -n with a model file or a registered name. Get one with {how}, or train a toy with bandsplit demo"
        )
    say(f"model: {demo}, the demo's, trained on synthetic songs: on real music it is a toy; better: {how}")
    return [demo]

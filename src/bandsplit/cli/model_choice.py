"""Models that a user names, fetched after a question if somebody can answer it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from bandsplit.models.pretrained.entries import Entry
    from bandsplit.models.pretrained.sources import Sources

from bandsplit.cli.terminal import byte_progress, print_lines


def choose_models(
    console: Console, names: Sequence[str | Path] = (), yes: bool = False, runtime: str = "auto"
) -> list[Path]:
    """Find the model files that a user names; offer to fetch one that is not in the cache, if somebody can answer.

    Args:
        console: asks the question and prints the choice.
        names: paths or registered names; empty for the best model installed.
        yes: fetch without asking.
        runtime: as for `find_models`.

    Raises:
        BandsplitError: there is no such model, or it cannot be fetched.
    """
    from bandsplit.models.pretrained.registry import find_models

    _offer_pages(console, names, yes)
    return find_models(names, *_conversation(console, yes), runtime)


def _conversation(console: Console, yes: bool = False) -> tuple[Callable[[Entry], None], Callable[[str], None]]:
    """Return a function that offers a model and installs it if the user agrees, and one that prints a line."""
    from bandsplit.core.settings import is_offline

    def fetch(entry: Entry) -> None:
        if yes or (sys.stdin.isatty() and not is_offline() and agrees(console, entry)):
            install(console, entry)

    return fetch, lambda text: print_lines(console, text)


def _offer_pages(console: Console, names: Sequence[str | Path], yes: bool = False) -> None:
    """Offer the models that are named by their pages on the Hub and are not in the cache, as registered ones are."""
    from bandsplit.core.settings import is_offline
    from bandsplit.models.pretrained.registry import is_hub_name, unlisted_entries

    pages = [name for name in ([names] if isinstance(names, str | Path) else names) if is_hub_name(name)]
    if not pages or not (yes or (sys.stdin.isatty() and not is_offline())):
        return
    cached = {entry.name for entry in unlisted_entries()}
    for name in map(str, pages):
        if name not in cached:
            entry = look_up(name)
            if yes or agrees(console, entry):
                install(console, entry)


def look_up(name: str, sha256: str | None = None, named: str | None = None, sources: Sources | None = None) -> Entry:
    """Find the model that a user names: by its page on the Hub, by its address and digest, or as it is registered.

    Args:
        name: as the user writes it.
        sha256: digest of the file at an address.
        named: name of the model at an address.
        sources: a mirror, or local copies.

    Raises:
        BandsplitError: there is no such model, or an argument does not fit.
    """
    from bandsplit.core.errors import ConfigError
    from bandsplit.models.pretrained.address import entry_at, is_address
    from bandsplit.models.pretrained.registry import find_entry, is_hub_name, unlisted_entries
    from bandsplit.models.pretrained.sources import REGISTERED

    if is_address(name):
        return entry_at(name, sha256, named, sources or REGISTERED)
    for option, value in (("--sha256", sha256), ("--name", named)):
        if value is not None:
            raise ConfigError(f"{option} {value}: is for a model at an address; leave it out for {name}")
    if is_hub_name(name) and name not in {entry.name for entry in unlisted_entries()}:
        from bandsplit.models.pretrained import hub

        return hub.look_up(name)
    return find_entry(name)


def agrees(console: Console, entry: Entry) -> bool:
    """Show the notice of a model, and ask whether to fetch it."""
    from bandsplit.core.fetching import in_gb
    from bandsplit.models.pretrained.store import needed_bytes

    print_lines(console, *entry.notice().splitlines())
    print_lines(console, f"disk:     {in_gb(needed_bytes(entry))} are needed temporarily")
    return typer.confirm(f"Fetch {entry.name} ({in_gb(entry.source.bytes)})?", err=True)


def install(console: Console, entry: Entry, sources: Sources | None = None) -> None:
    """Fetch a model with a progress bar."""
    from bandsplit.models.pretrained.registry import find_entry, model_files
    from bandsplit.models.pretrained.sources import REGISTERED
    from bandsplit.models.pretrained.store import install_model

    with byte_progress(console) as progress:
        files = install_model(entry, sources or REGISTERED, progress=progress)
    entry = entry if entry.listed else find_entry(entry.name)  # with the facts of its card
    count = len(model_files(entry))
    print_lines(console, f"{entry.name}: {count} model file(s) in {files[0].parent}; use: -n {entry.name}")
    print_lines(console, f"licence: {entry.licence}")

"""Models that a user names, fetched after a question if somebody can answer it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from bandsplit.models.pretrained.entries import Entry

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

    return find_models(names, *_conversation(console, yes), runtime)


def _conversation(console: Console, yes: bool = False) -> tuple[Callable[[Entry], None], Callable[[str], None]]:
    """Return a function that offers a model and installs it if the user agrees, and one that prints a line."""
    from bandsplit.core.settings import is_offline

    def fetch(entry: Entry) -> None:
        if yes or (sys.stdin.isatty() and not is_offline() and agrees(console, entry)):
            install(console, entry)

    return fetch, lambda text: print_lines(console, text)


def agrees(console: Console, entry: Entry) -> bool:
    """Show the notice of a model, and ask whether to fetch it."""
    from bandsplit.core.fetching import in_gb
    from bandsplit.models.pretrained.store import needed_bytes

    print_lines(console, *entry.notice().splitlines())
    print_lines(console, f"disk:     {in_gb(needed_bytes(entry))} are needed temporarily")
    return typer.confirm(f"Fetch {entry.name} ({in_gb(entry.source.bytes)})?", err=True)


def install(console: Console, entry: Entry, **sources: Any) -> None:
    """Fetch a model with a progress bar; ``sources`` are the fields of `Sources`."""
    from bandsplit.models.pretrained.registry import model_files
    from bandsplit.models.pretrained.sources import Sources
    from bandsplit.models.pretrained.store import install_model

    with byte_progress(console) as progress:
        files = install_model(entry, Sources(**sources), progress=progress)
    count = len(model_files(entry))
    print_lines(console, f"{entry.name}: {count} model file(s) in {files[0].parent}; use: -n {entry.name}")
    print_lines(console, f"licence: {entry.licence}")

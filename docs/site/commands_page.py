"""The page of all commands and options, written from the command line itself when the site is built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from bandsplit.cli.main import app
from site_tables import cell

INTRODUCTION = """# Commands

Every command with all its options, as `bandsplit COMMAND --help` prints them; written from the command line itself
when the site is built. [Every command, once](tour.md) is the short way in.
"""


def commands_page() -> str:
    """Return the page, in Markdown."""
    parts = [INTRODUCTION]
    program = typer.main.get_command(app)
    parts += _section(("bandsplit",), program)
    for path, command in leaves(program, ("bandsplit",)):
        parts += _section(path, command)
    return "\n".join(parts)


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the words of each command that does something, and the command as Typer made it."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, below in inner.items():
        yield from leaves(below, (*path, name))


def _section(path: tuple[str, ...], command: Any) -> Iterator[str]:
    context = command.make_context(" ".join(path), [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"## {' '.join(path[1:]) or path[0]}\n\n{_plain(command.help or '')}\n\n    {' '.join(path)} {usage}\n"
    records = [record for parameter in command.params if (record := parameter.get_help_record(context))]
    if records:
        yield "| argument | |\n|---|---|"
        yield from (f"| {cell(f'`{names}`')} | {cell(_plain(meaning))} |" for names, meaning in records)
        yield ""


def _plain(text: str) -> str:
    """Return help as Markdown, a line per paragraph; angle brackets and stars are text."""
    paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
    return "\n\n".join(paragraphs).replace("<", "&lt;").replace("*", "\\*")

"""Output of the commands: a console, plain lines, JSON, progress bars."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from bandsplit.core.errors import BandsplitError, RunStopped
from bandsplit.core.interrupt import check, stop_reason
from bandsplit.core.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

_NO_TERMINAL = 1000  # columns: wider than any table


def make_console(err: bool = True) -> Console:
    """Return a console on stderr, for progress and notes, or on stdout, for the output of a command.

    Its own styles are the only control sequences that reach the terminal. If the stream is no terminal and ``COLUMNS``
    is not set, lines are as long as their content.
    """
    from bandsplit.core.screen import PlainConsole

    console = PlainConsole(stderr=err)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _NO_TERMINAL
    return console


def print_lines(console: Console, *lines: str, style: str | None = None) -> None:
    """Print lines unwrapped and without markup; control characters and line breaks inside a line are escaped."""
    for line in lines:
        console.print(printable(line), style=style, markup=False, highlight=False, soft_wrap=True)


def show(*lines: object) -> None:
    """Print the output of a command on stdout, never wrapped; see `print_lines`."""
    for line in lines:
        typer.echo(printable(line))


def show_json(value: Any) -> None:
    """Print JSON, in ASCII, on stdout."""
    typer.echo(json.dumps(value, indent=1))


def show_error(error: BandsplitError, prefix: str = "", colour: str = "red") -> None:
    """Print the lines of an error on stderr."""
    text = "\n".join(map(printable, error.args))
    typer.secho(f"{prefix}{text}", fg=colour, err=True)


class PrintableLog(logging.Formatter):
    """Formatter that writes the message of each log record on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, without a traceback."""
        return printable(record.getMessage())


@contextmanager
def song_progress(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar; yield a function that takes the numbers of finished songs and of all songs."""
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TextColumn("songs"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what)

        def progress(done: int, total: int) -> None:
            check()
            bar.update(task, completed=done, total=total)

        yield progress


@contextmanager
def byte_progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar; yield a function that takes a stage, its finished bytes and its total bytes."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("")

        def progress(stage: str, done: int, total: int) -> None:
            check()
            bar.update(task, description=stage, completed=done, total=total)

        yield progress


@contextmanager
def can_continue(how: str) -> Iterator[None]:
    """Turn a signal into `RunStopped`; ``how`` says in the message how to continue the run."""
    try:
        yield
    except KeyboardInterrupt:
        raise RunStopped(f"stopped by {stop_reason()}; {how}", stop_reason()) from None


def split_names(stems: str) -> tuple[str, ...]:
    """Return the names in the value of ``--stems``."""
    return tuple(name.strip() for name in stems.split(",") if name.strip())

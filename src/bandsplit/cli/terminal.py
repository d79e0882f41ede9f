"""What the commands share: a console, plain lines, and the options that say which songs and which chunks are meant."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bandsplit.core.errors import BandsplitError, RunStopped
from bandsplit.core.interrupt import check, stop_reason
from bandsplit.core.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

    from bandsplit.data.songs.tracks import Dataset

_NO_TERMINAL = 1000  # columns, more than any table here has
CHUNKS = "Chunks"
"""Panel of the help."""
RootArgument = Annotated[
    Path, typer.Argument(help="Songs as MUSDB18-HQ, stem folders, a CSV file of instrum,path, or MoisesDB.")
]
DEVICE_HELP = "auto (a CUDA GPU if there is one), cpu, cuda or cuda:N."
DeviceOption = Annotated[str, typer.Option("--device", "-d", help=DEVICE_HELP)]
DataOption = Annotated[
    Path,
    typer.Option("--data", help="Songs: a folder as MUSDB18-HQ, stem folders, a CSV of instrum,path, or MoisesDB."),
]
StemsOption = Annotated[
    str, typer.Option("--stems", help="Names of the stems, where they are not these four; separated by commas.")
]
LengthsOption = Annotated[
    Literal["error", "pad", "trim"], typer.Option("--lengths", help="For files of one song that differ in length.")
]
MixtureOption = Annotated[
    Literal["file", "sum"],
    typer.Option("--mixture", help="Take the mixture from its file, or as the sum of the stems (as the authors)."),
]
AllowOption = Annotated[
    bool, typer.Option("--allow", help="Go on although `bandsplit data check` finds the songs broken.")
]
MethodOption = Annotated[
    Literal["crossfade", "overlap-add"] | None,
    typer.Option(
        "--method",
        help="How a song is cut into chunks and joined (default: as the model's authors did).",
        rich_help_panel=CHUNKS,
    ),
]
ChunkOption = Annotated[
    float | None,
    typer.Option(
        "--chunk",
        "--segment",
        metavar="S",
        help="Chunk length in seconds (default: the authors' own, else 10 for crossfade, 3 for overlap-add).",
        min=0.01,
        rich_help_panel=CHUNKS,
    ),
]
OverlapOption = Annotated[
    float | None,
    typer.Option(
        "--overlap",
        metavar="PART",
        help="Shared part of crossfaded chunks, as a fraction (default: 0.1).",
        rich_help_panel=CHUNKS,
    ),
]
HopOption = Annotated[
    float | None,
    typer.Option(
        "--hop", metavar="S", help="Hop of overlap-add in seconds (default: 0.5).", min=0.001, rich_help_panel=CHUNKS
    ),
]
GeometryOption = Annotated[
    Literal["authors", "even"] | None,
    typer.Option(
        "--geometry",
        help="Chunks as the paper's authors cut them, or equal ones (default: authors).",
        rich_help_panel=CHUNKS,
    ),
]
DEFAULT_STEMS = "vocals,bass,drums,other"


def make_console(err: bool = True) -> Console:
    """Return a console on stderr, where all talk goes, or on stdout, for what was asked for.

    Whatever it prints, only its own styles are commands to the terminal. Where no terminal reads it, and ``COLUMNS``
    does not say otherwise, lines are as long as what they hold.
    """
    from bandsplit.core.screen import PlainConsole

    console = PlainConsole(stderr=err)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _NO_TERMINAL
    return console


def tell(console: Console, *lines: str, style: str | None = None) -> None:
    """Print lines, as they are, but for commands to a terminal and line breaks inside them, which are written out."""
    for line in lines:
        console.print(printable(line), style=style, markup=False, highlight=False, soft_wrap=True)


def show(*lines: object) -> None:
    """Print lines that were asked for, on stdout, never wrapped; see `tell`."""
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
    """Messages of log records, as one line each."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, without what follows it."""
        return printable(record.getMessage())


@contextmanager
def song_progress(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar, fed with the number of songs done and of all."""
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
    """Show a bar, fed with a stage and its bytes done and in all."""
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
    """Turn a signal into the error of a run that is stopped; ``how`` says how it continues."""
    try:
        yield
    except KeyboardInterrupt:
        raise RunStopped(f"stopped by {stop_reason()}; {how}", stop_reason()) from None


def split_names(stems: str) -> tuple[str, ...]:
    """Return the names in the value of ``--stems``."""
    return tuple(name.strip() for name in stems.split(",") if name.strip())


def open_dataset(
    console: Console,
    root: Path,
    splits: Sequence[str],
    *,
    stems: str = DEFAULT_STEMS,
    lengths: Literal["error", "pad", "trim"] = "error",
    mixture: Literal["file", "sum"] = "file",
    allow: bool = False,
) -> Dataset:
    """Index the songs of some splits, check them, and say what was noticed on the way.

    Raises:
        DataError: the set is broken, and that is not allowed.
    """
    from bandsplit.data.songs.check import check_dataset, require_sound
    from bandsplit.data.songs.layouts import index_dataset

    dataset = index_dataset(root, split_names(stems), splits, mixture=mixture, lengths=lengths, allow_broken=allow)
    for note in dataset.notes:
        tell(console, note)
    with song_progress(console, "checking") as progress:
        report = check_dataset(dataset, splits, progress)
    for problem in report.broken if allow else ():
        tell(console, f"allowed: {problem}", style="red")
    sound = require_sound(report, allow)
    for note in sound.notes[len(dataset.notes) :]:
        tell(console, note)
    return sound


def chunk_settings(
    method: str | None, chunk: float | None, overlap: float | None, hop: float | None, geometry: str | None
) -> dict[str, Any]:
    """Return what is to differ from the chunk plan of the model's authors.

    Raises:
        ConfigError: an option has an illegal value, or no meaning with the method, where one is named.
    """
    from bandsplit.models.chunk_config import CrossfadeConfig
    from bandsplit.separation.chunks import check_settings

    values = {"kind": method, "chunk_s": chunk, "overlap": overlap, "hop_s": hop, "geometry": geometry}
    settings = {name: value for name, value in values.items() if value is not None}
    if method is not None:
        check_settings(settings, method)
    if overlap is not None:
        CrossfadeConfig.parse({"overlap": overlap})
    return settings

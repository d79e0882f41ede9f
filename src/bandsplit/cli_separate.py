"""The command ``bandsplit separate``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bandsplit.errors import BandsplitError
from bandsplit.terminal import (
    ChunkOption,
    DeviceOption,
    GeometryOption,
    HopOption,
    MethodOption,
    OverlapOption,
    chunk_config,
    make_console,
    tell,
)

if TYPE_CHECKING:
    from rich.console import Console

MODEL_NAMES = ("--name", "-n", "--model", "-m")


def separate(
    files: Annotated[list[Path], typer.Argument(help="Audio files: wav, flac, mp3, ogg; any rate, mono or stereo.")],
    model: Annotated[
        list[Path], typer.Option(*MODEL_NAMES, help="Model file; repeat it for models of several targets.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Stems go to OUT/<file>/<target>.wav.")] = Path("separated"),
    device: DeviceOption = "auto",
    method: MethodOption = "crossfade",
    chunk: ChunkOption = None,
    overlap: OverlapOption = None,
    hop: HopOption = None,
    geometry: GeometryOption = None,
    show_plan: Annotated[bool, typer.Option("--plan", help="Print where each song is cut.")] = False,
) -> None:
    """Split songs into stems, at the rate, channels and length of the input (wav, float32)."""
    from bandsplit.inference.separator import Separator, check_outputs

    console = make_console()
    check_outputs(files)
    separator = Separator(model, device=device, chunks=chunk_config(method, chunk, overlap, hop, geometry))
    failed = 0
    for file in files:
        try:
            with _file_progress(console, file) as progress:
                result = separator.separate_file(file, out, progress)
        except BandsplitError as error:
            failed += 1
            tell(console, f"failed: {error}", style="red")
            continue
        for note in result.notes:
            tell(console, f"note: {file.name}: {note}")
        if show_plan:
            tell(console, str(result.plan))
        times = f"{result.audio_s:.1f} s in {result.wall_s:.1f} s, {result.audio_s / result.wall_s:.1f} x real time"
        tell(console, f"{file} -> {out / result.track}  ({times})")
    if failed:
        tell(console, f"{failed} of {len(files)} file(s) failed, {len(files) - failed} done", style="red")
        raise typer.Exit(1)


@contextmanager
def _file_progress(console: Console, file: Path) -> Iterator[Callable[[float, float], None]]:
    """A bar for one file, fed with seconds done and seconds in all."""
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(escape(file.name))
        yield lambda done_s, total_s: bar.update(task, completed=done_s, total=total_s)

"""The command ``bandsplit separate``."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bandsplit.cli.terminal import (
    CHUNKS,
    DEVICE_HELP,
    ChunkOption,
    GeometryOption,
    HopOption,
    MethodOption,
    OverlapOption,
    chunk_settings,
    make_console,
    split_names,
    tell,
)
from bandsplit.core.errors import BandsplitError, Cancelled, ConfigError
from bandsplit.core.interrupt import check, stopping

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from bandsplit.separation.batch import Batch, Song
    from bandsplit.separation.forecast import Forecast

MODEL_NAMES = ("--name", "-n", "--model", "-m")
_models, _output, _levels, _part, _chunks, _batch = (
    partial(typer.Option, rich_help_panel=panel) for panel in ("Models", "Output", "Levels", "Part", CHUNKS, "Batch")
)


def separate(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="SONGS", help="Files, folders, patterns, @list.txt (a name a line), - (names from stdin)."
        ),
    ],
    model: Annotated[
        list[str] | None,
        _models(
            *MODEL_NAMES,
            metavar="MODEL",
            help="Model file, folder of some, or name as in `bandsplit models list`; repeat it for models of several "
            "targets (default: the best that is here).",
        ),
    ] = None,
    yes: Annotated[
        bool,
        _models("--yes", "-y", help="Fetch a model that is not here without asking."),
    ] = False,
    stems: Annotated[
        str | None,
        _models("--stems", "--targets", metavar="A,B", help="Compute these alone; separated by commas."),
    ] = None,
    device: Annotated[str, _models("--device", "-d", metavar="DEVICE", help=DEVICE_HELP)] = "auto",
    runtime: Annotated[
        Literal["auto", "torch", "onnx"],
        _models("--runtime", help="What computes: auto takes onnxruntime for .onnx files, else PyTorch."),
    ] = "auto",
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"],
        _models("--precision", help="Of products; bf16 and fp16 are quicker on GPUs."),
    ] = "fp32",
    out: Annotated[
        Path,
        _output("--out", "-o", metavar="OUT", help="Folder of the stems and of manifest.jsonl."),
    ] = Path("separated"),
    filename: Annotated[
        str,
        _output("--filename", metavar="PATTERN", help="Names below OUT: {track} {trackext} {stem} {ext} {model}."),
    ] = "{track}/{stem}.{ext}",
    two_stems: Annotated[
        str | None,
        _output("--two-stems", metavar="STEM", help="Write STEM, and no_STEM: the rest."),
    ] = None,
    residual: Annotated[
        str | None,
        _output("--residual", metavar="NAME", help="Write one more stem: what the others lack."),
    ] = None,
    flac: Annotated[bool, _output("--flac", help="Write flac, 24 bit.")] = False,
    ogg: Annotated[bool, _output("--ogg", help="Write Ogg Vorbis.")] = False,
    mp3: Annotated[bool, _output("--mp3", help="Write mp3.")] = False,
    mp3_bitrate: Annotated[int | None, _output("--mp3-bitrate", metavar="KBPS", help="kbit/s, 32 to 320.")] = None,
    int16: Annotated[bool, _output("--int16", help="16-bit samples, for wav and flac.")] = False,
    int24: Annotated[bool, _output("--int24", help="24-bit samples, for wav and flac.")] = False,
    float32: Annotated[bool, _output("--float32", help="Float samples, for wav (default).")] = False,
    consistent: Annotated[
        bool,
        _levels("--consistent", help="Spread what the stems lack over them: they sum to the mixture."),
    ] = False,
    clip_mode: Annotated[
        Literal["rescale", "clamp", "none"] | None,
        _levels(
            "--clip-mode",
            help="Beyond full scale: one gain for all stems, limit, nothing. Default: none for float wav, else "
            "rescale.",
        ),
    ] = None,
    start: Annotated[float, _part("--start", metavar="S", help="Begin here, in seconds.", min=0)] = 0,
    duration: Annotated[
        float | None,
        _part("--duration", metavar="S", help="Take at most so many seconds.", min=0),
    ] = None,
    method: MethodOption = None,
    chunk: ChunkOption = None,
    overlap: OverlapOption = None,
    hop: HopOption = None,
    geometry: GeometryOption = None,
    jobs: Annotated[int, _batch("--jobs", "-j", metavar="N", help="Songs at a time.", min=1)] = 1,
    shard: Annotated[
        str | None,
        _batch("--shard", metavar="I/N", help="Take every N-th song from the I-th on."),
    ] = None,
    force: Annotated[bool, _batch("--force", "-f", help="Separate again what is done.")] = False,
    as_json: Annotated[bool, _batch("--json", help="Print one JSON object per file on stdout.")] = False,
    dry_run: Annotated[
        bool,
        _batch("--dry-run", help="Say what would be done, and about how long it takes."),
    ] = False,
    batch_size: Annotated[
        int | None,
        _chunks("--batch-size", metavar="N", help="Chunks at once (default: the CPU's threads; 4 on a GPU).", min=1),
    ] = None,
    show_plan: Annotated[bool, _chunks("--plan", help="Print where each song is cut.")] = False,
) -> None:
    """Split songs into stems, at the rate, channels and length of the input; to float32 wav unless told otherwise.

    What was separated before by the same models and settings is left as it is. Exit code 0: all done; 1: some failed.
    """
    from bandsplit.cli.model_choice import choose_separator
    from bandsplit.core.machine import cpu_threads
    from bandsplit.separation.batch import Batch, choose_shard, find_songs
    from bandsplit.separation.outputs import OutputConfig

    formats = {"--flac": flac, "--ogg": ogg, "--mp3": mp3}
    samples = {"--int16": int16, "--int24": int24, "--float32": float32}
    subtypes = {"--int16": "PCM_16", "--int24": "PCM_24", "--float32": "FLOAT", "": None}
    output = OutputConfig.parse(
        {
            "filename": filename, "ext": (_choose(formats) or "--wav")[2:], "subtype": subtypes[_choose(samples)],
            "kbps": mp3_bitrate, "clip_mode": clip_mode, "consistent": consistent, "residual": residual,
            "two_stems": two_stems,
        }
    )  # fmt: skip
    chunks = chunk_settings(method, chunk, overlap, hop, geometry)
    console = make_console()
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # names need not be text
    songs = find_songs(files, out, sys.stdin if "-" in files else ())
    songs = choose_shard(songs, shard) if shard else songs
    _end_without_songs(console, songs, as_json)
    wanted = split_names(stems) if stems is not None else (two_stems,) if two_stems else None
    separator = choose_separator(
        console, model or [], yes, device=device, chunks=chunks, batch_size=batch_size, targets=wanted,
        runtime=runtime, threads=max(1, cpu_threads() // jobs), precision=precision,
    )  # fmt: skip
    batch = Batch(separator, out, output, start_s=start, duration_s=duration, shard=shard)
    for note in batch.notes:
        tell(console, f"note: {note}")
    batch.check(songs)
    work = _Work(batch, console, as_json=as_json, force=force, show_plan=show_plan, many=jobs > 1)
    if dry_run:
        failed = work.foretell(songs)
    else:
        try:
            with _limit_threads(jobs):
                failed = work.run(songs, jobs)
        except KeyboardInterrupt:
            tell(console, "stopped; finished songs stay, and the same command does the others", style="red")
            raise typer.Exit(1) from None
    if failed:
        tell(console, f"{failed} of {len(songs)} file(s) failed, {len(songs) - failed} done", style="red")
        raise typer.Exit(1)


class _Work:
    """Songs one by one or several at a time, and what is said of them."""

    def __init__(
        self, batch: Batch, console: Console, *, as_json: bool, force: bool, show_plan: bool, many: bool
    ) -> None:
        self.batch, self.console, self.as_json = batch, console, as_json
        self.force, self.show_plan, self.many = force, show_plan, many

    def run(self, songs: Sequence[Song], jobs: int) -> int:
        """Separate the songs; return how many failed."""
        from concurrent.futures import ThreadPoolExecutor

        from rich.progress import Progress

        bar = Progress(console=self.console, transient=True, disable=not self.console.is_terminal)
        with bar:
            if jobs == 1:
                failed = sum(not self._separate(song, bar) for song in songs)
            else:
                with ThreadPoolExecutor(jobs, initializer=_use_threads, initargs=(_threads(),)) as pool:
                    try:
                        futures = [pool.submit(self._separate, song, bar) for song in songs]
                        failed = sum(not future.result() for future in futures)
                    finally:
                        pool.shutdown(cancel_futures=True)
        check()
        return failed

    def foretell(self, songs: Sequence[Song]) -> int:
        """Say what would be done, and about how long it takes; return how many songs cannot be separated."""
        from bandsplit.separation.forecast import Forecast

        forecast, planned, total_s, failed = Forecast(self.batch.separator), 0, 0.0, 0
        for song in songs:
            try:
                record = self._foretell(song, forecast)
            except BandsplitError as error:
                failed += not self._fail(song, error)
                continue
            self._print(record)
            if record["status"] == "planned":
                planned, total_s = planned + 1, total_s + record["about_s"]
        if planned > 1:
            tell(self.console, f"{planned} songs to do, one after the other in {_about(total_s)}")
        return failed

    def _foretell(self, song: Song, forecast: Forecast) -> dict[str, Any]:
        from bandsplit.audio.decoding import open_song

        is_done = self._is_done(song)
        record = self.batch.describe(song, "skipped" if is_done else "planned")
        with open_song(song.path, **self.batch.part) as source:
            plan = self.batch.separator.plan(source.samples, source.sample_rate_hz)
            notes = self.batch.separator.notes(source.channels, source.sample_rate_hz, str(song.path))
            what = "is done already"
            if not is_done:
                cost = forecast.cost(plan, source.channels)
                memory = "" if cost.megabytes is None else f" and {cost.megabytes:.0f} MB of memory"
                what = f"{plan.title}; {_about(cost.seconds)}{memory}"
                record |= {"about_s": cost.seconds, "about_mb": cost.megabytes}
        tell(self.console, f"{song.path} -> {self.batch.out_dir}: {', '.join(record['outputs'].values())} ({what})")
        for note in (source.note, *notes) if not is_done else ():
            if note:
                tell(self.console, f"note: {song.path.name}: {note}")
        return record

    def _separate(self, song: Song, bar: Progress) -> bool:
        from rich.markup import escape

        from bandsplit.core.printable import printable

        if stopping():
            return False
        try:
            if self._is_done(song):
                tell(self.console, f"{song.path}: done already; --force separates it again")
                self._print(self.batch.describe(song, "skipped"))
                return True
            task = bar.add_task(escape(printable(song.path.name)))
            try:
                result, record = self.batch.separate(song, self._progress(bar, task))
            finally:
                bar.remove_task(task)
        except Cancelled:
            return False  # told by who stopped it
        except BandsplitError as error:
            return self._fail(song, error)
        for note in result.notes:
            tell(self.console, f"note: {song.path.name}: {note}")
        if self.show_plan:
            tell(self.console, *str(result.plan).splitlines())
        times = f"{result.audio_s:.1f} s in {result.wall_s:.1f} s, {result.audio_s / result.wall_s:.1f} x real time"
        where = next(iter(result.paths.values())).parent
        tell(self.console, f"{song.path} -> {where}  ({times})")
        self._print(record)
        return True

    def _progress(self, bar: Progress, task: Any) -> Callable[[float, float, str], bool]:
        def progress(done_s: float, total_s: float, _stage: str) -> bool:
            bar.update(task, completed=done_s, total=total_s)
            return not stopping()

        return progress

    def _is_done(self, song: Song) -> bool:
        return not self.force and self.batch.is_done(song)

    def _fail(self, song: Song, error: BandsplitError) -> bool:
        _tell_failure(self.console, song, error, self.as_json)
        return False

    def _print(self, record: dict[str, Any]) -> None:
        if self.as_json:
            _print_json(record)


def _end_without_songs(console: Console, songs: Sequence[Song], as_json: bool) -> None:
    """End where none of the songs is there, before a model is looked for, loaded or even fetched."""
    from bandsplit.audio.opening import open_sound

    if not songs or any(os.path.exists(song.path) for song in songs):
        return
    for song in songs:
        try:
            open_sound(song.path).close()
        except BandsplitError as error:
            _tell_failure(console, song, error, as_json)
    raise typer.Exit(1)


def _tell_failure(console: Console, song: Song, error: BandsplitError, as_json: bool) -> None:
    tell(console, f"failed: {error}", style="red")
    if as_json:
        _print_json({"status": "failed", "input": str(song.path), "error": str(error)})


def _print_json(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def _about(seconds: float) -> str:
    for unit_s, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit_s:
            return f"about {seconds / unit_s:.1f} {unit}"
    return f"about {max(1, round(seconds))} s"


def _choose(options: dict[str, bool]) -> str:
    """Return the one option that is set, or nothing.

    Raises:
        ConfigError: several are.
    """
    chosen = [option for option, is_set in options.items() if is_set]
    if len(chosen) > 1:
        raise ConfigError(f"{' and '.join(chosen)}: exclude each other; choose one")
    return chosen[0] if chosen else ""


def _threads() -> int:
    """Return how many threads PyTorch uses here; none where it was not loaded."""
    torch = sys.modules.get("torch")
    return 0 if torch is None else torch.get_num_threads()


def _use_threads(count: int) -> None:
    """Let PyTorch use ``count`` threads here: a new thread would begin with what another job uses at that moment."""
    if count:
        sys.modules["torch"].set_num_threads(count)


@contextmanager
def _limit_threads(jobs: int) -> Iterator[None]:
    """Share the CPU's cores between jobs, which would get in each other's way otherwise: PyTorch's, if it is used."""
    before = _threads()
    _use_threads(before and max(1, before // jobs))
    try:
        yield
    finally:
        _use_threads(before)

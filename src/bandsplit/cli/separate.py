"""The command ``bandsplit separate``."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from bandsplit.cli.options import DEVICE_HELP, MODEL_NAMES, ChunkOptions, chunk_option, complete_models, with_options
from bandsplit.cli.song_work import Patience, SongWork, limit_threads, print_failure, print_record
from bandsplit.cli.terminal import make_console, print_lines, split_names
from bandsplit.core.errors import BandsplitError, ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from bandsplit.core.stores import Store
    from bandsplit.separation.outputs import OutputConfig
    from bandsplit.separation.ray_workers import BatchRecipe
    from bandsplit.separation.songs import Song

_models, _output, _levels, _part, _batch = (
    partial(typer.Option, rich_help_panel=panel) for panel in ("Models", "Output", "Levels", "Part", "Batch")
)


@dataclass(frozen=True)
class ModelOptions:
    """Models that separate, and the device, runtime and precision that compute them."""

    model: Annotated[
        list[str] | None,
        _models(
            *MODEL_NAMES,
            metavar="MODEL",
            autocompletion=complete_models,
            help="Model file, bag, folder of model files, or name in `bandsplit models list`; repeat it for models of "
            "several targets (default: the best one installed).",
        ),
    ] = None
    yes: Annotated[bool, _models("--yes", "-y", help="Fetch a missing model without asking.")] = False
    stems: Annotated[
        str | None, _models("--stems", "--targets", metavar="A,B", help="Compute only these; separated by commas.")
    ] = None
    device: Annotated[str, _models("--device", "-d", metavar="DEVICE", help=DEVICE_HELP)] = "auto"
    runtime: Annotated[
        Literal["auto", "torch", "onnx", "native"],
        _models(
            "--runtime",
            help="Library that computes; native: the CPU kernels; auto: onnxruntime for .onnx files, native where it "
            "computes the model on a CPU, else PyTorch.",
        ),
    ] = "auto"
    precision: Annotated[
        Literal["fp32", "bf16", "fp16", "int8"],
        _models(
            "--precision",
            help="Of products; bf16 and fp16 are faster on GPUs, bf16 and int8 in the CPU kernels.",
        ),
    ] = "fp32"
    sequential: Annotated[
        bool, _models("--sequential", help="Keep one model of a bag in memory at a time; estimates wait in TMPDIR.")
    ] = False


@dataclass(frozen=True)
class OutputOptions:
    """Stems that are written, their folder, names and format."""

    out: Annotated[
        str,
        _output("--out", "-o", metavar="OUT", help="Folder for the stems and manifest.jsonl, or URI of a catalogue."),
    ] = "separated"
    filename: Annotated[
        str,
        _output(
            "--filename", metavar="PATTERN", help="Names in OUT: {track} {trackext} {folder} {stem} {ext} {model}."
        ),
    ] = "{track}/{stem}.{ext}"
    two_stems: Annotated[
        str | None, _output("--two-stems", metavar="STEM", help="Write STEM, and the rest as no_STEM.")
    ] = None
    residual: Annotated[
        str | None, _output("--residual", metavar="NAME", help="Write one more stem: the mixture minus the others.")
    ] = None
    flac: Annotated[bool, _output("--flac", help="Write flac, 24 bit.")] = False
    ogg: Annotated[bool, _output("--ogg", help="Write Ogg Vorbis.")] = False
    mp3: Annotated[bool, _output("--mp3", help="Write mp3.")] = False
    mp3_bitrate: Annotated[int | None, _output("--mp3-bitrate", metavar="KBPS", help="kbit/s, 32 to 320.")] = None
    int16: Annotated[bool, _output("--int16", help="16-bit samples, for wav and flac.")] = False
    int24: Annotated[bool, _output("--int24", help="24-bit samples, for wav and flac.")] = False
    float32: Annotated[bool, _output("--float32", help="Float samples, for wav (default).")] = False
    consistent: Annotated[
        bool, _levels("--consistent", help="Spread the residual over the stems, so that they sum to the mixture.")
    ] = False
    clip_mode: Annotated[
        Literal["rescale", "clamp", "none"] | None,
        _levels(
            "--clip-mode",
            help="Beyond full scale: rescale all stems by one gain, clamp, or do nothing. Default: none for float "
            "wav, else rescale.",
        ),
    ] = None

    def config(self) -> OutputConfig:
        """Return the settings of the output.

        Raises:
            ConfigError: options exclude each other, or a value is illegal.
        """
        from bandsplit.separation.outputs import OutputConfig

        formats = {"--flac": self.flac, "--ogg": self.ogg, "--mp3": self.mp3}
        samples = {"--int16": self.int16, "--int24": self.int24, "--float32": self.float32}
        subtypes = {"--int16": "PCM_16", "--int24": "PCM_24", "--float32": "FLOAT", "": None}
        return OutputConfig.parse(
            {
                "filename": self.filename, "ext": (_choose(formats) or "--wav")[2:],
                "subtype": subtypes[_choose(samples)], "kbps": self.mp3_bitrate, "clip_mode": self.clip_mode,
                "consistent": self.consistent, "residual": self.residual, "two_stems": self.two_stems,
            }
        )  # fmt: skip


@dataclass(frozen=True)
class PartOptions:
    """Part of each song that is separated."""

    start: Annotated[float, _part("--start", metavar="S", help="Start of the part, in seconds.", min=0)] = 0
    duration: Annotated[float | None, _part("--duration", metavar="S", help="At most this many seconds.", min=0)] = None


@dataclass(frozen=True)
class SongChunkOptions(ChunkOptions):
    """Chunks of a song, the number computed at once, and whether the plan is printed."""

    batch_size: Annotated[
        int | None,
        chunk_option(
            "--batch-size", metavar="N", help="Chunks at once (default: the CPU's threads; 4 on a GPU).", min=1
        ),
    ] = None
    show_plan: Annotated[bool, chunk_option("--plan", help="Print where each song is cut.")] = False


@dataclass(frozen=True)
class BatchOptions:
    """Processing of several songs."""

    jobs: Annotated[
        int | None,
        _batch(
            "--jobs", "-j", metavar="N", help="Songs at the same time (default: 1; on Ray one per GPU, or node).", min=1
        ),
    ] = None
    shard: Annotated[
        str | None, _batch("--shard", metavar="I/N", help="Separate every N-th song, from the I-th on.")
    ] = None
    runner: Annotated[
        Literal["local", "ray"], _batch("--runner", help="This process, or the workers of a Ray cluster.")
    ] = "local"
    ray_address: Annotated[
        str | None, _batch("--ray-address", metavar="HOST:PORT", help="Ray cluster (default: RAY_ADDRESS, else local).")
    ] = None
    attempts: Annotated[
        int, _batch("--attempts", metavar="N", help="Attempts at a song of a catalogue until it has failed.", min=1)
    ] = 3
    time_limit: Annotated[
        float | None,
        _batch("--time-limit", metavar="S", help="Seconds for a song (default: 3600 on Ray, else none).", min=0.1),
    ] = None
    force: Annotated[bool, _batch("--force", "-f", help="Separate again songs that are done.")] = False
    as_json: Annotated[bool, _batch("--json", help="Print one JSON object per file on stdout.")] = False
    dry_run: Annotated[bool, _batch("--dry-run", help="Print what would be done, and about how long it takes.")] = False

    def patience(self, is_catalogue: bool) -> Patience:
        """Return the attempts at each song, and their time limit."""
        limit_s = self.time_limit or (3600.0 if self.runner == "ray" else None)
        return Patience(self.attempts if is_catalogue else 1, limit_s)

    def check(self, songs: Sequence[Song]) -> None:
        """Refuse options that do not go together.

        Raises:
            ConfigError: there are such options.
        """
        if self.ray_address is not None and self.runner != "ray":
            raise ConfigError(f"--ray-address {self.ray_address}: is for --runner ray; add that, or leave it out")
        if self.dry_run and any(song.uri for song in songs):
            raise ConfigError("--dry-run: opens the songs, which must be local files; leave it out for URIs")


@with_options
def separate(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="SONGS", help="Files, folders, patterns, @list.txt (one name per line), - (names from stdin)."
        ),
    ],
    models: ModelOptions,
    output: OutputOptions,
    part: PartOptions,
    chunks: SongChunkOptions,
    batch: BatchOptions,
) -> None:
    """Split songs into stems, at the rate, channels and length of the input; by default to float32 wav.

    Songs that the same models and settings separated before are skipped. Exit code 0: all done; 1: some failed.
    """
    from bandsplit.core.stores import Store, is_uri

    config, options = output.config(), _separator_options(models, chunks, output.two_stems)
    console = make_console()
    store = Store(output.out) if batch.runner == "ray" or is_uri(output.out) else None
    listed = _find_songs(console, files, output.out, batch, is_catalogue=store is not None)
    with _cluster(batch) as json_to:  # before the models are read and anything is written
        _separate(console, json_to, listed, store, config, options, models, output, part, chunks, batch)


def _separate(
    console: Console,
    json_to: TextIO | None,
    listed: Sequence[Song],
    store: Store | None,
    config: OutputConfig,
    options: dict[str, Any],
    models: ModelOptions,
    output: OutputOptions,
    part: PartOptions,
    chunks: SongChunkOptions,
    batch: BatchOptions,
) -> None:
    """Separate the songs that were found."""
    from bandsplit.cli.model_choice import choose_models
    from bandsplit.core.machine import cpu_threads
    from bandsplit.separation.batch import Batch
    from bandsplit.separation.chunks import work_notes
    from bandsplit.separation.ray_workers import BatchRecipe
    from bandsplit.separation.separator import Separator
    from bandsplit.separation.songs import choose_shard

    files_of_models = choose_models(console, models.model or [], models.yes, models.runtime)
    here = batch.runner == "local" or batch.dry_run
    threads = max(1, cpu_threads() // (batch.jobs or 1)) if here else None
    separator = Separator(files_of_models, threads=threads, load=here, **options)
    times = {"start_s": part.start, "duration_s": part.duration}
    todo = Batch(separator, store or Path(output.out), config, **times, shard=batch.shard)
    for note in (*todo.notes, *work_notes(separator.chunks)):
        print_lines(console, f"note: {note}")
    songs = choose_shard(listed, batch.shard) if batch.shard else listed
    todo.check(songs)
    work = SongWork(todo, console, json_to=json_to, force=batch.force, show_plan=chunks.show_plan,
                    patience=batch.patience(store is not None))  # fmt: skip
    if batch.dry_run:
        failed = work.print_forecast(songs)
    else:
        if todo.catalogue is not None:
            print_lines(console, f"list of the songs: {output.out}/{todo.catalogue.write_list(listed)}")
        recipe = BatchRecipe.of(files_of_models, options, output.out, config, times)
        try:
            failed = _run(work, songs, batch, recipe)
        except KeyboardInterrupt:
            print_lines(
                console, "stopped; finished songs are kept; run the same command again for the others", style="red"
            )
            raise typer.Exit(1) from None
    if failed:
        print_lines(console, f"{failed} of {len(songs)} file(s) failed, {len(songs) - failed} done", style="red")
        raise typer.Exit(1)


@contextmanager
def _cluster(batch: BatchOptions) -> Iterator[TextIO | None]:
    """Connect to a cluster if songs are to be separated by one; yield where records go, if they are wanted."""
    json_to = sys.stdout if batch.as_json else None
    if batch.runner != "ray" or batch.dry_run:
        yield json_to
        return
    from bandsplit.separation.ray_workers import connected

    with redirect_stdout(sys.stderr), connected(batch.ray_address):  # Ray prints to stdout, which is for JSON alone
        yield json_to


def _run(work: SongWork, songs: Sequence[Song], batch: BatchOptions, recipe: BatchRecipe) -> int:
    """Separate the songs by the runner that was chosen; return how many failed."""
    if batch.runner == "ray":
        from bandsplit.separation.ray_workers import RayWorkers

        with closing(RayWorkers(recipe, batch.jobs, work.note)) as workers:
            return work.run_on(workers, songs)
    with limit_threads(batch.jobs or 1):
        return work.run(songs, batch.jobs or 1)


def _separator_options(models: ModelOptions, chunks: SongChunkOptions, two_stems: str | None) -> dict[str, Any]:
    """Return options of `Separator`, but for the threads, which depend on where it runs."""
    return {
        "device": models.device, "chunks": chunks.settings(), "batch_size": chunks.batch_size,
        "targets": _choose_stems(models.stems, two_stems), "runtime": models.runtime, "precision": models.precision,
        "sequential": models.sequential,
    }  # fmt: skip


def _find_songs(
    console: Console, files: Sequence[str], out: str, batch: BatchOptions, *, is_catalogue: bool
) -> list[Song]:
    """Find the songs, sorted for a catalogue; exit if none exists, before a model is searched for or even fetched."""
    from bandsplit.audio.opening import open_sound
    from bandsplit.separation.songs import choose_shard, find_songs, look_up

    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # file names may not be valid UTF-8
    songs = find_songs(files, out, sys.stdin if "-" in files else ())
    if batch.shard:
        choose_shard(songs, batch.shard)  # a wrong one is reported before the models are loaded
    batch.check(songs)
    if is_catalogue:
        songs = sorted((song.absolute() for song in look_up(songs)), key=lambda song: song.name)
    elif any(song.uri for song in songs):
        songs = look_up(songs)
    if not songs or any(song.uri or os.path.exists(song.path) for song in songs):
        return songs
    for song in songs:
        try:
            open_sound(song.path).close()
        except BandsplitError as error:
            record = print_failure(console, song, error)
            print_record(record, sys.stdout if batch.as_json else None)
    raise typer.Exit(1)


def _choose_stems(stems: str | None, two_stems: str | None) -> tuple[str, ...] | None:
    """Return the targets to compute, or None for all."""
    if stems is not None:
        return split_names(stems)
    return (two_stems,) if two_stems else None


def _choose(options: dict[str, bool]) -> str:
    """Return the one option that is set, or an empty string.

    Raises:
        ConfigError: several are set.
    """
    chosen = [option for option, is_set in options.items() if is_set]
    if len(chosen) > 1:
        raise ConfigError(f"{' and '.join(chosen)}: exclude each other; choose one")
    return chosen[0] if chosen else ""

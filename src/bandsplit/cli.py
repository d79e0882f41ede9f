"""The command line. Imports stay inside the commands, so that ``bandsplit --help`` is quick.

Exit codes: 0 all done, 1 something failed (the rest was done), 2 the command was not understood, 3 a training run was
stopped and can go on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bandsplit.cli_bench import bench_app
from bandsplit.cli_data import data_app
from bandsplit.cli_energy import energy_app
from bandsplit.cli_runs import runs as runs_command
from bandsplit.cli_train import train
from bandsplit.errors import BandsplitError, ConfigError, RunStopped
from bandsplit.terminal import (
    DEFAULT_STEMS,
    AllowOption,
    DataOption,
    DeviceOption,
    LengthsOption,
    MixtureOption,
    StemsOption,
    make_console,
    open_dataset,
    tell,
)

if TYPE_CHECKING:
    from rich.console import Console

    from bandsplit.config import ChunkConfig

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Band-split models for music separation: train, evaluate, compare, use.",
)
models_app = typer.Typer(
    no_args_is_help=True, help="List architectures, look at model files, import the authors' weights."
)
app.add_typer(models_app, name="models")
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")
app.add_typer(energy_app, name="energy")
app.command()(train)
app.command("runs")(runs_command)

MODEL_NAMES = ("--name", "-n", "--model", "-m")
MethodOption = Annotated[
    Literal["crossfade", "overlap-add"], typer.Option("--method", help="How a song is cut into chunks and joined.")
]
ChunkOption = Annotated[
    float | None,
    typer.Option(
        "--chunk", "--segment", help="Chunk length in seconds (default: 10 for crossfade, 3 for overlap-add).", min=0.01
    ),
]
OverlapOption = Annotated[
    float | None, typer.Option("--overlap", help="Shared part of crossfaded chunks, as a fraction (default: 0.1).")
]
HopOption = Annotated[
    float | None, typer.Option("--hop", help="Hop of overlap-add in seconds (default: 0.5).", min=0.001)
]
GeometryOption = Annotated[
    Literal["authors", "even"] | None,
    typer.Option("--geometry", help="Chunks as the paper's authors cut them, or equal ones (default: authors)."),
]


def main() -> None:
    """Run the command line; known errors become one message."""
    try:
        app()
    except RunStopped as stopped:
        typer.secho(str(stopped), fg="yellow", err=True)
        sys.exit(3)
    except BandsplitError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except KeyboardInterrupt:
        typer.secho("stopped", fg="red", err=True)
        sys.exit(1)


def _version(show: bool) -> None:
    if show:
        from bandsplit import __version__

        typer.echo(f"bandsplit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None: ...


@app.command()
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
    separator = Separator(model, device=device, chunks=_chunks(method, chunk, overlap, hop, geometry))
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


@app.command()
def evaluate(
    model: Annotated[
        list[Path],
        typer.Argument(
            help="Model files; those of different targets are scored together, a repeated target starts a new system."
        ),
    ],
    data: DataOption,
    split: Annotated[Literal["train", "valid", "test"], typer.Option("--split", help="Which songs.")] = "test",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Rows are added to this file (default: results/<data>-<split>.jsonl)."),
    ] = None,
    yardsticks: Annotated[
        bool,
        typer.Option(
            "--yardsticks",
            help="Score silence, the mixture, a static gain fitted on train/ and the ideal ratio mask too.",
        ),
    ] = False,
    device: DeviceOption = "auto",
    method: MethodOption = "crossfade",
    chunk: ChunkOption = None,
    overlap: OverlapOption = None,
    hop: HopOption = None,
    geometry: GeometryOption = None,
    stems: StemsOption = DEFAULT_STEMS,
    lengths: LengthsOption = "error",
    mixture: MixtureOption = "file",
    allow: AllowOption = False,
) -> None:
    """Score models on whole songs: uSDR and cSDR per song and target, as rows in a file and a table."""
    from rich.markup import escape

    from bandsplit.evaluation import System, model_systems
    from bandsplit.evaluation import evaluate as score
    from bandsplit.results import append_scores
    from bandsplit.tables import score_tables
    from bandsplit.yardsticks import yardstick_systems

    console = make_console()
    models = model_systems(model, device, _chunks(method, chunk, overlap, hop, geometry))
    splits = ("train", split) if yardsticks else (split,)
    dataset = open_dataset(console, data, splits, stems=stems, lengths=lengths, mixture=mixture, allow=allow)
    systems: dict[str, System] = {}
    if yardsticks:
        systems |= yardstick_systems(dataset.songs("train"), dataset.stems)
    systems |= models
    path = out or Path("results") / f"{dataset.name}-{split}.jsonl"
    rows = []
    with console.status("") as status:
        for number, some in enumerate(score(systems, dataset, split), start=len(systems)):
            append_scores(path, some)
            rows += some
            status.update(f"song {number // len(systems)} of {len(dataset.songs(split))}: {escape(some[0].track)}")
    for table in score_tables(rows):
        console.print(table.screen())
    tell(console, f"{len(rows)} rows added to {path}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where songs, run, stems and pictures go.")] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the songs and of the training.", min=0)] = 0,
) -> None:
    """Make songs, train a small network, score it on unseen songs, separate one, draw it: in minutes, on a CPU."""
    from bandsplit.demo import run_demo

    if not run_demo(folder, make_console(), seed=seed):
        raise typer.Exit(1)


@models_app.command("list")
def list_models() -> None:
    """Show every named architecture: parameters beside the paper's, targets, what it is in the paper."""
    from rich import box
    from rich.table import Table

    from bandsplit.models.build import count_parameters
    from bandsplit.recipes import RECIPES

    title = "Architectures: parameters of all four targets, in millions"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    for heading, place in (
        ("recipe", "left"),
        ("ours", "right"),
        ("paper", "right"),
        ("models", "left"),
        ("row", "left"),
    ):
        table.add_column(heading, justify=place, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("what it is")
    for recipe in filter(lambda recipe: recipe.architecture, RECIPES.values()):
        count_m = sum(count_parameters(config.model) for config in recipe.all_run_configs()) / 1e6
        digits = 2 if recipe.shared else 1
        published = "-" if recipe.parameters_m is None else f"{recipe.parameters_m:.{digits}f}"
        models = "1 of 4 targets" if recipe.shared else "4 of 1 target"
        table.add_row(recipe.id, f"{count_m:.{digits}f}", published, models, recipe.row or "-", recipe.about)
    make_console(err=False).print(table)


@models_app.command("show")
def show_model(file: Annotated[Path, typer.Argument(help="A model file.")]) -> None:
    """Show the card and the configuration of a model file."""
    from bandsplit.models.files import read_card

    config, card = read_card(file)
    for field, value in card:
        typer.echo(f"{field:18s} {value}")
    typer.echo(f"{'targets':18s} {', '.join(config.targets)}")
    typer.echo(f"{'sample_rate_hz':18s} {config.sample_rate_hz}")
    typer.echo(config.model_dump_json(indent=1))


@models_app.command("import")
def import_model(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint (.ckpt) of the paper's authors.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The model file to write (default: CHECKPOINT.safetensors).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing file.")] = False,
) -> None:
    """Turn a checkpoint of the paper's authors into a model file. No code in it is run."""
    from bandsplit.errors import ModelFileError
    from bandsplit.models.files import save_model
    from bandsplit.pretrained import import_checkpoint

    path = out or checkpoint.with_suffix(".safetensors")
    if path.exists() and not force:
        raise ModelFileError(f"{path}: exists already; choose another name with -o, or replace it with --force")
    model, card = import_checkpoint(checkpoint)
    save_model(path, model, card)
    parameters_m = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    targets = ", ".join(model.config.targets)
    typer.echo(f"{path}: {targets}, {parameters_m:.2f} M parameters, {model.config.sample_rate_hz} Hz")
    typer.echo(f"licence: {card.licence}\ntraining data: {card.training_data}")


@contextmanager
def _file_progress(console: Console, file: Path) -> Iterator[Callable[[float, float], None]]:
    """A bar for one file, fed with seconds done and seconds in all."""
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(escape(file.name))
        yield lambda done_s, total_s: bar.update(task, completed=done_s, total=total_s)


def _chunks(
    method: str, chunk: float | None, overlap: float | None, hop: float | None, geometry: str | None
) -> ChunkConfig:
    from bandsplit.config import CrossfadeConfig, OverlapAddConfig

    wrong = {"--hop": hop} if method == "crossfade" else {"--overlap": overlap, "--geometry": geometry}
    given = [option for option, value in wrong.items() if value is not None]
    if given:
        raise ConfigError(f"{', '.join(given)}: has no meaning with --method {method}; leave it out")
    values = {"chunk_s": chunk, "overlap": overlap, "hop_s": hop, "geometry": geometry}
    config = CrossfadeConfig if method == "crossfade" else OverlapAddConfig
    return config.parse({name: value for name, value in values.items() if value is not None})

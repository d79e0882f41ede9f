"""The command ``bandsplit evaluate``."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bandsplit.cli.options import ChunkOptions, DataOption, DatasetOptions, DeviceOption, with_options
from bandsplit.cli.terminal import make_console, print_lines, split_names
from bandsplit.core.errors import BandsplitError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from bandsplit.data.songs.tracks import Dataset
    from bandsplit.evaluation.results import Score
    from bandsplit.evaluation.systems import System


@dataclass(frozen=True)
class ScoringOptions:
    """Systems and songs that are scored, and the file of the scores."""

    model: Annotated[
        list[str] | None,
        typer.Argument(
            help="Model files, bags, folders of model files, or registered names; models of different targets are "
            "scored together, a repeated target starts a new system."
        ),
    ] = None
    estimates: Annotated[
        list[str] | None,
        typer.Option(
            "--estimates",
            metavar="[NAME=]DIR",
            help="Stems written by any tool: DIR/[<split>/]<song>/<target>.wav or .flac; repeatable.",
        ),
    ] = None
    split: Annotated[Literal["train", "valid", "test"], typer.Option("--split", help="Songs to score.")] = "test"
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File that rows are added to (default: results/<data>-<split>.jsonl)."),
    ] = None
    yardsticks: Annotated[
        bool,
        typer.Option(
            "--yardsticks",
            help="Also score silence, the mixture, a static gain fitted on train/, and ideal masks and filters.",
        ),
    ] = False
    targets: Annotated[
        str | None,
        typer.Option("--targets", help="Score only these, separated by commas (default: all that are estimated)."),
    ] = None
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", help="Processes that share the songs, one thread each.", min=1)
    ] = 1
    plan: Annotated[
        Literal["published", "same"],
        typer.Option(
            "--plan",
            help="How songs are cut: as each model's authors did, or alike for all models: crossfade of 10 s, even "
            "geometry. --method, --chunk and so on change either.",
        ),
    ] = "published"
    force: Annotated[bool, typer.Option("--force", help="Score again songs that the file holds already.")] = False
    all_metrics: Annotated[
        bool, typer.Option("--all-metrics", help="Show SI-SDR and L1-freq, too; the file always has them.")
    ] = False


@with_options
def evaluate(
    data: DataOption,
    scoring: ScoringOptions,
    *,
    device: DeviceOption = "auto",
    chunks: ChunkOptions,
    songs: DatasetOptions,
) -> None:
    """Score models, and stems of other tools, on complete songs: rows per song and target in a file, and tables.

    Scores that the file holds already are not computed again, so an interrupted evaluation continues where it stopped.
    """
    from bandsplit.cli.model_choice import choose_models
    from bandsplit.evaluation.evaluate import find_scored
    from bandsplit.evaluation.results import read_scores
    from bandsplit.evaluation.systems import model_systems
    from bandsplit.evaluation.tables import MAIN_METRICS, score_tables
    from bandsplit.separation.chunk_choice import SAME_PLAN, change_chunks

    console, split = make_console(), scoring.split
    if not (scoring.model or scoring.estimates or scoring.yardsticks):
        raise ConfigError("nothing to score: give model files, --estimates DIR or --yardsticks")
    settings = chunks.settings()
    plan = change_chunks(settings, SAME_PLAN) if scoring.plan == "same" else settings
    files = choose_models(console, scoring.model) if scoring.model else []
    models = model_systems(files, device, plan)
    dataset = songs.open(console, data, ("train", split) if scoring.yardsticks else (split,))
    wanted = _wanted(scoring.targets, dataset)
    systems = _yardsticks(console, dataset) if scoring.yardsticks else {}
    _add(systems, models)
    _add(systems, _estimates(console, scoring.estimates or [], dataset, split, wanted))
    path = scoring.out or Path("results") / f"{dataset.name}-{split}.jsonl"
    found: dict[tuple[str, str], list[Score]] = {}
    if path.exists() and not scoring.force:
        known = read_scores(path, lambda note: print_lines(console, f"note: {note}"))
        found = find_scored(systems, dataset, split, known, wanted)
    if found:
        print_lines(console, f"{len(found)} of {len(systems) * len(dataset.songs(split))} scored already, in {path}")
    rows = [row for some in found.values() for row in some]
    added = _score(console, path, systems, dataset, split, targets=wanted, jobs=scoring.jobs, skip=found.keys())
    order = list(systems)
    shown = [row for row in rows + added if scoring.all_metrics or row.metric in MAIN_METRICS]
    for table in score_tables(sorted(shown, key=lambda row: order.index(row.system))):
        console.print(table.screen())
    print_lines(console, f"{len(added)} rows added to {path}")


def _score(
    console: Console, path: Path, systems: dict[str, System], dataset: Dataset, split: str, **options: object
) -> list[Score]:
    from rich.markup import escape

    from bandsplit.core.interrupt import check
    from bandsplit.core.printable import printable
    from bandsplit.evaluation.evaluate import evaluate as score
    from bandsplit.evaluation.results import append_scores

    added: list[Score] = []
    scored = score(systems, dataset, split, **options)  # pyright: ignore[reportArgumentType]
    with console.status("") as status, closing(scored):
        for some in scored:
            check()
            append_scores(path, some)
            added += some
            done = len({row.track for row in added})
            status.update(f"song {done} of {len(dataset.songs(split))}: {escape(printable(some[0].track))}")
    return added


def _wanted(targets: str | None, dataset: Dataset) -> tuple[str, ...] | None:
    names = None if targets is None else split_names(targets)
    unknown = [name for name in names or () if name not in dataset.stems]
    if unknown or names == ():
        raise ConfigError(
            f"--targets {targets}: {', '.join(unknown) or 'nothing'} is not a stem of the data set; legal: "
            f"{', '.join(dataset.stems)}"
        )
    return names


def _yardsticks(console: Console, dataset: Dataset) -> dict[str, System]:
    from bandsplit.evaluation.yardsticks import WIENER_MISSING, has_wiener, yardstick_systems

    if not has_wiener():
        print_lines(console, WIENER_MISSING)
    train = [track for track in dataset.tracks if track.split == "train"]
    if not train:
        print_lines(console, "no songs in train/ to fit the static gain on: it is left out")
    return yardstick_systems(train, dataset.stems)


def _estimates(
    console: Console, given: Sequence[str], dataset: Dataset, split: str, targets: Sequence[str] | None
) -> dict[str, System]:
    from bandsplit.evaluation.estimates import EstimateFiles, name_and_folder

    systems: dict[str, System] = {}
    for text in given:
        name, folder = name_and_folder(text)
        files = EstimateFiles(folder, dataset.songs(split), targets or dataset.stems)
        for note in files.notes:
            print_lines(console, f"note: {note}")
        _add(systems, {name: files})
    return systems


def _add(systems: dict[str, System], others: dict[str, System]) -> None:
    for name, system in others.items():
        if name in systems:
            raise BandsplitError(f"{name}: is the name of two systems; name estimates with --estimates NAME=DIR")
        systems[name] = system

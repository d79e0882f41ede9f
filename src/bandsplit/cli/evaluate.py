"""The command ``bandsplit evaluate``."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bandsplit.cli.options import ChunkOptions, DataOption, DatasetOptions, DeviceOption, with_options
from bandsplit.cli.terminal import make_console, print_lines, split_names
from bandsplit.core.errors import BandsplitError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from bandsplit.data.songs.tracks import Dataset, Track
    from bandsplit.evaluation.results import Score
    from bandsplit.evaluation.systems import About, System
    from bandsplit.separation.systems import Chunks


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
    plans: Annotated[
        str,
        typer.Option(
            "--plans",
            "--plan",
            help="How songs are cut: `published`, as each model's authors did; `same`, alike for all models: crossfade "
            "of 10 s, even geometry; or a method, with the chunks of each model. Several, separated by commas, are "
            "scored in one go. --method, --chunk and so on change each.",
        ),
    ] = "published"
    force: Annotated[bool, typer.Option("--force", help="Score again songs that the file holds already.")] = False
    all_metrics: Annotated[
        bool,
        typer.Option(
            "--all-metrics",
            help="Show SI-SDR, SI-SAR, L1-freq, bleedless, fullness and log-spectral distance, too; the file always "
            "has them.",
        ),
    ] = False
    conventions: Annotated[
        bool,
        typer.Option(
            "--conventions", help="Show for each system its SDR by every convention in use, from the same estimates."
        ),
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
    from bandsplit.evaluation.evaluate import Scored, find_scored
    from bandsplit.evaluation.results import read_scores

    console, split = make_console(), scoring.split
    if not (scoring.model or scoring.estimates or scoring.yardsticks):
        raise ConfigError("nothing to score: give model files, --estimates DIR or --yardsticks")
    plans = _plans(scoring.plans, chunks.settings())
    files = choose_models(console, scoring.model) if scoring.model else []
    models = _models(files, device, plans)
    dataset = songs.open(console, data, ("train", split) if scoring.yardsticks else (split,))
    wanted = _wanted(scoring.targets, dataset)
    systems = _yardsticks(console, dataset) if scoring.yardsticks else {}
    _add(systems, _without_repeats(console, models, dataset, split))
    _add(systems, _estimates(console, scoring.estimates or [], dataset, split, wanted))
    path = scoring.out or Path("results") / f"{dataset.name}-{split}.jsonl"
    found = Scored({}, {})
    if path.exists() and not scoring.force:
        known = read_scores(path, lambda note: print_lines(console, f"note: {note}"))
        found = find_scored(systems, dataset, split, known, wanted)
    of_all = f"of {len(systems) * len(dataset.songs(split))}"
    if found.complete:
        print_lines(console, f"{len(found.complete)} {of_all} scored already, in {path}")
    if found.incomplete:
        print_lines(
            console,
            f"{len(found.incomplete)} {of_all} scored again: {path} lacks some of their rows, because a metric is new "
            "or the writer was stopped",
        )
    rows = [row for some in found.complete.values() for row in some]
    done = found.complete.keys()
    added = _score(console, path, systems, dataset, split, targets=wanted, jobs=scoring.jobs, skip=done)
    _print_tables(console, scoring, _in_order(rows + added, systems, dataset.songs(split)[0]))
    print_lines(console, f"{len(added)} rows added to {path}")


def _in_order(rows: list[Score], systems: Mapping[str, System], track: Track) -> list[Score]:
    """Sort rows by system and plan, in the order in which these were given."""
    abouts = {name: system.about(track) for name, system in systems.items()}
    names = list(dict.fromkeys(about.name or name for name, about in abouts.items()))
    plans = list(dict.fromkeys(about.inference for about in abouts.values()))
    return sorted(rows, key=lambda row: (names.index(row.system), plans.index(row.inference)))


def _print_tables(console: Console, scoring: ScoringOptions, rows: list[Score]) -> None:
    from bandsplit.evaluation.results import METRICS
    from bandsplit.evaluation.tables import MAIN_METRICS, convention_tables, score_tables

    all_metrics = [metric for metric in METRICS if METRICS[metric].listed]
    shown = all_metrics if scoring.all_metrics else MAIN_METRICS
    by_plan = len(split_names(scoring.plans)) > 1
    tables = score_tables((row for row in rows if row.metric in shown), by_plan)
    for table in tables + (convention_tables(rows) if scoring.conventions else []):
        console.print(table.screen())


def _plans(names: str, settings: Mapping[str, Any]) -> dict[str, Chunks]:
    """Return the plans of ``--plans`` by name, each complete or as changes to a model's own."""
    from bandsplit.separation.chunk_choice import SAME_PLAN, change_chunks, check_settings

    plans: dict[str, Chunks] = {}
    for name in split_names(names):
        if name == "published":
            plans[name] = settings
        elif name == "same":
            plans[name] = change_chunks(settings, SAME_PLAN)
        else:
            try:
                check_settings({}, name)
            except ConfigError as error:
                raise ConfigError(f"--plans {names}: {name} is not published, same or a method ({error})") from None
            if "kind" in settings:
                raise ConfigError(f"--plans {names}: {name} is a method; leave out --method {settings['kind']}")
            check_settings(settings, name)
            plans[name] = {**settings, "kind": name}
    if not plans:
        raise ConfigError("--plans: is empty; choose published, same, or methods")
    return plans


def _models(paths: Sequence[Path], device: str, plans: Mapping[str, Chunks]) -> dict[str, System]:
    """Load the models under each plan: under their own names, or with several plans, under theirs and the plan's."""
    from bandsplit.evaluation.systems import Named, model_systems

    if len(plans) == 1:
        return model_systems(paths, device, *plans.values())
    return {
        f"{name}, {plan}": Named(name, system)
        for plan, chunks in plans.items()
        for name, system in model_systems(paths, device, chunks).items()
    }


def _without_repeats(console: Console, models: Mapping[str, System], dataset: Dataset, split: str) -> dict[str, System]:
    """Leave out models under a plan that is, for them, the same as an earlier one."""
    systems: dict[str, System] = {}
    known: dict[About, str] = {}
    for name, system in models.items():
        about = system.about(dataset.whole_songs(split)[0])
        if about.name is not None and about in known:
            print_lines(console, f"{name}: the same plan as {known[about]}; scored once")
        else:
            systems[name], known[about] = system, name
    return systems


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

"""The outcome of a study: its tables, pictures and page, made from its current runs and scores."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bandsplit.audio import files as audio
from bandsplit.core.errors import BandsplitError, ConfigError
from bandsplit.core.files import write_atomically
from bandsplit.core.table import TextTable
from bandsplit.core.text import numbered
from bandsplit.data.songs.tracks import Audio, Dataset
from bandsplit.evaluation.groups import group
from bandsplit.evaluation.results import METRICS, Metric, Score, read_scores
from bandsplit.evaluation.tables import MAIN_METRICS
from bandsplit.reports.page import Report, ReportFigure, SongAudio, write_report
from bandsplit.runs.energy.report import find_runs, make_report
from bandsplit.runs.records import RunRecord
from bandsplit.separation.separator import Separator
from bandsplit.studies.costs.rows import Cost, read_costs
from bandsplit.studies.figures import StudyFigure, study_figures
from bandsplit.studies.plans import Study, planned_runs
from bandsplit.studies.runner.folder import StudyFolder
from bandsplit.studies.runner.scoring import SPLIT, Trained, find_systems
from bandsplit.studies.tables.cells import compare_systems, comparison_table
from bandsplit.studies.tables.rows import data_of_score, validation_scores
from bandsplit.studies.tables.systems import targets_differ
from bandsplit.studies.tables.validation import study_tables

PLAYED_S = 30.0
"""Longest part of a song on the page, taken from its middle."""


@dataclass(frozen=True)
class StudyData:
    """Everything that a study has produced so far."""

    study: Study
    folder: StudyFolder
    runs: tuple[RunRecord, ...]
    """Its runs in any state, and no others."""
    scores: tuple[Score, ...]
    """Scores on the test songs, of its recipes, and of systems without one: public weights and yardsticks."""
    costs: tuple[Cost, ...] = ()
    """Stored costs of its systems."""

    @property
    def empty(self) -> bool:
        """Whether nothing was run."""
        return not self.runs and not any(row.system in self.study.public for row in self.scores)


class StudyTables(NamedTuple):
    """The tables of a study, by names that are also file names."""

    parts: dict[str, TextTable]
    pairs: dict[str, TextTable]
    """Recipes compared pair by pair, see `comparison_tables`."""


def gather(study: Study, folder: StudyFolder, note: Callable[[str], None] = warnings.warn) -> StudyData:
    """Read the runs and scores of a study; ``note`` is called as by `read_scores`.

    Raises:
        BandsplitError: the file of scores or of costs is damaged.
    """
    looked = [run.record for run in folder.look(planned_runs(study))]
    runs = tuple(record for record in looked if record is not None and not record.changes)
    recipes, price = {run.recipe for run in runs}, study.budget and study.budget.price
    rows = read_scores(folder.scores, note) if folder.scores.exists() else []
    mine = tuple(row for row in rows if row.recipe is None or (row.recipe in recipes and row.budget == price))
    return StudyData(study, folder, runs, mine, tuple(read_costs(folder.costs, note).values()))


def write_tables(found: StudyData) -> StudyTables:
    """Write all tables into ``tables/``, as Markdown, LaTeX and CSV, and return them with their files."""
    folder = make_folder(found.folder.path / "tables")
    kinds = study_tables(found.study, found.runs, found.scores), comparison_tables(found)
    written = (
        {
            name: write_table(folder / name, replace(table, caption=_priced(found.study, table.caption)))
            for name, table in kind.items()
        }
        for kind in kinds
    )
    return StudyTables(*written)


def _priced(study: Study, caption: str) -> str:
    """Add the price at which every system of a study stopped."""
    return caption if study.budget is None else f"{caption}; each system trained for {study.budget.price}"


def write_table(place: Path, table: TextTable) -> TextTable:
    """Write a table as Markdown, LaTeX and CSV, and return it with its files.

    Raises:
        BandsplitError: a file cannot be written.
    """
    texts = {".md": table.markdown(), ".tex": table.latex(), ".csv": table.csv()}
    files = {place.with_name(f"{place.name}{suffix}"): text for suffix, text in texts.items()}
    for file, text in files.items():
        try:
            write_atomically(file, text.encode())
        except OSError as error:
            raise _refusal(error) from None
    return replace(table, files=tuple(files))


def draw_figures(found: StudyData, suffix: str = ".svg") -> list[StudyFigure]:
    """Draw all pictures into ``figures/``.

    Args:
        found: the study.
        suffix: ``.svg``, ``.png`` or ``.pdf``.
    """
    folder = make_folder(found.folder.path / "figures")
    made = study_figures(found.study, found.runs, found.scores, folder, suffix, found.costs)
    return [one._replace(caption=_priced(found.study, one.caption)) for one in made]


def comparison_tables(found: StudyData) -> dict[str, TextTable]:
    """Compare every two recipes or public weights, for each data set: by validation songs, uSDR and cSDR of test songs.

    Returns:
        Tables by a name that serves as a file's; those of further data sets end in ``-2``, ``-3`` and so on.
    """
    alike = {name for name in found.study.public if not targets_differ(found.study, name)}
    trained = [row for row in found.scores if row.recipe is not None or row.system in alike]
    validated = [row for run in found.runs if run.finished for row in validation_scores(run)]
    what: tuple[tuple[str, str, Sequence[Score], Metric], ...] = (
        ("validation", "validation", validated, "usdr_db"),
        *((f"test-{METRICS[metric].name.lower()}", "test", trained, metric) for metric in MAIN_METRICS),
    )
    tables = {}
    for name, split, rows, metric in what:
        for number, (data, some) in enumerate(group(rows, data_of_score).items(), start=1):
            comparisons = compare_systems(some, metric)
            text = f"{split} {METRICS[metric]}"
            caption = f"Pairs of recipes, {text}, on {data.text}: paired bootstrap over songs and seeds"
            if comparisons:
                tables[numbered(f"comparisons-{name}", number)] = comparison_table(comparisons, caption)
    return tables


def write_page(
    found: StudyData,
    *,
    dataset: Dataset | None = None,
    songs: int = 3,
    recipes: Sequence[str] = (),
    device: str = "auto",
) -> Path:
    """Write ``report/index.html`` with tables, pictures, energy, scores, and songs to listen to.

    Args:
        found: the study.
        dataset: has the test songs; without it, the page has no audio.
        songs: number of songs to listen to.
        recipes: those whose models separate them, with their first finished seed; by default the first and the best.
        device: separates them.

    Returns:
        The page.

    Raises:
        ConfigError: a recipe was not trained.
        BandsplitError: a song or a model cannot be read, or the folder holds something else.
    """
    tables = write_tables(found)
    played = [] if dataset is None else _play(found, dataset, songs, recipes, device)
    finished = sum(run.finished for run in found.runs)
    report = Report(
        title=f"Study {found.study.id}: {found.study.about}",
        notice=_notice(found),
        remarks=[f"{finished} of {len(planned_runs(found.study))} runs are finished."],
        tables=list(tables.parts.values()),
        figures=[ReportFigure(one.caption, one.path, one.caption) for one in draw_figures(found)],
        comparisons=list(tables.pairs.values()),
        energy=[_energy_table(found)] if found.runs else [],
        scores=[_named(row) for row in found.scores],
        songs=played,
    )
    return write_report(found.folder.path / "report", report)


def _notice(found: StudyData) -> str:
    if found.empty:
        return "No run of this study exists here: all numbers are published ones."
    places = {f"{run.data} ({_prints(run)})" for run in found.runs if not run.benchmark}
    public = [row for row in found.scores if row.system in found.study.public and not row.benchmark]
    others = sorted(places | {data_of_score(row).text for row in public})
    return f"Not measured on MUSDB18-HQ, but on {', '.join(others)}." if others else ""


def _prints(run: RunRecord) -> str:
    return ", ".join(f"{split} {value}" for split, value in run.fingerprints.items()) or "no fingerprint"


def _label(recipe: str, seed: int | None) -> str:
    return f"{recipe}, seed {seed}"


def _named(row: Score) -> Score:
    """Name the system of a row with its seed."""
    return row if row.recipe is None else row.model_copy(update={"system": _label(row.recipe, row.seed)})


def _energy_table(found: StudyData) -> TextTable:
    report = make_report(find_runs([found.folder.runs]))
    rows = [
        (
            line.recipe, " ".join(line.targets), str(line.seed), line.state, str(line.attempts),
            f"{line.hours:.3g}", f"{line.kwh:.3g}", f"{line.kwh_with_pue:.3g}",
        )
        for line in report.runs
    ]  # fmt: skip
    total = report.total
    rows.append(("all", "", "", "", "", f"{total.hours:.3g}", f"{total.kwh:.3g}", f"{total.kwh_with_pue:.3g}"))
    missing = len(report.without_card)
    notes = [
        "Every attempt counts, including failed and interrupted ones. Each includes the CPU and memory of the entire "
        "machine: simultaneous runs on one machine count them more than once."
    ]
    notes += [f"{one} ({one.source})" for one in report.equivalents]
    notes += [f"{missing} runs without an energy card are not counted."] if missing else []
    header = ("recipe", "targets", "seed", "state", "attempts", "hours", "kWh", "kWh with PUE")
    return TextTable("Energy of training", header, tuple(rows), tuple(notes))


# --- songs to listen to ----------------------------------------------------------------------------------------------


def _play(found: StudyData, dataset: Dataset, count: int, recipes: Sequence[str], device: str) -> list[SongAudio]:
    """Separate test songs and write the middle of each signal."""
    systems = _choose_systems(found, recipes)
    folder = found.folder.path / "songs"
    separators = {_label(one.recipe, one.seed): Separator(list(one.models), device=device) for one in systems}
    played = []
    for number, track in enumerate(dataset.whole_songs(SPLIT)[:count], start=1):
        song, rate_hz = track.load(), track.sample_rate_hz
        estimates = {name: separator.separate(song.mixture, rate_hz) for name, separator in separators.items()}
        targets = [target for target in song.stems if any(target in some for some in estimates.values())]
        here = folder / f"song-{number}"
        played.append(
            SongAudio(
                track.name,
                _write(here / "mixture.wav", song.mixture, rate_hz),
                _write_all(here / "reference", {target: song.stems[target] for target in targets}, rate_hz),
                {
                    name: _write_all(here / name.replace(", ", "-").replace(" ", "-"), some, rate_hz)
                    for name, some in estimates.items()
                },
            )
        )
    return played


def _choose_systems(found: StudyData, recipes: Sequence[str]) -> list[Trained]:
    """Choose the systems on the page: of each recipe, the first finished seed."""
    finished = [run.planned for run in found.folder.look(planned_runs(found.study)) if run.finished]
    systems, _ = find_systems(found.folder, found.study, finished)
    first = {one.recipe: one for one in reversed(systems)}
    unknown = [recipe for recipe in recipes if recipe not in first]
    if unknown:
        legal = ", ".join(one.recipe for one in systems if first[one.recipe] is one) or "none yet"
        raise ConfigError(f"--listen {unknown[0]}: no run of it is finished; finished: {legal}")
    if recipes or not systems:
        return [first[recipe] for recipe in dict.fromkeys(recipes)]
    return list(
        dict.fromkeys([first[systems[0].recipe], first[_best_recipe(found.scores, first) or systems[0].recipe]])
    )


def _best_recipe(scores: Sequence[Score], known: Mapping[str, Trained]) -> str | None:
    """Return the recipe with the highest mean test uSDR."""
    values: dict[str, list[float]] = {}
    for row in scores:
        if row.recipe is None or row.recipe not in known or row.metric != "usdr_db":
            continue
        if row.value is not None and np.isfinite(row.value):
            values.setdefault(row.recipe, []).append(row.value)
    return max(values, key=lambda recipe: statistics.fmean(values[recipe]), default=None)


def _write_all(folder: Path, signals: Mapping[str, Audio], rate_hz: int) -> dict[str, Path]:
    return {target: _write(folder / f"{target}.wav", signal, rate_hz) for target, signal in signals.items()}


def _write(path: Path, signal: Audio, rate_hz: int) -> Path:
    make_folder(path.parent)
    samples = min(signal.shape[1], round(PLAYED_S * rate_hz))
    start = (signal.shape[1] - samples) // 2
    audio.write(path, np.ascontiguousarray(signal[:, start : start + samples]), rate_hz)
    return path


def make_folder(folder: Path) -> Path:
    """Make a folder, if it does not exist.

    Raises:
        BandsplitError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refusal(error) from None
    return folder


def _refusal(error: OSError) -> BandsplitError:
    return BandsplitError(
        f"{error.filename}: cannot be written ({error.strerror}); fix that, or choose another --folder"
    )

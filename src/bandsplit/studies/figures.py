"""The figures of a study: convergence (the paper's Fig. 2), score against energy (Fig. 3), size and time.

Drawn without a display, without global state and without torch. Published points are hollow, ours are filled; points
that were measured on different songs are never in one picture.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bandsplit.core.errors import BandsplitError
from bandsplit.core.pictures import save_figure
from bandsplit.core.text import numbered
from bandsplit.evaluation.results import Score
from bandsplit.published import paper as published
from bandsplit.published.paper import AVERAGE
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.reports.curves import draw_validation_curves
from bandsplit.reports.scatter import DPI, LEGEND, Point, draw_scores
from bandsplit.runs.records import RunRecord
from bandsplit.studies.costs.pictures import KWH, cost_pictures
from bandsplit.studies.costs.rows import Cost
from bandsplit.studies.plans import Study
from bandsplit.studies.systems_figure import draw_systems
from bandsplit.studies.tables.cells import columns_of
from bandsplit.studies.tables.rows import (
    ANY_BENCHMARK,
    PUE,
    DataKey,
    Measured,
    data_of_run,
    measure_runs,
    measure_scores,
    measured_of,
    short_label,
    spread,
)


class StudyFigure(NamedTuple):
    """A written picture."""

    caption: str
    path: Path


def study_figures(
    study: Study,
    runs: Sequence[RunRecord],
    scores: Sequence[Score],
    folder: Path,
    suffix: str = ".png",
    costs: Sequence[Cost] = (),
) -> list[StudyFigure]:
    """Draw all figures of a study that have data.

    Args:
        study: the study.
        runs: its runs.
        scores: its scores on the test split.
        folder: where to put the pictures; it must exist.
        suffix: ``.png``, ``.svg`` or ``.pdf``.
        costs: its stored costs.

    Returns:
        The pictures; those of other data sets than MUSDB18-HQ end in ``-2``, ``-3`` and so on.

    Raises:
        BandsplitError: a picture cannot be written.
    """
    systems = draw_systems(study, runs, scores, folder, suffix) if study.systems else ()
    return [
        *(StudyFigure(caption, path) for caption, path in systems),
        *_draw_curves(study, runs, folder, suffix),
        *_draw_costs(study, runs, folder, suffix),
        *_draw_times(study, scores, folder, suffix),
        *_draw_stored(study, runs, scores, costs, folder, suffix),
    ]


def _draw_curves(study: Study, runs: Sequence[RunRecord], folder: Path, suffix: str) -> Iterator[StudyFigure]:
    """Draw validation curves for each data set: as Fig. 2 if the study has that part, otherwise of all runs."""
    convergence = [one.recipe for one in study.parts.get("convergence", ())]
    target = study.targets[0]
    for number, data in enumerate(_data_of(runs), start=1):
        here = [run for run in runs if run.validations and data_of_run(run) == data]
        shown = [run for run in here if run.recipe in convergence]
        if any(run.targets == (target,) and not run.changes for run in shown):
            path = folder / f"{numbered('convergence', number)}{suffix}"
            draw_convergence(path, shown, target)
            yield StudyFigure(f"Validation uSDR over epochs, {target}, on {data.text}; dashed: each run's best", path)
        elif here and not convergence:
            path = folder / f"{numbered('curves', number)}{suffix}"
            draw_validation_curves(path, here)
            yield StudyFigure(f"Validation uSDR over epochs, on {data.text}; dots: each run's best", path)


def _draw_costs(study: Study, runs: Sequence[RunRecord], folder: Path, suffix: str) -> Iterator[StudyFigure]:
    """Draw validation uSDR against energy and parameters for each data set: of Table II if there is one, as Fig. 3."""
    parts = ["table2"] if "table2" in study.parts else list(study.parts)
    recipes = list(dict.fromkeys(experiment.recipe for part in parts for experiment in study.parts[part]))
    by_data = measure_runs([run for run in runs if run.recipe in recipes], study.targets)
    key = columns_of(study.targets)[-1]
    keys = [data for data in by_data if data.published] or ([ANY_BENCHMARK] if study.id == "paper" else [])
    keys += [data for data in by_data if not data.published]
    costs = (
        ("energy", KWH, "the energy of training", None),
        ("parameters", "parameters, millions", "parameters", True),
    )
    for number, data in enumerate(keys, start=1):
        theirs = recipes if data.published else []
        for cost, axis, text, logarithmic in costs:
            points = [*_published_points(theirs, key, cost), *_points(by_data.get(data, []), key, cost)]
            if points:
                path = folder / f"{numbered(f'score-{cost}', number)}{suffix}"
                score = f"validation uSDR, dB ({key})"
                draw_scores(path, points, axis, score, f"On {data.text}", logarithmic=logarithmic)
                yield StudyFigure(f"{key}: validation uSDR against {text}, on {data.text}. {LEGEND}", path)


def _draw_times(study: Study, scores: Sequence[Score], folder: Path, suffix: str) -> Iterator[StudyFigure]:
    """Draw test uSDR against separation time for each data set."""
    key = columns_of(study.targets)[-1]
    for number, (data, points) in enumerate(_times(scores, key).items(), start=1):
        path = folder / f"{numbered('score-time', number)}{suffix}"
        axis = "seconds to separate one second of audio"
        draw_scores(path, points, axis, f"test uSDR, dB ({key})", title=f"On {data.text}")
        yield StudyFigure(f"{key}: test uSDR against separation time, on {data.text}. {LEGEND}", path)


def _draw_stored(
    study: Study,
    runs: Sequence[RunRecord],
    scores: Sequence[Score],
    costs: Sequence[Cost],
    folder: Path,
    suffix: str,
) -> Iterator[StudyFigure]:
    """Draw scores against stored costs for each machine and data set."""
    for one in cost_pictures(study, runs, scores, costs):
        path = folder / f"{one.name}{suffix}"
        draw_scores(path, one.points, one.cost_label, one.score_label, one.title)
        yield StudyFigure(one.caption, path)


def draw_convergence(path: Path, runs: Sequence[RunRecord], target: str = "vocals") -> None:
    """Draw validation uSDR over epochs: a panel for each patience, a colour for each seed, dashed each run's best.

    Args:
        path: the picture to write, in a format of its suffix.
        runs: the runs; those changed by hand, of other targets or without any validation are left out.
        target: the target.

    Raises:
        BandsplitError: there is nothing to draw, the runs saw different songs, or the picture cannot be written.
    """
    runs = [run for run in runs if run.targets == (target,) and run.validations and not run.changes]
    if not runs:
        raise BandsplitError(f"{path}: not drawn, no run of {target} has been validated yet")
    data = _data_of(runs)
    if len(data) > 1:
        texts = "; ".join(key.text for key in data)
        raise BandsplitError(f"{path}: not drawn, the runs saw different songs ({texts}); give those of one data set")
    patiences = sorted({run.patience or 0 for run in runs})
    seeds = sorted({run.seed or 0 for run in runs})
    palette = matplotlib.colormaps["tab10"]
    figure = Figure(figsize=(4.6 * len(patiences) + 1, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(patiences), sharey=True, squeeze=False)[0]
    for axes, patience in zip(panels, patiences, strict=True):
        for run in (run for run in runs if (run.patience or 0) == patience):
            colour = palette(seeds.index(run.seed or 0) % palette.N)
            points = [(row.epoch, row.validation_usdr_db) for row in run.validations]
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.2)
            if run.best:
                axes.axhline(run.best.validation_usdr_db, color=colour, linestyle="--", linewidth=1.0, alpha=0.8)
        axes.set(xlabel="epoch", title=f"patience {patience}")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
    panels[0].set_ylabel(f"validation uSDR, dB ({target})")
    handles = [Line2D([], [], color=palette(n % palette.N), label=f"seed {seed}") for n, seed in enumerate(seeds)]
    handles.append(Line2D([], [], color="black", linestyle="--", linewidth=1.0, label="best of the run"))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    figure.suptitle(f"On {data[0].text}", fontsize=10)
    save_figure(figure, path, DPI)


# --- points ----------------------------------------------------------------------------------------------------------


def _published_points(recipes: Sequence[str], key: str, cost: str) -> list[Point]:
    rows = [published.table2()[recipe] for recipe in recipes if recipe in published.table2()]
    points = []
    for row in rows:
        value = row.usdr_db.get(key)
        if value is not None:
            points.append(Point(row.row, row.energy_kwh if cost == "energy" else row.parameters_m, value, ours=False))
    return points


def _points(found: Sequence[Measured], key: str, cost: str) -> list[Point]:
    points = []
    for one in found:
        score = spread(one.seeds(key))
        energy = spread([kwh * PUE for kwh in one.kwh.values()]).mean
        size = one.parameters_m
        if size is None and key == AVERAGE and one.name in RECIPES:
            size = RECIPES[one.name].parameters_m
        x = energy if cost == "energy" else size
        if score.mean is not None and x:
            points.append(Point(short_label(one), x, score.mean, ours=True, std_db=score.std))
    return points


def _times(scores: Sequence[Score], key: str) -> dict[DataKey, list[Point]]:
    """Return points of test uSDR against time, of the systems whose time is known and whose values are scores."""
    made: dict[DataKey, list[Point]] = {}
    for data, found in measure_scores(scores, "usdr_db").items():
        for one in found:
            measured = measured_of(one)
            value = spread(measured.seeds(key))
            times = [
                row.wall_s / row.audio_s
                for row in scores
                if (row.recipe or row.system) == one.system and row.metric == "usdr_db" and row.wall_s and row.audio_s
                and all(getattr(row, name) == one.conditions[name] for name in ("fingerprint", "split", "inference"))
            ]  # fmt: skip
            if value.mean is not None and times and not one.seen:
                point = Point(short_label(measured), statistics.median(times), value.mean, ours=True, std_db=value.std)
                made.setdefault(data, []).append(point)
    return made


def _data_of(runs: Sequence[RunRecord]) -> list[DataKey]:
    found = dict.fromkeys(data_of_run(run) for run in runs)
    return sorted(found, key=lambda data: not data.published)

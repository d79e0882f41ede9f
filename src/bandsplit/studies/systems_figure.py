"""Figure of a study of systems: test scores of each as published, from public weights, and trained here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bandsplit.core.pictures import save_figure
from bandsplit.core.text import numbered
from bandsplit.evaluation.results import Score
from bandsplit.recipes.table1 import StudySystem
from bandsplit.reports.scatter import DPI
from bandsplit.runs.records import RunRecord
from bandsplit.studies.plans import Study
from bandsplit.studies.tables.cells import columns_of
from bandsplit.studies.tables.rows import spread
from bandsplit.studies.tables.systems import Line, systems_lines


class _Look(NamedTuple):
    """Appearance of a form."""

    marker: str
    colour: str
    filled: bool
    text: str


_PUBLISHED = _Look("o", "#8a8a8a", False, "published")
_PUBLISHED_EXTRA = _Look("D", "#8a8a8a", False, "published, extra data")
_PUBLIC = _Look("s", "#c05a1f", True, "public weights, scored here (name below: with their authors' plan)")
_TRAINED = _Look("o", "#1f5fbf", True, "trained here")
_LOOKS = (_PUBLISHED, _PUBLISHED_EXTRA, _PUBLIC, _TRAINED)


def draw_systems(
    study: Study, runs: Sequence[RunRecord], scores: Sequence[Score], folder: Path, suffix: str
) -> Iterator[tuple[str, Path]]:
    """Draw the cSDR of all systems, averaged over targets, for each data set; yield captions and pictures.

    Systems that were trained on the songs have no point.
    """
    column = columns_of(study.targets)[-1]
    for number, (data, groups) in enumerate(systems_lines(study, runs, scores).items(), start=1):
        points = [
            (system, line, value) for system, lines in groups for line in lines for value in _values(line, column)
        ]
        if points:
            path = folder / f"{numbered('systems', number)}{suffix}"
            _draw(path, points, f"test cSDR, dB ({column})", f"On {data.text}")
            yield f"{column}: test cSDR of systems, on {data.text}. Hollow: published; filled: measured here", path


def _values(line: Line, column: str) -> Iterator[tuple[_Look, float, float | None]]:
    if line.published is not None:
        value = line.published.csdr_db[column]
        if value is not None:
            yield _PUBLISHED_EXTRA if line.published.extra_data else _PUBLISHED, value, None
        return
    measured = spread(line.values.get((column, "csdr_db"), ()))
    if measured.mean is not None and not line.seen:
        yield _PUBLIC if line.form == "public" else _TRAINED, measured.mean, measured.std


def _draw(
    path: Path, points: Sequence[tuple[StudySystem, Line, tuple[_Look, float, float | None]]], axis: str, title: str
) -> None:
    names = list(dict.fromkeys(system.name for system, _, _ in points))
    figure = Figure(figsize=(8.4, 1.6 + 0.5 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for system, line, (look, value, std) in points:
        height = len(names) - 1 - names.index(system.name)
        if look is _PUBLIC:
            above = line.conditions is not None
            axes.annotate(
                line.name, (value, height), xytext=(0, 7 if above else -7), textcoords="offset points", fontsize=7,
                ha="center", va="bottom" if above else "top", color=look.colour,
            )  # fmt: skip
        axes.errorbar(
            value, height, xerr=std, fmt=look.marker, markersize=7,
            color=look.colour, markerfacecolor=look.colour if look.filled else "white", markeredgewidth=1.4,
            elinewidth=0.8, zorder=3 if look.filled else 2,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), reversed(names))
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(axis)
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(alpha=0.25)
    used = {look for _, _, (look, _, _) in points}
    handles = [
        Line2D(
            [], [], marker=look.marker, linestyle="", color=look.colour, label=look.text,
            markerfacecolor=look.colour if look.filled else "white",
        )
        for look in _LOOKS if look in used
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    save_figure(figure, path, DPI)

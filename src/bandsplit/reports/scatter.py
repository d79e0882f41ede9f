"""Pictures of score against cost: hollow and filled points, Pareto fronts, labels that cover nothing."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, NullFormatter

from bandsplit.core.errors import BandsplitError
from bandsplit.core.pictures import save_figure
from bandsplit.evaluation.groups import group
from bandsplit.evaluation.results import SEEN_MARK
from bandsplit.reports.labels import place_labels

_FRONT, _BEHIND = "#1f5fbf", "#8a8a8a"
_USUAL, _ESTIMATED, _SEEN = "o", "D", "X"
_WIDE_RANGE = 12.0
"""Ratio of the largest to the smallest value above which an axis is logarithmic."""
LEGEND = (
    "Hollow: published; filled: ours; blue: Pareto front (no other of its kind is better in one and no worse in the "
    "other)"
)
DPI = 130


class Point(NamedTuple):
    """A row in a picture."""

    label: str
    cost: float
    """Energy, parameters or time: less is better."""
    score_db: float
    ours: bool
    std_db: float | None = None
    """Spread over seeds."""
    estimated: bool = False
    """Whether the cost is an estimate."""
    seen: bool = False
    """Whether the system was trained on the songs: it is on no front."""
    extra_data: bool = False
    """Whether it was trained on more songs than the others: it is on no front."""

    @property
    def text(self) -> str:
        """Label, marked if the system was trained on the songs, or on more than others."""
        return self.label + ", extra data" * self.extra_data + f" {SEEN_MARK}" * self.seen

    @property
    def shape(self) -> str:
        """Matplotlib's name of the marker."""
        return _SEEN if self.seen else _ESTIMATED if self.estimated else _USUAL


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other dominates, that is, costs no more, scores no less and is better in one.

    The paper's words, "no other point yielding both a higher SDR and a lower energy", would keep points that tie with
    a cheaper one as well; with averages printed to 0.1 dB these are ties of rounding.

    Source: paper, section V-C; paper, Fig. 3.
    """
    return [
        point
        for point in points
        if not any(
            other.cost <= point.cost
            and other.score_db >= point.score_db
            and (other.cost < point.cost or other.score_db > point.score_db)
            for other in points
        )
    ]


def draw_scores(
    path: Path,
    points: Sequence[Point],
    cost_label: str,
    score_label: str,
    title: str = "",
    *,
    logarithmic: bool | None = None,
) -> None:
    """Draw score against cost, the Pareto front in blue, each point with its label next to it.

    Published points and ours have separate fronts.

    Args:
        path: the picture to write, in a format of its suffix.
        points: the points, all measured on the same songs.
        cost_label: of the horizontal axis.
        score_label: of the vertical axis.
        title: a line above.
        logarithmic: whether the horizontal axis is logarithmic; None: if the values span more than a factor of 12.

    Raises:
        BandsplitError: there is nothing to draw, or the picture cannot be written.
    """
    if not points:
        raise BandsplitError(f"{path}: not drawn, there are no points")
    figure = Figure(figsize=(8.4, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    costs = [point.cost for point in points]
    if max(costs) / min(costs) > _WIDE_RANGE if logarithmic is None else logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel=cost_label, ylabel=score_label)
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(alpha=0.25)
    axes.margins(0.08, 0.1)
    labels: list[Annotation] = []
    handles: list[Line2D] = []
    for ours in (False, True):
        kind = [point for point in points if point.ours == ours]
        front = set(pareto_front([point for point in kind if not point.seen and not point.extra_data]))
        labels += _plot_points(axes, kind, front, filled=ours)
        name = "ours" if ours else "published"
        handles += [_marker(_FRONT, f"{name}, Pareto front", filled=ours)] if front else []
        handles += [_marker(_BEHIND, name, filled=ours)] if front != set(kind) else []
    if any(point.estimated for point in points):
        handles.append(_marker(_BEHIND, "cost estimated", filled=False, shape=_ESTIMATED))
    if any(point.seen for point in points):
        handles.append(_marker(_BEHIND, f"{SEEN_MARK} trained on these songs", filled=True, shape=_SEEN))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    place_labels(figure, axes, labels)
    save_figure(figure, path, DPI)


def _plot_points(axes: Axes, points: Sequence[Point], front: Set[Point], *, filled: bool) -> list[Annotation]:
    """Plot points of one kind, those of the front on top, and return their labels, which still lie on the points."""
    for point in sorted(points, key=lambda point: point in front):
        colour = _FRONT if point in front else _BEHIND
        axes.errorbar(
            point.cost, point.score_db, yerr=point.std_db, fmt=point.shape, markersize=6.5, color=colour,
            markerfacecolor=colour if filled else "white", markeredgewidth=1.4, elinewidth=0.8,
            zorder=3 if point in front else 2,
        )  # fmt: skip
    places = group(points, lambda point: (point.cost, point.score_db))  # such as rows that print the same numbers
    return [
        axes.annotate(
            ", ".join(point.text for point in here), place, xytext=(0, 0), textcoords="offset points", fontsize=9,
            color=_BEHIND if front.isdisjoint(here) else _FRONT, fontweight="bold" if filled else "normal",
            ha="center", va="center", zorder=4,
        )
        for place, here in places.items()
    ]  # fmt: skip


def _marker(colour: str, text: str, *, filled: bool, shape: str = _USUAL) -> Line2D:
    face = colour if filled else "white"
    return Line2D([], [], marker=shape, linestyle="", color=colour, markerfacecolor=face, label=text)

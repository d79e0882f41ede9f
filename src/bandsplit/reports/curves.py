"""Validation curves of runs (the paper's Fig. 2), drawn without a display, without global state and without torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bandsplit.core.errors import RunError
from bandsplit.core.pictures import save_figure
from bandsplit.core.targets import TARGETS
from bandsplit.core.text import counted
from bandsplit.runs.records import RunRecord


def draw_validation_curves(path: Path, runs: Sequence[RunRecord]) -> None:
    """Draw validation uSDR over epochs: a panel for each target, a line for each run, a colour for each recipe.

    A dot marks each run's best epoch. Runs of one recipe that were changed by hand in different ways have colours of
    their own.

    Args:
        path: the picture to write, in a format of its suffix.
        runs: the runs; those without any validation are left out.

    Raises:
        RunError: no run has been validated yet, or the picture cannot be written.
    """
    runs = [run for run in runs if run.validations]
    if not runs:
        raise RunError(f"{path}: not drawn, no run has been validated yet")
    ranks = {name: number for number, name in enumerate(TARGETS)}
    order = sorted({run.targets for run in runs}, key=lambda names: (len(names), [ranks.get(n, 9) for n in names]))
    panels = {targets: [run for run in runs if run.targets == targets] for targets in order}
    labels = list(dict.fromkeys(_label(run) for run in runs))
    palette = matplotlib.colormaps["tab10" if len(labels) <= 10 else "tab20"]
    colours = {label: palette(number % palette.N) for number, label in enumerate(labels)}
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(7.5 if columns == 1 else 12, 3.6 * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (targets, group) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        for run in group:
            colour = colours[_label(run)]
            points = [(row.epoch, row.validation_usdr_db) for row in run.validations]
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.1, alpha=0.8)
            if run.best:
                best = (run.best.epoch, run.best.validation_usdr_db)
                axes.plot(*best, "o", color=colour, markersize=6, markeredgecolor="black", zorder=3)
        axes.set(title=", ".join(targets), xlabel="epoch", ylabel="validation uSDR, dB")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.25)
    counts = Counter(map(_label, runs)).items()
    handles = [Line2D([], [], color=colours[label], label=f"{label} ({counted(n, 'run')})") for label, n in counts]
    dot = Line2D([], [], marker="o", linestyle="", color="white", markeredgecolor="black", label="best epoch")
    figure.legend(handles=[*handles, dot], loc="outside lower center", ncols=2 if columns == 1 else 5, frameon=False)
    save_figure(figure, path, dpi=130)


def _label(run: RunRecord) -> str:
    changes = ", ".join(f"{path.rpartition('.')[2]}={value}" for path, value in run.changes.items())
    return f"{run.label} {changes}" if changes else run.label

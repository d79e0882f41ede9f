"""Score against price: a study at several budgets, as a table and a picture for each data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bandsplit.core.errors import BandsplitError, ConfigError
from bandsplit.core.pictures import save_figure
from bandsplit.core.table import TextTable
from bandsplit.core.text import numbered
from bandsplit.evaluation.results import Score
from bandsplit.evaluation.yardsticks import STATIC_GAIN
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.reports.scatter import DPI
from bandsplit.runs.budgets import Budget
from bandsplit.studies.outcome import StudyData, make_folder, write_table
from bandsplit.studies.plans import Study
from bandsplit.studies.tables.cells import CellRecord, columns_of, mean_text, record_of
from bandsplit.studies.tables.rows import NOT_RUN, DataKey, Measured, measure_scores, measured_of, spread


@dataclass(frozen=True)
class PricedScores:
    """Test uSDR of recipes at several prices, on the same songs."""

    data: DataKey
    column: str
    """The target, or "average"."""
    prices: tuple[Budget, ...]
    """The cheapest first."""
    recipes: Mapping[str, tuple[Measured | None, ...]]
    """By name, a value for each price; None: not scored."""
    reach_db: float | None
    """The static filter's."""


def scores_by_price(found: Sequence[StudyData]) -> list[PricedScores]:
    """Collect the test uSDR of one study at several prices, for each data set.

    Raises:
        ConfigError: a study has no budget, two have the same one, or their budgets are of different kinds.
    """
    budgets = [one.study.budget for one in found]
    known = [budget for budget in budgets if budget is not None]
    kinds, prices = {budget.kind for budget in known}, {budget.price for budget in known}
    if len(prices) < len(budgets) or len(kinds) > 1:
        listed = ", ".join("none" if budget is None else budget.price for budget in budgets)
        raise ConfigError(f"--budgets {listed}: cannot be compared; give different prices of one kind, such as flop")
    ordered = sorted(zip(known, found, strict=True), key=lambda pair: pair[0].amount)
    column = columns_of(found[0].study.targets)[-1]
    by_price = [measure_scores(_of_targets(one), "usdr_db") for _, one in ordered]
    made = []
    for data in dict.fromkeys(data for some in by_price for data in some):
        measured = [{one.name: measured_of(one) for one in some.get(data, []) if not one.seen} for some in by_price]
        first = {name: one for some in reversed(measured) for name, one in some.items() if one.name in RECIPES}
        names = sorted(first, key=lambda name: (list(RECIPES).index(first[name].name), name))
        values = {name: tuple(some.get(name) for some in measured) for name in names}
        reach = [value for some in measured if STATIC_GAIN in some for value in some[STATIC_GAIN].seeds(column)]
        paid = tuple(budget for budget, _ in ordered)
        made.append(PricedScores(data, column, paid, values, reach[0] if reach else None))
    return made


def _of_targets(found: StudyData) -> list[Score]:
    return [row for row in found.scores if row.target in found.study.targets]


def write_prices(found: Sequence[StudyData], folder: Path, suffix: str) -> tuple[dict[str, TextTable], list[Path]]:
    """Write ``tables/prices`` and draw ``figures/score-price`` for each data set.

    Args:
        found: the study at several prices.
        folder: where to make the two folders.
        suffix: ``.svg``, ``.png`` or ``.pdf``.

    Raises:
        BandsplitError: the prices cannot be compared, nothing is scored, or a file cannot be written.
    """
    tables, pictures = {}, []
    scores = scores_by_price(found)
    if not any(one.recipes for one in scores):
        raise BandsplitError(f"{folder}: no run of the study {found[0].study.id} at these prices is scored yet")
    for number, one in enumerate(scores, start=1):
        name = numbered("prices", number)
        tables[name] = write_table(make_folder(folder / "tables") / name, price_table(found[0].study, one))
        path = make_folder(folder / "figures") / f"{numbered('score-price', number)}{suffix}"
        draw_prices(path, one)
        pictures.append(path)
    return tables, pictures


def price_table(study: Study, scores: PricedScores) -> TextTable:
    """Tabulate recipes by price."""
    rows: list[tuple[str, ...]] = []
    records: list[CellRecord] = []
    for name, values in scores.recipes.items():
        cells = []
        for budget, one in zip(scores.prices, values, strict=True):
            seeds = one.seeds(scores.column) if one is not None else []
            cells.append(mean_text(spread(seeds), several=True) if seeds else NOT_RUN)
            fact = record_of(scores.column, "uSDR", "dB", None, seeds, NOT_RUN)
            records.append({"data": scores.data.text, "model": name, "price": budget.price, **fact})
        rows.append((name, *cells))
    notes = () if scores.reach_db is None else (f"{STATIC_GAIN}: {scores.reach_db:.2f} dB",)
    return TextTable(
        f"{study.id} by price of a system. Test uSDR, dB ({scores.column}), on {scores.data.text} (mean ± sample "
        "standard deviation over seeds, and their number)",
        ("recipe", *(budget.price for budget in scores.prices)),
        tuple(rows),
        notes,
        records=tuple(records),
    )


def draw_prices(path: Path, scores: PricedScores) -> None:
    """Draw score against price, a line for each recipe, with the spread over seeds; dashed: the static filter.

    Raises:
        BandsplitError: the picture cannot be written.
    """
    figure = Figure(figsize=(8.4, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    palette = matplotlib.colormaps["tab10" if len(scores.recipes) <= 10 else "tab20"]
    for number, (name, values) in enumerate(scores.recipes.items()):
        points = [
            (budget.amount, spread(one.seeds(scores.column)))
            for budget, one in zip(scores.prices, values, strict=True)
            if one is not None and one.seeds(scores.column)
        ]
        axes.errorbar(
            [amount for amount, _ in points], [value.mean or 0.0 for _, value in points],
            yerr=[value.std or 0.0 for _, value in points], marker="o", markersize=5, linewidth=1.3, elinewidth=0.8,
            capsize=2, color=palette(number % palette.N), label=name,
        )  # fmt: skip
    if scores.reach_db is not None:
        axes.axhline(scores.reach_db, color="black", linestyle="--", linewidth=1.0, label=STATIC_GAIN)
    axes.set_xscale("log")
    axes.set_xticks([budget.amount for budget in scores.prices], [budget.price for budget in scores.prices])
    axes.minorticks_off()
    axes.set(xlabel="price of a system", ylabel=f"test uSDR, dB ({scores.column})")
    axes.set_title(f"On {scores.data.text}", fontsize=10, loc="left")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    save_figure(figure, path, DPI)

"""Tables and lines of ``bandsplit study`` on the terminal: rows of a study, costs, progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from bandsplit.core.text import three_digits
from bandsplit.published.paper import AVERAGE, table2
from bandsplit.recipes.catalogue import RECIPES, find_recipe

if TYPE_CHECKING:
    from rich.table import Table

    from bandsplit.studies.plans import Study
    from bandsplit.studies.runner.costs import CostSum, RecipeCost
    from bandsplit.studies.runner.folder import StudyRun
    from bandsplit.studies.runner.status import Account, Left


_WHOLE = ("recipe", "best dB", "kWh published", "hours", "kWh measured")
"""Columns whose cells are not broken into lines."""


def list_table(study: Study) -> Table:
    """Tabulate the parts of a study: what is trained, what was published, what is changed; and public weights."""
    from bandsplit.models.pretrained.registry import find_entry
    from bandsplit.recipes.protocol import COMMON
    from bandsplit.studies.plans import PUBLIC

    table = _table(("part", "row", "recipe"), ("seeds", "dB", "kWh"), ("changes",))
    for part, experiments in study.parts.items():
        for number, (id, seeds) in enumerate(experiments):
            recipe, row = find_recipe(id), table2().get(id)
            published = (recipe.published_usdr_db or {}).get(AVERAGE)
            own = {path: value for path, value in recipe.changes.items() if not study.systems or path not in COMMON}
            changes = ", ".join(f"{path.split('.')[-1]} {_value(value)}" for path, value in own.items())
            if recipe.shared:
                changes = f"one model; {changes}"
            table.add_row(
                part if number == 0 else "", row.row if row else "-", id, " ".join(map(str, seeds)),
                three_digits(published), three_digits(row.energy_kwh if row else None),
                f"{recipe.parent}: {changes}" if recipe.parent in RECIPES else "-",
            )  # fmt: skip
    for number, name in enumerate(study.public):
        table.add_row("" if number else PUBLIC, "-", name, "-", "-", "-", find_entry(name).about)
    table.caption = (
        "dB, kWh: published validation uSDR, mean of four targets, and energy of training them with a PUE of 1.5; "
        "changes: the parent, and what differs from it"
        + (" but for the common protocol (docs/table1.md)" if study.systems else "")
    )
    table.caption_justify = "left"
    return table


def cost_table(study: Study, costs: Sequence[RecipeCost]) -> Table:
    """Tabulate the costs of the recipes of a plan."""
    from bandsplit.studies.runner.costs import sum_hours, sum_kwh

    measure = any(cost.measured is not None for cost in costs)
    table = _table(
        ("row", "recipe"),
        (
            "runs",
            "done",
            "begun",
            *(("updates",) if study.budget else ()),
            "kWh published",
            "GPU-h, about",
            *(("hours", "kWh measured") if measure else ()),
        ),
    )
    for cost in costs:
        row = table2().get(cost.recipe)
        begun = sum(run.record is not None for run in cost.left)
        cells = [row.row if row else "-", cost.recipe, len(cost.runs), len(cost.runs) - len(cost.left), begun]
        if study.budget is not None:
            cells.append("unknown" if cost.updates is None else f"{cost.updates:.0f}")
        cells += [_sum_text(cost.published_kwh), _sum_text(cost.gpu_hours)]
        if isinstance(cost.measured, str):
            cells += ["unknown", "unknown"]
        elif measure:
            cells += [_sum_text(sum_hours([cost], left=False)), _sum_text(sum_kwh([cost], left=False))]
        table.add_row(*map(str, cells))
    return table


def cost_totals(costs: Sequence[RecipeCost], *, measured: bool, published: bool = True) -> list[str]:
    """Return lines with the totals of a plan and their sources; those of ``published`` energy are for the paper's."""
    from bandsplit.studies.runner.costs import GPU_HOURS, PUBLISHED, sum_gpu_hours, sum_hours, sum_kwh, sum_published

    runs = [run for cost in costs for run in cost.runs]
    left = [run for run in runs if not run.finished]
    lines = [
        f"{len(runs)} runs: {len(runs) - len(left)} finished, {sum(run.record is not None for run in left)} begun, "
        f"{sum(run.record is None for run in left)} not begun"
    ]
    if published:
        lines += [
            f"published energy: all {_total(sum_published(run.planned for run in runs), 'kWh')}; "
            f"left {_total(sum_published(run.planned for run in left), 'kWh')} ({PUBLISHED})",
            f"GPU-hours: all {_total(sum_gpu_hours(run.planned for run in runs), 'h')}; "
            f"left {_total(sum_gpu_hours(run.planned for run in left), 'h')} ({GPU_HOURS})",
        ]
    if not measured:
        lines.append("hours on this machine: unknown; --measure trains some steps of each recipe here")
        return lines
    for what, unit, add in (("hours", "h", sum_hours), ("energy, without PUE", "kWh", sum_kwh)):
        whole, rest = add(costs, left=False), add(costs, left=True)
        lines.append(f"measured {what}: all {_total(whole, unit)}; left {_total(rest, unit)}")
    lines.append(
        "measured: some steps of each recipe with its first target, on this machine, one run after the other; "
        "from the fewest epochs (patience runs out at once) to the most; a run under way counts in full"
    )
    lines += [f"not measured: {cost.recipe}: {cost.measured}" for cost in costs if isinstance(cost.measured, str)]
    return lines


def status_table(runs: Sequence[StudyRun]) -> Table:
    """Tabulate the progress of each run."""
    table = _table(("recipe", "targets"), ("seed",), ("state",), ("best dB", "epochs", "hours", "kWh"))
    for run in runs:
        record, best = run.record, run.record and run.record.best
        score = None
        if record is not None and best is not None:
            by_loss = record.monitor == "loss"
            score = f"loss {best.validation_loss:.4f}" if by_loss else f"{best.validation_usdr_db:.2f}"
            score += f" @{best.epoch}"
        cells = (
            run.planned.recipe, " ".join(run.planned.targets), run.planned.seed, run.state, score or "-",
            record.epochs if record else "-",
            three_digits(record and record.hours), three_digits(record and record.kwh),
        )  # fmt: skip
        table.add_row(*map(str, cells), style="red" if run.failure is not None else None)
    return table


def status_lines(runs: Sequence[StudyRun], left: Left, account: Account | None) -> list[str]:
    """Return lines with the runs in each state, the remaining hours, and the energy of all attempts."""
    counts = Counter(run.state.stage.value for run in runs)
    lines = [f"{len(runs)} runs: " + ", ".join(f"{count} {state}" for state, count in counts.items())]
    if left.unknown:
        lines.append(f"left: {left.runs} runs; hours unknown, since no run is finished")
    elif left.runs:
        guess = f"; {left.guessed} of them guessed from other recipes" if left.guessed else ""
        hours = f"about {three_digits(left.hours)} h one after the other, estimated from finished runs"
        lines.append(f"left: {left.runs} runs, {hours}{guess}")
    if account is not None:
        least = f"; {account.without_card} runs without an energy card are not counted" if account.without_card else ""
        lines.append(
            f"energy of all {account.attempts} attempts: {three_digits(account.kwh)} kWh without PUE, of which "
            f"{three_digits(account.unfinished_kwh)} in runs that failed or are not finished{least}; "
            f"details: `bandsplit energy report`"
        )
    return lines


def _table(left: Iterable[str], right: Iterable[str], *more: Iterable[str]) -> Table:
    """Make a table of columns that are aligned left, right, left and so on."""
    from bandsplit.core.screen import lean_table

    table = lean_table()
    for number, names in enumerate((left, right, *more)):
        for name in names:
            table.add_column(name, justify="right" if number % 2 else "left", overflow="fold", no_wrap=name in _WHOLE)
    return table


def _value(value: object) -> str:
    """Format a setting; of a variant, only its kind."""
    if isinstance(value, Mapping):
        return str(value.get("kind", value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _sum_text(cost: CostSum) -> str:
    if cost.unknown == cost.runs:
        return "unknown"
    return _span(cost) + (f" + {cost.unknown} unknown" if cost.unknown else "")


def _total(cost: CostSum, unit: str) -> str:
    if cost.runs and cost.unknown == cost.runs:
        return f"unknown ({cost.runs} runs)"
    without = f" + {cost.unknown} runs without a figure" if cost.unknown else ""
    return f"{_span(cost)} {unit}{without}"


def _span(cost: CostSum) -> str:
    low, high = three_digits(cost.low), three_digits(cost.high)
    return low if cost.low == cost.high else f"{low} to {high}"

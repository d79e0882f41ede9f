"""Published systems in ``bandsplit study``: their forms and costs, consent to downloads, states."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from bandsplit.cli.terminal import print_lines
from bandsplit.core.text import counted, three_digits
from bandsplit.published.paper import AVERAGE, table2

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from bandsplit.studies.plans import Study
    from bandsplit.studies.runner.costs import RecipeCost
    from bandsplit.studies.runner.public import PublicState

_EXA = 1e18


def forms_table(study: Study, costs: Sequence[RecipeCost], public: Sequence[PublicState]) -> Table:
    """Tabulate systems in their forms, with what each costs: published, public weights, trained."""
    from bandsplit.core.fetching import in_gb
    from bandsplit.core.screen import lean_table
    from bandsplit.studies.runner.costs import counted_flop

    table = lean_table()
    for name in ("system", "form", "which", "state"):
        table.add_column(name, overflow="fold", no_wrap=name != "state")
    for name in ("runs", "download", "kWh published", "10^18 operations"):
        table.add_column(name, justify="right")
    for system in study.systems:
        lines = [
            ("public", one.entry.name, one.text, "-", "in cache" if one.cached else in_gb(one.entry.source.bytes),
             _published_kwh(one.entry.recipe), "-")
            for one in public if one.entry.name in system.public
        ] + [
            ("trained", cost.recipe, f"{len(cost.runs) - len(cost.left)} finished", str(len(cost.runs)), "-", "-",
             _exa(counted_flop(run.planned for run in cost.runs)))
            for cost in costs if cost.recipe in system.recipes
        ]  # fmt: skip
        scores = ", ".join(
            f"{row.csdr_db[AVERAGE]:.1f} dB{' with extra data' if row.extra_data else ''}" for row in system.published
        )
        for number, line in enumerate([("published", scores, "", "-", "-", "-", "-"), *lines] if lines else []):
            table.add_row("" if number else system.name, *line)
    return table


def _published_kwh(recipe: str | None) -> str:
    row = table2().get(recipe or "")
    return "-" if row is None else three_digits(row.energy_kwh)


def _exa(flop: float | None) -> str:
    return three_digits(None if flop is None else flop / _EXA)


def forms_totals(study: Study, costs: Sequence[RecipeCost], public: Sequence[PublicState]) -> list[str]:
    """Return lines with the downloads and the operations of a plan, and the limits of its systems."""
    from bandsplit.core.fetching import in_gb
    from bandsplit.studies.runner.costs import counted_flop

    absent = [one.entry for one in public if not one.cached and not one.scored]
    size = in_gb(sum(entry.source.bytes for entry in absent))
    left = counted_flop(run.planned for cost in costs for run in cost.left)
    every = counted_flop(run.planned for cost in costs for run in cost.runs)
    chosen = {*(one.entry.name for one in public), *(cost.recipe for cost in costs)}
    return [
        f"public weights, scored only: {len(public)}, of which {sum(one.scored > 0 for one in public)} are scored; "
        + (f"to download: {size} ({', '.join(entry.name for entry in absent)})" if absent else "nothing to download"),
        f"operations of training: all {_exa(every)}, left {_exa(left)} (10^18, of matrix "
        f"products, forward and backward, {'over all epochs' if study.budget is None else 'within the budget'})",
        "kWh published: energy that trained these weights, for all four targets and with a PUE of 1.5 (Table II)",
        *(f"{system.name}: {system.note}" for system in study.systems if chosen & {*system.public, *system.recipes}),
    ]


def public_lines(public: Sequence[PublicState]) -> list[str]:
    """Return lines with the states of public weights."""
    groups = {text: [one.entry.name for one in public if one.text == text] for text in ("scored", "not scored")}
    return [f"public weights, {text}: {', '.join(names)}" for text, names in groups.items() if names]


def failed_lines(public: Sequence[PublicState]) -> list[str]:
    """Return a line for each of the public weights that failed, with the reason."""
    return [f"FAILED: {one.entry.name}: {one.failure}" for one in public if one.failure is not None]


def consent(console: Console, public: Sequence[PublicState], yes: bool) -> tuple[str, ...]:
    """Return which public weights may be downloaded: all with ``yes``, otherwise those that a user agrees to."""
    from bandsplit.core.fetching import in_gb
    from bandsplit.core.settings import is_offline

    if yes:
        return tuple(one.entry.name for one in public)
    absent = [one.entry for one in public if not one.cached and not one.scored]
    if not absent or not sys.stdin.isatty() or is_offline():
        return ()
    for entry in absent:
        size = in_gb(entry.source.bytes)
        print_lines(console, f"{entry.name}: {size}; trained on: {entry.data_note}; licence: {entry.licence}")
    total = in_gb(sum(entry.source.bytes for entry in absent))
    agreed = typer.confirm(f"Fetch {counted(len(absent), 'model')} ({total})?", err=True)
    return tuple(entry.name for entry in absent) if agreed else ()

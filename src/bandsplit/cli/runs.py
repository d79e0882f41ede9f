"""The command ``bandsplit runs``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bandsplit.cli.terminal import make_console, print_lines, show_json

if TYPE_CHECKING:
    from rich.table import Table

    from bandsplit.runs.records import RunRecord


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder of all runs, or of one.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print everything known about each run, as JSON.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw validation uSDR per epoch into this .png, .svg or .pdf.")
    ] = None,
) -> None:
    """List all runs below a folder: state, best validation (@ its epoch), epochs, hours and energy.

    Exit code 1 if a folder is damaged.
    """
    from bandsplit.recipes.catalogue import RECIPES
    from bandsplit.runs.records import read_runs

    records = read_runs(folder, RECIPES)
    out = make_console(err=False)
    if as_json:
        show_json([record.as_json() for record in records])
    elif not records:
        print_lines(out, f"no runs below {folder}")
    else:
        out.print(_table(records, narrow=out.width < 100))
        for record in records:
            if record.changes:
                changes = ", ".join(f"{path}={value}" for path, value in record.changes.items())
                print_lines(out, f"* {record.folder}: {changes}")
        for record in records:
            for problem in record.problems:
                print_lines(out, f"DAMAGED: {record.folder}: {problem}", style="red")
    if plot is not None:
        from bandsplit.reports.curves import draw_validation_curves

        draw_validation_curves(plot, records)
        print_lines(make_console(), f"validation curves in {plot}")
    if any(record.problems for record in records):
        raise typer.Exit(1)


def _table(records: Sequence[RunRecord], *, narrow: bool) -> Table:
    from bandsplit.core.screen import lean_table
    from bandsplit.runs.records import Stage

    by_loss = [record.monitor == "loss" for record in records]
    heading = "best loss" if all(by_loss) else "best" if any(by_loss) else "best dB"
    table = lean_table(padding=(0, 0 if narrow else 1, 0, 0))
    table.add_column("recipe", no_wrap=True, overflow="fold")
    table.add_column("targets", min_width=7)
    table.add_column("seed", justify="right", no_wrap=True)
    table.add_column("state", min_width=11)  # wraps between words
    for name in (heading, "epochs", "hours", "kWh", "tries"):
        table.add_column(name, justify="right", no_wrap=True)
    for record in records:
        style = "red" if record.problems or record.state.stage is Stage.FAILED else None
        cells = _cells(record, any(by_loss) and not all(by_loss))
        table.add_row(*cells, style=style)
    return table


def _cells(record: RunRecord, name_unit: bool) -> list[str]:
    best = record.best
    score = "-"
    if best is not None:
        score = f"{best.validation_usdr_db:.2f}" if record.monitor == "usdr" else f"{best.validation_loss:.4f}"
        if name_unit:
            score += " dB" if record.monitor == "usdr" else " loss"
        score += f" @{best.epoch:<3d}"
    return [
        record.label,
        " ".join(record.targets) or "-",
        "-" if record.seed is None else str(record.seed),
        str(record.state),
        score,
        str(record.epochs),
        "-" if record.hours is None else f"{record.hours:.1f}",
        "-" if record.kwh is None else f"{record.kwh:.2f}",
        str(record.attempts),
    ]

"""The commands ``bandsplit energy ...``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bandsplit.cli.terminal import make_console, print_lines, show_json
from bandsplit.core.text import three_digits

if TYPE_CHECKING:
    from rich.table import Table

    from bandsplit.runs.energy.report import EnergyReport

energy_app = typer.Typer(no_args_is_help=True, help="Energy and CO2e of training, and everyday equivalents.")

RunsArgument = Annotated[
    list[Path] | None, typer.Argument(help="Folders of runs, or of many runs (default: runs).", show_default=False)
]


@energy_app.callback()
def _energy() -> None: ...


@energy_app.command()
def report(
    runs: RunsArgument = None,
    pue: Annotated[
        float | None, typer.Option("--pue", help="Power usage effectiveness, instead of each run's own.")
    ] = None,
    intensity: Annotated[
        float | None, typer.Option("--intensity", help="Grams of CO2e per kWh, instead of each run's own.")
    ] = None,
    country: Annotated[
        str | None, typer.Option("--country", help="A country instead, for example FRA: its mean, from codecarbon.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Sum the energy of all runs, interrupted ones included; compare it with the best model and everyday things."""
    from bandsplit.core.errors import ConfigError
    from bandsplit.runs.energy.report import find_runs, make_report
    from bandsplit.runs.energy.sensors import find_intensity

    if pue is not None and not 1 <= pue < 10:
        raise ConfigError(
            f"--pue {pue:g}: must be 1 or more, as in 1.5 (energy of the building / energy of the computers)"
        )
    found = make_report(find_runs(runs or [Path("runs")]), pue=pue, intensity=find_intensity(intensity, country))
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    out = make_console(err=False)
    if found.runs:
        out.print(_table(found))
        for text in _summary(found):
            print_lines(out, text)
    for line in found.runs:
        for text in [*line.missing, *line.problems]:
            print_lines(out, f"not counted: {line.folder}: {text}", style="red")
    for run in found.without_card:
        reasons = "; ".join(run.problems) or "energy/attempt-1.json is missing, too"
        print_lines(out, f"no energy card, not counted: {run.folder}: {reasons}", style="red")


def _table(found: EnergyReport) -> Table:
    from bandsplit.core.screen import lean_table

    table = lean_table(show_footer=True)
    total = found.total
    columns = {
        "run": "total",
        "tries": "",
        "hours": three_digits(total.hours),
        "p/t/v %": "",
        "kWh": three_digits(total.kwh),
        "x PUE": three_digits(total.kwh_with_pue),
        "kg CO2e": _part_of(total.runs, total.co2e_kg, total.co2e_kg_runs),
        "GA kWh": _part_of(total.runs, total.green_algorithms_kwh_with_pue, total.green_algorithms_kwh_with_pue_runs),
    }
    for name, footer in columns.items():
        left = name == "run"
        table.add_column(name, footer, justify="left" if left else "right", no_wrap=not left)
    for line in found.runs:
        targets = "+".join(target[:1] if len(line.targets) > 1 else target for target in line.targets)
        parts_kwh = [kwh or 0.0 for kwh in line.phases_kwh.values()]
        shares = [f"{100 * part / sum(parts_kwh):.0f}" if sum(parts_kwh) else "-" for part in parts_kwh]
        cells = [
            f"{line.recipe} {targets}" + ("" if line.seed is None else f" {line.seed}") + " <" * line.best,
            str(line.attempts),
            three_digits(line.hours),
            "/".join(shares),
            three_digits(line.kwh) + ("!" if line.missing or line.problems else ""),
            three_digits(line.kwh_with_pue),
            three_digits(line.co2e_kg),
            three_digits(line.green_algorithms_kwh_with_pue),
        ]
        table.add_row(*cells)
    return table


def _summary(found: EnergyReport) -> list[str]:
    best, total, lines = found.best, found.total, found.runs
    states = sorted({f"{part} {state}" for line in lines for part, state in line.components.items()})
    pues = sorted({f"{line.pue:g}" for line in lines})
    sources = sorted({f"{one.g_per_kwh:g} g/kWh ({one.source})" for line in lines if (one := line.intensity)})
    at_least = "at least " if any(line.missing or line.problems for line in lines) else ""
    text = [
        f"kWh: raw; p/t/v: its shares of preparation, training, validation; x PUE: times {', '.join(pues)}; "
        f"{', '.join(states)}; "
        "GA: Green Algorithms estimate, with PUE",
        f"CO2e: {', '.join(sources) or 'unknown; give --intensity or --country'}",
        f"all {total.runs} runs: {at_least}{three_digits(total.kwh_with_pue)} kWh with PUE",
    ]
    if best.total_to_best is not None:
        text.append(
            f"= {best.total_to_best:.1f} x the {three_digits(best.kwh_with_pue)} kWh of the best model "
            f"(<: {best.meaning})"
        )
    elif best.runs:
        text.append(f"no ratio to the best model: one of its runs has no energy card (best: {best.meaning})")
    else:
        text.append("no ratio to the best run: no run of an unchanged recipe (without *) was validated")
    for one in found.equivalents:
        text.append(f"= {one}, {one.kwh_of_one:g} kWh each ({one.source})")
    return text


def _part_of(runs: int, value: float | None, summed: int) -> str:
    """Format a sum over runs; if some lack the figure, add how many runs were summed."""
    return three_digits(value) + ("" if value is None or summed == runs else f" ({summed} runs)")

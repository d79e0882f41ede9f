"""The commands ``bandsplit energy ...``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bandsplit.cli.terminal import make_console, show_json, tell

if TYPE_CHECKING:
    from rich.table import Table

energy_app = typer.Typer(no_args_is_help=True, help="What training took: energy, CO2e, and what that compares to.")

RunsArgument = Annotated[
    list[Path] | None, typer.Argument(help="Folders of runs, or of many runs (default: runs).", show_default=False)
]


@energy_app.callback()
def _energy() -> None: ...


@energy_app.command()
def report(
    runs: RunsArgument = None,
    pue: Annotated[
        float | None, typer.Option("--pue", help="Power usage effectiveness, instead of what each run says.")
    ] = None,
    intensity: Annotated[
        float | None, typer.Option("--intensity", help="Grams of CO2e per kWh, instead of what each run says.")
    ] = None,
    country: Annotated[
        str | None, typer.Option("--country", help="Or the country, as in FRA: its mean intensity, from codecarbon.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Sum the energy of all runs, also interrupted ones, beside that of the best and everyday equivalents."""
    from bandsplit.core.errors import ConfigError
    from bandsplit.runs.energy.report import find_runs, make_report
    from bandsplit.runs.energy.sensors import find_intensity

    if pue is not None and not 1 <= pue < 10:
        raise ConfigError(
            f"--pue {pue:g}: must be 1 or more, as in 1.5 (energy of the building / energy of the computers)"
        )
    content = make_report(find_runs(runs or [Path("runs")]), pue=pue, intensity=find_intensity(intensity, country))
    if as_json:
        show_json(content)
        return
    out = make_console(err=False)
    if content["runs"]:
        out.print(_table(content))
        for line in _summary(content):
            tell(out, line)
    for line in content["runs"]:
        for text in [*line["missing"], *line["problems"]]:
            tell(out, f"not counted: {line['folder']}: {text}", style="red")
    for run in content["without_card"]:
        reasons = "; ".join(run["problems"]) or "not even energy/attempt-1.json"
        tell(out, f"no energy card, not counted: {run['folder']}: {reasons}", style="red")


def _table(content: Mapping[str, Any]) -> Table:
    from rich import box

    from bandsplit.core.screen import PlainTable

    table = PlainTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_footer=True)
    total = content["total"]
    columns = {
        "run": "total",
        "tries": "",
        "hours": _figure(total["hours"]),
        "p/t/v %": "",
        "kWh": _figure(total["kwh"]),
        "x PUE": _figure(total["kwh_with_pue"]),
        "kg CO2e": _part_of(total, "co2e_kg"),
        "GA kWh": _part_of(total, "green_algorithms_kwh_with_pue"),
    }
    for name, footer in columns.items():
        left = name == "run"
        table.add_column(name, footer, justify="left" if left else "right", no_wrap=not left)
    for line in content["runs"]:
        targets = "+".join(target[:1] if len(line["targets"]) > 1 else target for target in line["targets"])
        parts_kwh = [line["phases_kwh"][phase] or 0.0 for phase in ("preparation", "training", "validation")]
        shares = [f"{100 * part / sum(parts_kwh):.0f}" if sum(parts_kwh) else "-" for part in parts_kwh]
        cells = [
            f"{line['recipe']} {targets}" + ("" if line["seed"] is None else f" {line['seed']}") + " <" * line["best"],
            str(line["attempts"]),
            _figure(line["hours"]),
            "/".join(shares),
            _figure(line["kwh"]) + ("!" if line["missing"] or line["problems"] else ""),
            _figure(line["kwh_with_pue"]),
            _figure(line["co2e_kg"]),
            _figure(line["green_algorithms_kwh_with_pue"]),
        ]
        table.add_row(*cells)
    return table


def _summary(content: Mapping[str, Any]) -> list[str]:
    from bandsplit.runs.energy.report import describe_equivalent

    best, total, lines = content["best"], content["total"], content["runs"]
    states = sorted({f"{part} {state}" for line in lines for part, state in line["components"].items()})
    pues = sorted({f"{line['pue']:g}" for line in lines})
    sources = sorted({f"{one['g_per_kwh']:g} g/kWh ({one['source']})" for line in lines if (one := line["intensity"])})
    at_least = "at least " if any(line["missing"] or line["problems"] for line in lines) else ""
    text = [
        f"kWh: raw; p/t/v: its shares of preparation, training, validation; x PUE: times {', '.join(pues)}; "
        f"{', '.join(states)}; "
        "GA: Green Algorithms estimate, with PUE",
        f"CO2e: {', '.join(sources) or 'unknown; give --intensity or --country'}",
        f"all {total['runs']} runs: {at_least}{_figure(total['kwh_with_pue'])} kWh with PUE",
    ]
    if best["total_to_best"] is not None:
        text.append(
            f"= {best['total_to_best']:.1f} x the {_figure(best['kwh_with_pue'])} kWh of the best model "
            f"(<: {best['meaning']})"
        )
    elif best["runs"]:
        text.append(f"no ratio to the best model: of its runs, one has no energy card (best: {best['meaning']})")
    else:
        text.append("no ratio to the best run: no run of a recipe as it is (without *) was validated")
    for one in content["equivalents"]:
        text.append(f"= {describe_equivalent(one)}, {one['kwh_of_one']:g} kWh each ({one['source']})")
    return text


def _part_of(total: Mapping[str, Any], key: str) -> str:
    """Write a sum, with the number of runs in it where that is not all."""
    some = "" if total[f"{key}_runs"] == total["runs"] else f" ({total[f'{key}_runs']} runs)"
    return _figure(total[key]) + (some if total[key] is not None else "")


def _figure(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"

"""Tables of costs: separation, one table for each machine it was measured on, and training, one for each device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bandsplit.core.table import TextTable
from bandsplit.core.text import three_digits
from bandsplit.evaluation.groups import group
from bandsplit.studies.costs.counts import SONG_S, Counted, count_costs, example_flop, examples
from bandsplit.studies.costs.rows import Cost, SeparationCost, TrainingCost
from bandsplit.studies.costs.systems import CostedSystem
from bandsplit.studies.tables.rows import PUE

ABOUT = "~"
"""Mark in front of estimated numbers."""
_COUNTED = ("parameters, M", "disk, MB", "GFLOP per 10 s", "with overlap", "GFLOP per example")
_MEASURED = ("x real time", "CPU s per minute", "peak, MB", "J per minute")


class CostLine(NamedTuple):
    """A system, and what is known about its costs."""

    name: str
    system: CostedSystem | None
    reason: str = ""
    """Why something is missing."""


def cost_tables(lines: Sequence[CostLine], rows: Iterable[Cost] = ()) -> list[TextTable]:
    """Tabulate systems.

    Args:
        lines: the systems.
        rows: stored costs of these and of others; those of other configurations or files of the same name are left out.
    """
    systems = [line.system for line in lines if line.system is not None]
    own = {(one.name, source) for one in systems for source in (one.source, one.trainings)}
    known = [row for row in rows if (row.system, row.source) in own]
    separations = group((row for row in known if isinstance(row, SeparationCost)), lambda row: row.machine)
    trainings = group((row for row in known if isinstance(row, TrainingCost)), lambda row: row.machine)
    return [
        _counted_table(lines),
        *(_measured_table(lines, machine, some) for machine, some in separations.items()),
        *(_training_table(lines, machine, some) for machine, some in trainings.items()),
    ]


def _counted_table(lines: Sequence[CostLine]) -> TextTable:
    cells = [
        (line.name, *(_counted_cells(count_costs(line.system)) if line.system else ("-",) * len(_COUNTED)))
        for line in lines
    ]
    reasons = group((line for line in lines if line.reason), lambda line: line.reason)
    notes = (
        "Sums over the models of a system. Disk: the files, or the weights of a recipe in 32 bits. GFLOP: 1e9 "
        "operations of matrix products: of ten seconds inside a chunk; of ten seconds of a song of "
        f"{SONG_S / 60:g} minutes, cut as its authors did; of a training step for one example of each model.",
        *(f"{', '.join(line.name for line in some)}: {reason}" for reason, some in reasons.items()),
    )
    return TextTable("Costs, counted", ("system", *_COUNTED), tuple(cells), notes)


def _measured_table(lines: Sequence[CostLine], machine: str, rows: Sequence[SeparationCost]) -> TextTable:
    found = {row.system: row for row in rows}
    cells = tuple((line.name, *_measured_cells(found.get(line.name))) for line in lines)
    noise = _span([row.noise_s for row in rows])
    busy = _span([row.busy_cores for row in rows])
    notes = (
        f"Measured on {noise} s of noise in a process of its own, which used {busy} cores, and scaled to a song by "
        "counted operations; of equal models of a recipe one is measured. CPU s: of that process; it depends less on "
        "others that used the cores than time and J do. Peak: memory of the process with PyTorch, or of tensors on a "
        "GPU. J: without PUE.",
        *_sources(rows),
    )
    return TextTable(f"Separation, measured on {machine}", ("system", *_MEASURED), cells, notes)


def _counted_cells(found: Counted) -> tuple[str, ...]:
    return (
        f"{found.parameters / 1e6:.2f}", three_digits(found.bytes / 1e6), three_digits(found.gflop_chunk),
        three_digits(found.gflop_song), three_digits(found.gflop_example),
    )  # fmt: skip


def _measured_cells(found: SeparationCost | None) -> tuple[str, ...]:
    if found is None:
        return ("-",) * len(_MEASURED)
    mark = ABOUT * found.estimated + "> " * found.missing
    joules = "-" if found.joules_per_min is None else f"{mark}{three_digits(found.joules_per_min)}"
    return three_digits(found.realtime), three_digits(found.cpu_s_per_min), f"{found.peak_mb:.0f}", joules


def _sources(found: Iterable[SeparationCost]) -> list[str]:
    """List the sources of the joules, each once."""
    texts = [
        f"{part}: {source.state}, {source.how}"
        for row in found
        for part, source in row.parts.items()
        if source.state != "absent" or source.needed
    ]
    return [f"J, {text}" for text in dict.fromkeys(texts)]


def _training_table(lines: Sequence[CostLine], machine: str, rows: Sequence[TrainingCost]) -> TextTable:
    found = {row.system: row for row in rows}
    caption = f"Training, predicted for {machine}"
    cells = []
    for line in lines:
        if line.system is None or not line.system.runs:
            continue
        runs = line.system.runs
        flop = sum(map(example_flop, runs)) / 1e9
        millions = sum(map(examples, runs)) / 1e6
        row = found.get(line.name)
        hours, kwh = (None, None) if row is None else (row.hours, row.kwh)
        cells.append(
            (line.name, str(len(runs)), three_digits(flop), three_digits(millions), _about(hours), _about(kwh, PUE))
        )
    source = {
        "counted": "Counted operations of all examples to the last epoch, at the peak rate for the recipe's precision "
        "times the utilisation, and the GPU's rated power; without validations, loading, and the rest of the machine.",
        "steps": "Some steps of the first model, for the fewest and the most epochs; the other models take as long.",
    }[rows[0].how]
    notes = (f"Estimated. {source} Examples: millions, of all models. kWh: with a PUE of {PUE:g}.",)
    header = ("system", "models", "GFLOP per example", "examples, M", "hours", "kWh")
    return TextTable(caption, header, tuple(cells), notes)


def _about(span: tuple[float, float] | None, factor: float = 1.0) -> str:
    return "-" if span is None else ABOUT + _span([value * factor for value in span])


def _span(values: Sequence[float]) -> str:
    low, high = (three_digits(value) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"

"""Parts that the tables of a study share: numbers as text and as records, and the significance of differences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from bandsplit.core.table import TextTable
from bandsplit.core.text import counted, range_text
from bandsplit.evaluation.comparison import FEWEST_SONGS, Comparison, Doubt, compare, indistinguishable_groups
from bandsplit.evaluation.groups import group
from bandsplit.evaluation.results import Metric, Score
from bandsplit.published import paper as published
from bandsplit.published.paper import AVERAGE
from bandsplit.studies.tables.rows import NOT_RUN, PUE, Measured, Spread, spread

NO_VALUE = "-"
CellRecord = dict[str, str | float | None]
"""A number of a table with its context, for CSV."""


def columns_of(targets: Sequence[str]) -> list[str]:
    """Return the targets, and the average where there are several."""
    return [*targets, *([AVERAGE] if len(targets) > 1 else [])]


def recipe_lines(
    one: Measured,
    theirs: Mapping[str, float | None],
    cost: Sequence[float | None],
    columns: Sequence[str],
    targets: Sequence[str],
) -> tuple[list[tuple[str, ...]], list[CellRecord]]:
    """Return the lines published, ours, difference of a recipe, without its name; and the same as records."""
    energy = spread([kwh * PUE for kwh in one.kwh.values()])
    measured = [spread(one.seeds(column)) for column in columns]
    states = [one.state(column, targets) for column in columns]
    lines: list[tuple[str, ...]] = []
    if any(value is not None for value in [*theirs.values(), *cost]):
        lines.append(("published", *(printed_text(theirs.get(column)) for column in columns), *map(printed_text, cost)))
    counts = one.counts(columns)
    cells = [
        mean_text(value, several=len(counts) > 1) if value.n else state
        for value, state in zip(measured, states, strict=True)
    ]
    size = "" if one.parameters_m is None else size_text(one.parameters_m)
    lines.append((ours_text(counts), *cells, size or NO_VALUE, energy_text(energy.mean)))
    differences = [
        difference_of(value.mean, theirs.get(column)) for value, column in zip(measured, columns, strict=True)
    ]
    if any(difference is not None for difference in differences):
        lines.append(("difference", *(f"{d:+.2f}" if d is not None else NO_VALUE for d in differences), "", ""))
    records = [
        record_of(column, "validation uSDR", "dB", theirs.get(column), one.seeds(column), state)
        for column, state in zip(columns, states, strict=True)
    ]
    size_m = [] if one.parameters_m is None else [one.parameters_m]
    records.append(record_of("all", "parameters", "M", cost[0], size_m, NOT_RUN))
    records.append(
        record_of("all", "energy, PUE 1.5", "kWh", cost[1], [kwh * PUE for kwh in one.kwh.values()], NOT_RUN)
    )
    return lines, records


# --- significance ----------------------------------------------------------------------------------------------------


def comparison_table(found: Sequence[Comparison], caption: str) -> TextTable:
    """List comparisons with their intervals, the largest differences first."""
    ordered = sorted(found, key=lambda one: -abs(one.difference))
    return TextTable(
        caption,
        ("a", "b", "target", "verdict", "difference a - b", "95 % interval", "a better in", "songs", "seeds of a, b"),
        tuple(
            (
                one.a, one.b, one.target, f"{one.verdict} ({one.reason})" if one.reason else one.verdict,
                f"{one.difference:+.2f}", f"{one.low:+.2f} to {one.high:+.2f}", f"{one.share_better:.0%}",
                str(one.songs), f"{one.seeds[0]}, {one.seeds[1]}",
            )
            for one in ordered
        ),
        text_columns=4,
        records=tuple(
            {
                "a": one.a, "b": one.b, "metric": one.metric, "target": one.target, "a_value": one.a_value,
                "b_value": one.b_value, "difference": one.difference, "low": one.low, "high": one.high,
                "share_better": one.share_better, "songs": one.songs, "left_out": len(one.left_out),
                "seeds_a": one.seeds[0], "seeds_b": one.seeds[1], "verdict": one.verdict, "reason": one.reason,
            }
            for one in ordered
        ),
    )  # fmt: skip


def compare_systems(rows: Sequence[Score], metric: Metric) -> list[Comparison]:
    """Compare every pair of systems, also across chunk plans where each system has one of its own."""
    plans = group(rows, lambda row: row.recipe or row.system).values()
    own = all(len({row.inference for row in some}) == 1 for some in plans)
    return compare(rows, metric, across=("inference",) if own else ())


def significance_notes(found: Sequence[Comparison], target: str) -> Iterator[str]:
    """Yield sentences that name the rows without significant differences on a target; rows of Table II by number."""
    pairs = [one for one in found if one.target == target]
    if not pairs:
        return
    alike = [one for one in pairs if one.doubt]
    head = f"By {target}, {counted(len(pairs), 'pair')} of ours compared, song by song (95 %)"
    if not alike:
        yield f"{head}: all differ significantly."
        return
    if len(alike) == len(pairs):
        yield f"{head}: none differs significantly."
    else:
        names = list(dict.fromkeys(name for one in pairs for name in (one.a, one.b)))
        rows = {recipe: row.row for recipe, row in published.table2().items()}
        groups = [
            ", ".join(rows.get(name, name) for name in group)
            for group in indistinguishable_groups(pairs, names, target)
        ]
        yield (
            f"{head}. Not significantly different from each other: {' | '.join(groups)}. "
            f"All other pairs differ significantly."
        )
    single = sum(one.doubt is Doubt.ONE_SEED for one in alike)
    few = sum(one.doubt is Doubt.FEW_SONGS for one in alike)
    if single:
        yield f"In {counted(single, 'pair')} the only doubt is the unknown variance between seeds."
    if few:
        yield f"In {counted(few, 'pair')} there are fewer than {FEWEST_SONGS} songs, too few for significance."


# --- cells -----------------------------------------------------------------------------------------------------------


def record_of(
    column: str, quantity: str, unit: str, theirs: float | None, ours: Sequence[float], state: str
) -> CellRecord:
    """Make the record of a number."""
    mean, std, n = spread(ours)
    return {
        "target": column, "quantity": quantity, "unit": unit, "published": theirs, "ours_mean": mean, "ours_std": std,
        "n": n, "difference": difference_of(mean, theirs), "state": "" if n else state,
    }  # fmt: skip


def difference_of(ours: float | None, theirs: float | None) -> float | None:
    """Subtract if both are known."""
    return None if ours is None or theirs is None else ours - theirs


def printed_text(value: float | None) -> str:
    """Write a published number with its published digits."""
    if value is None:
        return NO_VALUE
    return (
        f"{value:.0f}" if value >= 50 and value == int(value) else f"{value:.{1 if round(value, 1) == value else 2}f}"
    )


def mean_text(value: Spread, several: bool) -> str:
    """Write mean ± spread, and the number of seeds where cells have different numbers."""
    text = f"{value.mean:.2f}" + ("" if value.std is None else f" ± {value.std:.2f}")
    return f"{text} ({value.n})" if several else text


def ours_text(counts: Iterable[int]) -> str:
    """Name a line of our results, with its number of seeds."""
    counts = set(counts)
    return f"ours ({range_text(counts)} seed{'s' * (counts != {1})})" if counts else "ours"


def energy_text(kwh: float | None) -> str:
    """Write kWh with at least two digits."""
    return NO_VALUE if kwh is None else f"{kwh:.0f}" if kwh >= 100 else f"{kwh:.2g}"


def size_text(millions: float) -> str:
    """Write millions of parameters."""
    return f"{millions:.1f}" if millions >= 1 else f"{millions:.3f}"

"""Tables I and III: systems on the test set, from score rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bandsplit.core.table import TextTable
from bandsplit.core.targets import TARGETS
from bandsplit.core.text import counted
from bandsplit.evaluation.comparison import Contender, compare, contenders
from bandsplit.evaluation.groups import group, with_remark
from bandsplit.evaluation.results import METRICS, SEEN_NOTE, Metric, Score
from bandsplit.evaluation.tables import MAIN_METRICS
from bandsplit.published import paper as published
from bandsplit.published.paper import AVERAGE, PaperMetric
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.separation.chunks import describe_chunks
from bandsplit.studies.agreement import describe_agreement
from bandsplit.studies.plans import TEST_LINES
from bandsplit.studies.tables.cells import (
    NO_VALUE,
    CellRecord,
    columns_of,
    compare_systems,
    difference_of,
    mean_text,
    ours_text,
    printed_text,
    recipe_lines,
    record_of,
    significance_notes,
)
from bandsplit.studies.tables.rows import (
    ANY_BENCHMARK,
    BENCHMARK,
    NOT_RUN,
    DataKey,
    Measured,
    is_on,
    measure_scores,
    measured_of,
    spread,
)


def table_1(scores: Sequence[Score]) -> list[TextTable]:
    """Make Table I: published systems and ours by cSDR on the test set; other data sets get tables of ours alone."""
    by_data = measure_scores(scores, "csdr_db")
    mine = [one for data, found in by_data.items() if data.published for one in found]
    tables = [_systems_table(ANY_BENCHMARK, mine, scores)]
    tables += [_systems_table(data, found, scores) for data, found in by_data.items() if not data.published]
    return tables


def _systems_table(data: DataKey, found: Sequence[Contender], scores: Sequence[Score]) -> TextTable:
    columns = columns_of(TARGETS)
    rows: list[tuple[str, ...]] = []
    records: list[CellRecord] = []
    notes: list[str] = []
    for row in published.table1() if data.published else ():
        cells = [printed_text(row.csdr_db[column]) + "†" * (column == row.corrected) for column in columns]
        extra = "yes" if row.extra_data else "no"
        rows.append((row.system, extra, "published", *cells))
        if row.note:
            notes.append(f"{'† ' if row.corrected else ''}{row.system}, extra data {extra}: {row.note}.")
        records += [
            {"data": BENCHMARK, "model": row.system, "extra_data": extra}
            | record_of(column, "cSDR", "dB", row.csdr_db[column], [], "published")
            for column in columns
        ]
    for one in found:
        measured = measured_of(one)
        theirs = _published_csdr(one.system) if data.published else {}
        block, facts = recipe_lines(measured, theirs, [None, None], columns, TARGETS)
        facts = [fact | {"quantity": "cSDR"} for fact in facts if fact["unit"] == "dB"]
        cells = [line[: 1 + len(columns)] for line in block]
        rows += [
            (one.name if number == 0 else "", "no" if one.system in RECIPES and number == 0 else "", *line)
            for number, line in enumerate(cells)
        ]
        records += [{"data": data.text, "model": one.name, "extra_data": "no"} | fact for fact in facts]
    mine = [row for row in scores if is_on(row, data)]
    notes += _conditions(found)
    notes += [SEEN_NOTE] if any(one.seen for one in found) else []
    notes += significance_notes(compare(mine, "csdr_db"), AVERAGE)
    if data.published and not found:
        notes.append("Ours: not run.")
    return TextTable(
        f"Table I. cSDR, dB, median over the songs of the test set of the median over 1 s windows, on "
        f"{data.caption} (ours: mean ± sample standard deviation over seeds)",
        ("system", "extra data", "", *columns),
        tuple(rows),
        tuple(notes),
        text_columns=3,
        records=tuple(records),
    )


def _published_csdr(recipe: str) -> Mapping[str, float | None]:
    rows = (row for row in published.repository() if row.quantity == "test_csdr_db" and row.recipe == recipe)
    return next((row.values_db for row in rows), {})


def table_3(scores: Sequence[Score]) -> list[TextTable]:
    """Make Table III: recipes under several ways of inference, uSDR and cSDR on the test set."""
    keys = list(dict.fromkeys(key for metric in MAIN_METRICS for key in measure_scores(scores, metric)))
    keys = [
        ANY_BENCHMARK,
        *(key for key in keys if not key.published and _lines_of(key, scores)),
    ]
    return [_inference_table(key, scores) for key in keys]


def _lines_of(data: DataKey, scores: Sequence[Score]) -> dict[tuple[str, str], list[Score]]:
    """Return the scores of the table's lines on these data, by recipe and inference."""
    wanted = {(line.recipe, describe_chunks(line.chunks)) for line in TEST_LINES}
    mine = group((row for row in scores if row.split == "test" and is_on(row, data)), _line_of)
    return {line: rows for line, rows in mine.items() if line in wanted}


def _line_of(row: Score) -> tuple[str, str]:
    return row.recipe or "", row.inference


def _inference_table(data: DataKey, scores: Sequence[Score]) -> TextTable:
    columns = columns_of(TARGETS)
    pairs: list[tuple[str, PaperMetric]] = [(column, metric) for column in columns for metric in MAIN_METRICS]
    rows: list[tuple[str, ...]] = []
    records: list[CellRecord] = []
    mine = _lines_of(data, scores)
    for row in published.table3():
        line = next((one for one in TEST_LINES if one.published is row), None)
        theirs = row.values_db if data.published else {}
        rows_of_line = mine.get((line.recipe, describe_chunks(line.chunks)), []) if line else []
        if not data.published and not rows_of_line:
            continue
        values = {metric: _by_conditions(rows_of_line, metric) for metric in MAIN_METRICS}
        versions = list(dict.fromkeys(key for found in values.values() for key in found)) or [""]
        if data.published:
            rows.append((row.label, row.chunks, "published", *(printed_text(theirs.get(pair)) for pair in pairs)))
        for version in versions if line else ():
            measured = {
                (column, metric): spread(values[metric][version].seeds(column)) if version in values[metric] else None
                for column, metric in pairs
            }
            counts = {value.n for value in measured.values() if value and value.n}
            cells = [mean_text(v, len(counts) > 1) if (v := measured[pair]) and v.n else NOT_RUN for pair in pairs]
            first = ("", "") if data.published else (row.label, row.chunks)
            rows.append((*first, f"{ours_text(counts)}{f', {version}' if version else ''}", *cells))
            gaps = [difference_of(v.mean if (v := measured[pair]) else None, theirs.get(pair)) for pair in pairs]
            if any(gap is not None for gap in gaps):
                rows.append(("", "", "difference", *(NO_VALUE if g is None else f"{g:+.2f}" for g in gaps)))
        for column, metric in pairs:
            for version in versions:
                found = values[metric].get(version)
                seeds = found.seeds(column) if found else []
                state = NOT_RUN if line else "published"
                fact = record_of(column, METRICS[metric].name, "dB", theirs.get((column, metric)), seeds, state)
                model = with_remark(row.label, version)
                records.append({"data": data.text, "model": model, "inference": row.chunks, **fact})
    flat = [score for some in mine.values() for score in some]
    found_pairs = compare(flat, "usdr_db", across=("inference",))
    return TextTable(
        f"Table III. Test set, dB, on {data.caption} (ours: mean ± sample standard deviation over seeds; "
        f"uSDR: mean over songs, cSDR: median)",
        ("model", "inference", "", *(f"{column} {METRICS[metric].name}" for column, metric in pairs)),
        tuple(rows),
        tuple(significance_notes(found_pairs, AVERAGE)),
        text_columns=3,
        records=tuple(records),
    )


def test_set_tables(title: str, scores: Sequence[Score], targets: Sequence[str]) -> list[TextTable]:
    """Tabulate all systems on test songs, recipes and yardsticks: uSDR and cSDR, a table for each data set.

    Args:
        title: what the captions begin with.
        scores: any scores.
        targets: the columns.
    """
    by_metric = {metric: measure_scores(scores, metric) for metric in MAIN_METRICS}
    keys = list(dict.fromkeys(key for found in by_metric.values() for key in found))
    return [_test_set_table(title, key, scores, targets) for key in keys]


def _test_set_table(title: str, data: DataKey, scores: Sequence[Score], targets: Sequence[str]) -> TextTable:
    columns = columns_of(targets)
    mine = [row for row in scores if is_on(row, data) and row.target in targets]
    found = {metric: measure_scores(mine, metric).get(data, []) for metric in MAIN_METRICS}
    measured = {(metric, one.name): measured_of(one) for metric, some in found.items() for one in some}
    order = {recipe: number for number, recipe in enumerate(RECIPES)}
    names = sorted(dict.fromkeys(name for _, name in measured), key=lambda name: order.get(name, len(order)))
    rows: list[tuple[str, ...]] = []
    records: list[CellRecord] = []
    for name in names:
        cells = []
        for column in columns:
            for metric in MAIN_METRICS:
                seeds = measured[metric, name].seeds(column) if (metric, name) in measured else []
                cells.append(mean_text(spread(seeds), several=False) if seeds else NO_VALUE)
                fact = record_of(column, METRICS[metric].name, "dB", None, seeds, "")
                records.append({"data": data.text, "model": name, **fact})
        rows.append((name, *cells))
    trained = [row for row in mine if row.recipe is not None]
    comparisons = compare_systems(trained, "usdr_db")
    songs = counted(len({row.track for row in mine}), "song")
    seen = (SEEN_NOTE,) if any(one.seen for some in found.values() for one in some) else ()
    return TextTable(
        f"{title}, on {data.text}, {songs} (mean ± sample standard deviation over seeds; "
        f"uSDR: mean over songs, cSDR: median)",
        ("system", *(f"{column} {METRICS[metric].name}" for column in columns for metric in MAIN_METRICS)),
        tuple(rows),
        (*seen, *significance_notes(comparisons, columns[-1]), *describe_agreement(comparisons, columns[-1])),
        records=tuple(records),
    )


def _by_conditions(rows: Sequence[Score], metric: Metric) -> dict[str, Measured]:
    """Aggregate the rows of one recipe and inference: one group for each set of other conditions, usually one."""
    return {one.remark: measured_of(one) for one in contenders(rows, metric)}


def _conditions(found: Sequence[Contender]) -> Iterator[str]:
    """Describe the inference, the mixtures and the version of rows, which their names do not show."""
    for fields in (("inference",), ("mixture", "version")):
        texts = [
            " and ".join(sorted({str(one.conditions[name]) or "not recorded" for one in found})) for name in fields
        ]
        if found:
            yield f"Ours, {', '.join(f'{name}: {text}' for name, text in zip(fields, texts, strict=True))}."

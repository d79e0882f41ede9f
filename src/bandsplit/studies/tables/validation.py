"""The paper's tables and those of any study, from runs and scores: published, ours, difference, and its significance.

Published numbers are shown only next to numbers measured on MUSDB18-HQ. Every other data set has its own tables, which
name it and give ranks instead of published numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bandsplit.core.table import TextTable
from bandsplit.core.targets import TARGETS
from bandsplit.core.text import numbered, range_text
from bandsplit.evaluation.comparison import compare
from bandsplit.evaluation.results import Score
from bandsplit.published import paper as published
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.runs.records import RunRecord
from bandsplit.studies.agreement import describe_agreement, published_db
from bandsplit.studies.plans import Study
from bandsplit.studies.tables.cells import (
    NO_VALUE,
    CellRecord,
    columns_of,
    compare_systems,
    energy_text,
    mean_text,
    recipe_lines,
    record_of,
    significance_notes,
    size_text,
)
from bandsplit.studies.tables.rows import (
    ANY_BENCHMARK,
    BENCHMARK,
    NOT_RUN,
    PUE,
    DataKey,
    Measured,
    Seeds,
    data_of_run,
    is_result,
    measure_runs,
    places_of,
    spread,
    validation_scores,
)
from bandsplit.studies.tables.systems import systems_tables, targets_differ
from bandsplit.studies.tables.test_set import table_1, table_3, test_set_tables

_TITLES = {
    "table2": "Table II. Best validation uSDR, dB",
    "layers": "Sequence layers along frames and bands. Best validation uSDR, dB",
    "simo": "From a model per target to a shared encoder. Best validation uSDR, dB",
    "data": "From the examples of row 1 to those of rows 18 and 19. Best validation uSDR, dB",
}
_EXPLAINED = "ours: mean ± sample standard deviation over seeds; parameters and energy of the models of all targets"


def study_tables(study: Study, runs: Sequence[RunRecord], scores: Sequence[Score]) -> dict[str, TextTable]:
    """Make all tables of a study.

    Args:
        study: the study.
        runs: its runs, in any state.
        scores: its scores on the test split.

    Returns:
        Tables by a name that serves as a file's; tables of other data sets end in ``-2``, ``-3`` and so on.
    """
    made: dict[str, list[TextTable]] = {}
    if study.id == "paper":
        made["table1"] = table_1(scores)
    elif study.systems:
        made |= systems_tables(study, runs, scores)
        scores = [row for row in scores if row.system not in study.public or not targets_differ(study, row.system)]
    for part, experiments in study.parts.items():
        if not experiments:
            continue
        recipes = [experiment.recipe for experiment in experiments]
        if part == "convergence":
            made[part] = convergence_tables(recipes, runs)
        else:
            title = _TITLES.get(part, f"{study.id}, {part}. Best validation uSDR, dB")
            made[part] = validation_tables(title, recipes, runs, study.targets)
        if part == "table2":
            made["table3"] = table_3(scores)
    if study.id != "paper":
        made["test"] = test_set_tables(f"{study.id}. Test songs, dB", scores, study.targets)
    return {
        numbered(name, number): table for name, tables in made.items() for number, table in enumerate(tables, start=1)
    }


# --- validation scores of runs: Table II and its like ----------------------------------------------------------------


def validation_tables(
    title: str, recipes: Sequence[str], runs: Sequence[RunRecord], targets: Sequence[str] = TARGETS
) -> list[TextTable]:
    """Tabulate the best validation uSDR of recipes.

    Args:
        title: what the caption begins with.
        recipes: the rows.
        runs: any runs; those of other recipes and those changed by hand are left out.
        targets: the columns.

    Returns:
        First the table of MUSDB18-HQ, if a recipe has published numbers or was run on that set; then one for each other
        data set. A study without published numbers and without runs has one table that says so.
    """
    runs = [run for run in runs if run.recipe in recipes]
    by_data = measure_runs(runs, targets)
    ours = {data: found for data, found in by_data.items() if data.published}
    others = {data: found for data, found in by_data.items() if not data.published}
    tables = []
    if ours or any(published.validation_usdr_db(recipe) for recipe in recipes) or not others:
        tables.append(_benchmark_table(title, recipes, ours, runs, targets))
    for data, found in others.items():
        tables.append(_other_table(title, recipes, data, found, runs, targets))
    return tables


def _benchmark_table(
    title: str,
    recipes: Sequence[str],
    ours: Mapping[DataKey, Sequence[Measured]],
    runs: Sequence[RunRecord],
    targets: Sequence[str],
) -> TextTable:
    columns = columns_of(targets)
    several = len(ours) > 1  # copies of the set whose audio differs, such as one with a repaired song
    rows: list[tuple[str, ...]] = []
    records: list[CellRecord] = []
    for recipe in recipes:
        print_ = published.table2().get(recipe)
        theirs = {column: value for column, value in (published.validation_usdr_db(recipe) or {}).items()}
        sizes = [print_.parameters_m if print_ else RECIPES[recipe].parameters_m if recipe in RECIPES else None]
        cost = [*sizes, print_.energy_kwh if print_ else None]
        mine = [
            (f"{one.label}; {data.identity}" if several else one.label, one)
            for data, found in ours.items()
            for one in found
            if one.name == recipe
        ]
        for label, one in mine or [(recipe, Measured(recipe))]:
            block, facts = recipe_lines(one, theirs, cost, columns, targets)
            rows += [(f"{print_.row} {label}" if print_ else label, *block[0]), *(("", *line) for line in block[1:])]
            records += [{"data": BENCHMARK, "model": label, **fact} for fact in facts]
    found = compare(_validated(runs, list(ours)), "usdr_db")
    return TextTable(
        f"{title}, on {BENCHMARK} ({_EXPLAINED}; energy with a PUE of {PUE:g})",
        ("recipe", "", *columns, "parameters, M", "energy, kWh"),
        tuple(rows),
        tuple(significance_notes(found, columns[-1])),
        text_columns=2,
        records=tuple(records),
    )


def _other_table(
    title: str,
    recipes: Sequence[str],
    data: DataKey,
    found: Sequence[Measured],
    runs: Sequence[RunRecord],
    targets: Sequence[str],
) -> TextTable:
    """Tabulate another data set: no published number, only the rank of each row there and its published rank."""
    columns = columns_of(targets)
    key = columns[-1]
    ordered = [one for recipe in recipes for one in found if one.name == recipe]
    theirs = {one.name: published_db(one.name, key) for one in ordered}
    mine = {one.label: spread(one.seeds(key)).mean for one in ordered}
    both = [one for one in ordered if theirs[one.name] is not None and mine[one.label] is not None]
    both = both if len(both) > 1 else []  # a single one has no place
    here = places_of({one.label: mine[one.label] or 0.0 for one in both})
    there = places_of({one.label: theirs[one.name] or 0.0 for one in both})
    rows, records = [], []
    for one in ordered:
        measured = [spread(one.seeds(column)) for column in columns]
        counts = one.counts(columns)
        cells = [
            mean_text(value, several=len(counts) > 1) if value.n else one.state(column, targets)
            for value, column in zip(measured, columns, strict=True)
        ]
        size = NO_VALUE if one.parameters_m is None else size_text(one.parameters_m)
        energy = spread([kwh * PUE for kwh in one.kwh.values()])
        places = (here.get(one.label, NO_VALUE), there.get(one.label, NO_VALUE)) if both else ()
        seeds = range_text(counts) if counts else NO_VALUE
        rows.append((one.label, *cells, seeds, size, energy_text(energy.mean), *places))
        _, facts = recipe_lines(one, {}, [None, None], columns, targets)
        records += [{"data": data.text, "model": one.label, **fact} for fact in facts]
    comparisons = compare_systems(_validated(runs, [data]), "usdr_db")
    notes = list(significance_notes(comparisons, key))
    notes += describe_agreement(comparisons, key)
    places_header = (f"place here ({key})", f"place on {BENCHMARK}, published") if both else ()
    return TextTable(
        f"{title}, on {data.caption} ({_EXPLAINED}; energy with a PUE of {PUE:g})",
        ("recipe", *columns, "seeds", "parameters, M", "energy, kWh", *places_header),
        tuple(rows),
        tuple(notes),
        records=tuple(records),
    )


def _validated(runs: Iterable[RunRecord], data: Sequence[DataKey]) -> list[Score]:
    """Return the validation scores of finished runs on these data, song by song."""
    return [score for run in runs if is_result(run) and data_of_run(run) in data for score in validation_scores(run)]


# --- the convergence study -------------------------------------------------------------------------------------------


def convergence_tables(recipes: Sequence[str], runs: Sequence[RunRecord]) -> list[TextTable]:
    """Tabulate recipes seed by seed, target by target (paper, section V-A and Fig. 2); data sets as in Table II."""
    by_data = measure_runs([run for run in runs if run.recipe in recipes])
    keys = [key for key in by_data if key.published] or [ANY_BENCHMARK]
    keys += [key for key in by_data if not key.published]
    return [_convergence_table(recipes, key, by_data.get(key, [])) for key in keys]


def _convergence_table(recipes: Sequence[str], data: DataKey, found: Sequence[Measured]) -> TextTable:
    notes = set()
    lines: list[tuple[str, str, bool, Seeds, float | None, str]] = []  # published, else ours; mean, where seeds lack
    for recipe in recipes:
        for target in TARGETS:
            prints = [row for row in published.repository() if row.recipe == recipe and row.values_db.get(target)]
            prints = [row for row in prints if row.quantity == "validation_usdr_db" and data.published]
            seeds: Seeds = {row.seed: row.values_db[target] or 0.0 for row in prints if row.seed is not None}
            whole = next((row for row in prints if row.seed is None), None)
            if seeds or whole:
                lines.append((recipe, target, True, seeds, whole and whole.values_db[target], NOT_RUN))
                notes |= {f"{recipe}, published: {row.source}." for row in prints}
            mine = [one for one in found if one.name == recipe]
            mine = mine or ([Measured(recipe)] if data.published else [])
            for one in mine:
                lines.append((one.label, target, False, one.values.get(target, {}), None, one.state(target)))
    every = sorted({seed for _, _, _, seeds, _, _ in lines for seed in seeds if seed is not None})
    rows, records = [], []
    for recipe, target, is_print, seeds, mean, state in lines:
        total = spread(list(seeds.values()))
        which, digits = ("published", 1) if is_print else ("ours", 2)
        cells = [f"{seeds[seed]:.{digits}f}" if seed in seeds else NO_VALUE for seed in every]
        middle = total.mean if total.mean is not None else mean
        text = state if middle is None else f"{middle:.{digits if total.mean is None else 2}f}"
        rows.append((recipe, target, which, *cells, text, NO_VALUE if total.std is None else f"{total.std:.2f}"))
        for seed, value in seeds.items():
            fact = record_of(
                target, "validation uSDR", "dB", value if is_print else None, [] if is_print else [value], ""
            )
            records.append({"data": data.text, "model": recipe, "seed": seed, **fact})
    return TextTable(
        f"Convergence: best validation uSDR, dB, of each seed with a patience of 10 and of 30, on {data.text}",
        ("recipe", "target", "", *(f"seed {seed}" for seed in every), "mean", "std"),
        tuple(rows),
        tuple(sorted(notes)),
        text_columns=3,
        records=tuple(records),
    )

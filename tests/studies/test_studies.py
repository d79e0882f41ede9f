"""Studies plan the runs that the paper's tables need; published numbers are what the paper prints."""

import statistics

import pytest

from bandsplit.core.errors import ConfigError
from bandsplit.published.paper import AVERAGE, COLUMNS, repository, table1, table2, table3, validation_usdr_db
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.runs.budgets import parse_budget
from bandsplit.studies.plans import STUDIES, TEST_LINES, Experiment, PlannedRun, find_study, planned_runs

PAPER = STUDIES["paper"]
PRINTED = 0.05 + 1e-9
"""Half of the last digit that the paper prints."""


def test_every_row_of_table_2_is_a_recipe_with_that_row_and_size():
    rows = {id: (row.row, row.parameters_m) for id, row in table2().items()}
    assert rows == {id: (recipe.row, recipe.parameters_m) for id, recipe in RECIPES.items() if recipe.row}
    assert rows["base"] == ("1", 32.3) and len(rows) == 21


@pytest.mark.parametrize("values", [row.usdr_db for row in table2().values()] + [row.csdr_db for row in table1()])
def test_printed_averages_are_means_of_the_four_targets(values):
    mean = statistics.fmean(values[column] for column in COLUMNS if column != AVERAGE)
    assert values[AVERAGE] == pytest.approx(mean, abs=0.05 + PRINTED)  # the paper rounds means of unrounded numbers


def test_the_two_corrected_cells_of_table_1_say_so():
    corrected = {row.system: row.corrected for row in table1() if row.corrected}
    assert corrected == {"HT Demucs": "other", "DTTNet": "drums"}
    for row in table1():
        assert bool(row.corrected) == row.note.startswith(f"the paper prints {row.corrected} ")


def test_published_rows_belong_to_recipes():
    ids = {row.recipe for row in repository()} | {row.recipe for row in table3() if row.recipe}
    assert ids <= set(RECIPES)
    assert validation_usdr_db("base") is table2()["base"].usdr_db
    values = validation_usdr_db("simo-optimised")
    assert values is not None and values[AVERAGE] == 10.3
    assert validation_usdr_db("demo") is None


def test_seeds_of_the_base_model_average_to_its_row():
    seeds = [row.values_db["vocals"] for row in repository() if row.recipe == "base" and row.seed]
    assert len(seeds) == 3 and statistics.fmean(v for v in seeds if v) == pytest.approx(7.7, abs=0.05)


def test_lines_of_table_3_name_what_can_be_measured():
    assert [(line.recipe, line.chunks.kind) for line in TEST_LINES] == [
        ("large-patience-30", "crossfade"), ("large-patience-30", "overlap-add"), ("large-patience-30", "overlap-add"),
        ("optimised-no-tac", "crossfade"), ("optimised", "crossfade"),
    ]  # fmt: skip
    assert TEST_LINES[1].published.values_db["vocals", "csdr_db"] is None


def test_a_budget_is_the_price_of_a_system_whatever_is_chosen_of_it():
    study = PAPER.within(parse_budget("8e18flop"))
    assert study.about.endswith("; each system trained for 8e18flop") and find_study("paper", study.budget) == study
    prices = {recipe: 0.0 for recipe in ("base", "simo")}
    for run in planned_runs(study, [], list(prices), [1]):
        assert run.budget is not None and run.budget.price == "8e18flop"
        prices[run.recipe] += run.budget.share
        assert run.config.training.budget == run.budget and run.config.changes == {}
    assert prices == {"base": 8e18, "simo": 8e18}
    (vocals,) = planned_runs(study, [], ["base"], [1], ["vocals"])
    assert vocals.budget is not None and vocals.budget.share == 2e18
    assert all(run.budget is None for run in planned_runs(PAPER))


def test_the_mini_table_has_each_family_once_for_one_price():
    runs = planned_runs(STUDIES["table1-mini"])
    minis = {recipe.run_config(["vocals"]).model.family for recipe in RECIPES.values() if recipe.counterpart}
    assert sorted(run.config.model.family for run in runs if run.seed == 1) == sorted(minis)
    assert len(runs) == 3 * len(minis) >= 21
    for run in runs:
        update, paid = run.config.update_flop(4), run.config.paid_updates(4)
        assert run.targets == ("vocals",), "also where the recipe shares a model between targets"
        assert run.budget is not None and run.budget.models == 1 and paid is not None and paid > 300
        assert run.budget.amount - update < paid * update <= run.budget.amount == 4e12


def test_a_study_plans_each_run_once():
    runs = planned_runs(PAPER)
    assert len(runs) == len(set(runs))
    # 21 rows of 4 targets, two further seeds of the base model
    assert len(planned_runs(PAPER, ["table2"])) == 4 * (21 + 2)
    assert PAPER.parts["convergence"] == (Experiment("base", (1, 2, 3)), Experiment("base-patience-30", (1, 2, 3)))
    assert {experiment.recipe for part in PAPER.parts.values() for experiment in part} <= set(RECIPES)


def test_runs_are_chosen_by_row_seed_and_target():
    assert planned_runs(PAPER, recipes=["1"], seeds=[2], targets=["bass"]) == [PlannedRun("base", ("bass",), 2)]
    assert planned_runs(PAPER, ["simo"], recipes=["simo"], targets=["bass"]) == [
        PlannedRun("simo", ("vocals", "bass", "drums", "other"), 1)
    ]
    assert {run.recipe for run in planned_runs(PAPER, recipes=["20b", "5"])} == {"optimised", "loss-tf"}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"parts": ["tabel2"]}, "part 'tabel2' is not in this study; did you mean 'table2'"),
        ({"recipes": ["21"]}, "recipe or row '21' is not in this study"),
        ({"seeds": [7]}, "seed '7' is not in this study; legal: 1, 2, 3"),
        ({"targets": ["voice"]}, "target 'voice' is not in this study"),
    ],
)
def test_what_a_study_has_not_is_refused(choice, message):
    with pytest.raises(ConfigError, match=message):
        planned_runs(PAPER, **choice)

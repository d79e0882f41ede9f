"""Budgets as settings: what is read, what it pays for, what is refused, and which runs and scores it keeps apart."""

from pathlib import Path

import pytest

from bandsplit.core.errors import ConfigError
from bandsplit.evaluation.comparison import contenders
from bandsplit.models.families import count_flop
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.runs.budgets import Budget, parse_budget
from bandsplit.runs.config import RunConfig
from bandsplit.runs.energy.report import best_runs, read_energy
from bandsplit.runs.records import read_run
from run_folders import write_run
from small_recipes import SMALL, small_run
from study_runs import make_scores


@pytest.mark.parametrize(
    ("text", "kind", "amount", "models", "written"),
    [
        ("2e15flop", "flop", 2e15, 1, "2e15flop"),
        ("1234567 FLOP", "flop", 1234567, 1, "1234567.0flop"),
        ("0.5kWh", "energy", 0.5, 1, "0.5kWh"),
        ("5 wh/4", "energy", 0.005, 4, "0.005kWh/4"),
        ("20min", "time", 1200, 1, "20min"),
        ("90s", "time", 90, 1, "1.5min"),
        ("0.3s", "time", 0.3, 1, "0.3s"),
        ("100.1s", "time", 100.1, 1, "100.1s"),
        ("2h/2", "time", 7200, 2, "120min/2"),
    ],
)
def test_a_budget_is_read_and_written_without_loss(text: str, kind: str, amount: float, models: int, written: str):
    budget = parse_budget(text)
    assert (budget.kind, budget.amount, budget.models, str(budget)) == (kind, amount, models, written)
    assert parse_budget(str(budget)) == budget
    assert budget.share == amount / models


@pytest.mark.parametrize("text", ["", "5", "5potatoes", "0flop", "-1min", "1e999flop", "20min/0", "1.2.3s", "nanflop"])
def test_other_text_is_refused_with_examples(text: str):
    with pytest.raises(ConfigError) as caught:
        parse_budget(text)
    assert f"--budget {text}: is not a budget; give a positive number and one of the units flop" in str(caught.value)


@pytest.mark.parametrize("name", SMALL)
def test_a_budget_in_operations_pays_for_all_updates_that_fit_into_it(name: str):
    plain = small_run(name)
    training = plain.training
    samples = round(training.excerpt_s * plain.model.sample_rate_hz)
    update = 4 * count_flop(plain.model, samples).step
    assert plain.update_flop(4) == update
    config = with_budget(plain, Budget(kind="flop", amount=1e13, models=2))
    paid = config.paid_updates(4)
    assert paid is not None and paid * update <= 5e12 < (paid + 1) * update


def with_budget(config: RunConfig, budget: Budget) -> RunConfig:
    return RECIPES[config.recipe].run_config(config.model.targets, seed=config.seed, budget=budget)


def test_a_budget_too_small_for_an_update_is_refused_with_the_smallest_that_is_not():
    plain = small_run("mini-base")
    with pytest.raises(ConfigError) as caught:
        with_budget(plain, Budget(kind="flop", amount=1e6, models=2)).paid_updates(4)
    head, _, least = str(caught.value).partition("; the smallest that does is ")
    assert head == "budget 1e6flop/2: does not pay for an update of mini-base"
    budget = parse_budget(least)
    assert with_budget(plain, budget).paid_updates(4) == 1
    assert budget.share < 1.02 * plain.update_flop(4)


def test_runs_without_a_budget_keep_their_folders_and_each_budget_has_one(tmp_path: Path):
    plain = small_run("mini-base")
    assert plain.folder_in(tmp_path).name == "seed-0-2e3f32bc"
    budgets = [Budget(kind="flop", amount=1e13), Budget(kind="flop", amount=1e13, models=2), parse_budget("20min")]
    configs = [plain, *(with_budget(plain, budget) for budget in budgets)]
    assert len({config.hash8() for config in configs}) == 4
    assert all(config.changes == {} for config in configs)


def test_a_run_is_listed_with_its_budget_and_is_not_another_seed_of_the_run_without(tmp_path: Path):
    plain = write_run(tmp_path, [1.0, 2.0], name="00000000")
    priced = write_run(tmp_path, [3.0, 4.0], name="00000001", budget={"kind": "flop", "amount": 2e15, "models": 4})
    records = [read_run(folder) for folder in (plain, priced)]
    assert [record.label for record in records] == ["base", "base 2e15flop/4"]
    assert [one.record.folder for one in best_runs(map(read_energy, (plain, priced)))] == [priced]


def test_scores_of_different_budgets_are_different_systems():
    rows = [
        row
        for budget in (None, "2e15flop")
        for row in make_scores("base", "usdr_db", [1.0, 2.0], budget=budget)
    ]  # fmt: skip
    assert [one.name for one in contenders(rows, "usdr_db")] == ["base (budget: none)", "base (budget: 2e15flop)"]
    stored = [row.model_dump(mode="json") for row in rows]
    assert "budget" not in stored[0] and stored[-1]["budget"] == "2e15flop"

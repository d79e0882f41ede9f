"""A study at several prices: one table and one picture, from the scores of each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bandsplit.cli.main import app
from bandsplit.core.errors import BandsplitError, ConfigError
from bandsplit.evaluation.results import Score, append_scores
from bandsplit.runs.budgets import parse_budget
from bandsplit.studies.outcome import StudyData
from bandsplit.studies.plans import find_study, planned_runs
from bandsplit.studies.prices import scores_by_price, write_prices
from bandsplit.studies.runner.folder import StudyFolder
from bandsplit.studies.tables.cells import compare_systems
from small_study import put
from study_runs import make_scores

TOY = {"data": "songs", "benchmark": None}


def priced(price: str, values: dict[tuple[str, int], Sequence[float]], **fields: Any) -> StudyData:
    """The mini table at a price: uSDR of songs by recipe and seed, and the static filter at 2.5 dB."""
    budget = parse_budget(price)
    scores: list[Score] = []
    for (recipe, seed), songs in values.items():
        scores += make_scores(recipe, "usdr_db", songs, seed=seed, budget=budget.price, **(TOY | fields))
    scores += make_scores(None, "usdr_db", [2.0, 3.0], "static gain per frequency", seed=None, **(TOY | fields))
    return StudyData(find_study("table1-mini", budget), StudyFolder(Path("nowhere")), (), tuple(scores))


CHEAP = priced("1e12flop", {("mini-dttnet", 1): [1.0, 2.0], ("mini-base", 1): [0.0, 1.0]})
DEAR = priced("4e12flop", {("mini-dttnet", 1): [4.0, 6.0], ("mini-dttnet", 2): [5.0, 7.0]})


def test_the_table_has_a_column_for_each_price_and_the_cheapest_is_first(tmp_path: Path):
    tables, (picture,) = write_prices([DEAR, CHEAP], tmp_path, ".png")
    table = tables["prices"]
    assert table.header == ("recipe", "1e12flop", "4e12flop")
    assert table.rows == (("mini-base", "0.50 (1)", "not run"), ("mini-dttnet", "1.50 (1)", "5.50 ± 0.71 (2)"))
    assert table.footnotes == ("static gain per frequency: 2.50 dB",)
    assert "vocals" in table.caption and "songs" in table.caption
    assert "table1-mini by price" in (tmp_path / "tables" / "prices.md").read_text()
    assert picture == tmp_path / "figures" / "score-price.png" and picture.stat().st_size > 10_000


def test_scores_on_other_songs_are_in_a_table_of_their_own(tmp_path: Path):
    other = priced("1e12flop", {("mini-dttnet", 1): [9.0, 9.0]}, fingerprint="f2")
    both = StudyData(CHEAP.study, CHEAP.folder, (), (*CHEAP.scores, *other.scores))
    tables, pictures = write_prices([both, DEAR], tmp_path, ".svg")
    assert tables["prices-2"].rows == (("mini-dttnet", "9.00 (1)", "not run"),)
    assert [path.name for path in pictures] == ["score-price.svg", "score-price-2.svg"]


def test_prices_that_cannot_be_compared_are_refused(tmp_path: Path):
    minutes = StudyData(find_study("table1-mini", parse_budget("5min")), CHEAP.folder, (), ())
    free = StudyData(find_study("mini"), CHEAP.folder, (), ())
    for other, text in ((minutes, "1e12flop, 5min"), (free, "1e12flop, none"), (CHEAP, "1e12flop, 1e12flop")):
        with pytest.raises(ConfigError, match=f"--budgets {text}: cannot be compared; give different prices of one"):
            scores_by_price([CHEAP, other])
    nothing = StudyData(CHEAP.study, CHEAP.folder, (), ())
    with pytest.raises(BandsplitError, match="no run of the study table1-mini at these prices is scored yet"):
        write_prices([nothing], tmp_path, ".png")


def test_the_command_reads_the_folder_of_each_price(tmp_path: Path):
    for data, name in ((CHEAP, "table1-mini-1e12flop"), (DEAR, "table1-mini")):
        folder = StudyFolder(tmp_path / name)
        for run in planned_runs(data.study, recipes=["mini-dttnet", "mini-base"]):
            put(folder, run, [1.0])
        append_scores(folder.scores, data.scores)
    line = ["study", "prices", "table1-mini", "--budgets", "4e12flop,1e12flop", "--root", str(tmp_path)]
    result = CliRunner().invoke(app, line, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "1.50 (1)" in result.stdout and "5.50 ± 0.71 (2)" in result.stdout
    assert (tmp_path / "table1-mini" / "figures" / "score-price.svg").exists()


def test_systems_with_a_plan_each_are_compared_and_those_with_several_only_under_the_same_one():
    def rows(recipe: str, first: float, inference: str) -> list[Score]:
        values = [first + 0.1 * song for song in range(8)]
        return [
            row
            for seed in (1, 2, 3)
            for row in make_scores(recipe, "usdr_db", [value + 0.01 * seed for value in values], seed=seed)
            if row.target == "vocals"
            for row in [row.model_copy(update={"inference": inference})]
        ]

    own = [*rows("mini-dttnet", 5.0, "trimmed"), *rows("mini-base", 3.0, "crossfade")]
    (pair,) = compare_systems(own, "usdr_db")
    assert {pair.a, pair.b} == {"mini-dttnet", "mini-base"} and pair.doubt is None
    assert abs(pair.difference) == pytest.approx(2.0)
    assert compare_systems([*own, *rows("mini-base", 3.5, "overlap-add")], "usdr_db") == []

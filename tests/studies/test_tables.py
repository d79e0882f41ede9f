"""The tables of a study: what was published, what was measured, and never one in the place of the other."""

import csv
import io
import json
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from bandsplit.core.table import TextTable
from bandsplit.core.targets import TARGETS
from bandsplit.evaluation.comparison import compare
from bandsplit.published import paper as published
from bandsplit.runs.records import RunRecord, read_runs
from bandsplit.studies.agreement import describe_agreement, published_pairs
from bandsplit.studies.plans import STUDIES
from bandsplit.studies.tables import test_set
from bandsplit.studies.tables.cells import comparison_table
from bandsplit.studies.tables.rows import count_stored_parameters, measure_runs, validation_scores
from bandsplit.studies.tables.test_set import table_1, table_3
from bandsplit.studies.tables.validation import convergence_tables, study_tables, validation_tables
from places import ROOT
from study_runs import MUSDB, TOY, make_scores, write_study_run


def table_2(runs: Sequence[RunRecord]) -> list[TextTable]:
    return validation_tables("Table II", list(published.table2()), runs)


def lines_of(table: TextTable, name: str) -> dict[str, tuple[str, ...]]:
    """Return a recipe's lines by what they are: "published", "ours", "difference"."""
    found: dict[str, tuple[str, ...]] = {}
    here = False
    for row in table.rows:
        here = row[0].split(" ")[-1] == name or row[0] == name if row[0] else here
        if here:
            found[row[1].split(" (")[0]] = row[1:]
    return found


def records_of(table: TextTable) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.csv())))


def write_all_targets(root: Path, recipe: str, values_db: dict[int, float], **options: object) -> None:
    """Write runs of all targets; each target is 1 dB above the next one, around the value."""
    for seed, value in values_db.items():
        for number, target in enumerate(TARGETS):
            write_study_run(root, recipe, seed, value + 1.5 - number, target, **options)  # type: ignore[arg-type]


def test_every_cell_that_nobody_ran_says_so_and_shows_no_number_of_ours(tmp_path: Path) -> None:
    (table,) = table_2([])
    assert [row[0] for row in table.rows if row[0]][:2] == ["1 base", "2 accumulate-gradients"]
    for recipe, row in published.table2().items():
        lines = lines_of(table, recipe)
        assert set(lines) == {"published", "ours"}
        assert [float(cell) for cell in lines["published"][1:6]] == [row.usdr_db[c] for c in published.COLUMNS]
        assert lines["ours"] == ("ours", *["not run"] * 5, "-", "-")
    found = records_of(table)
    assert len(found) == 21 * 7
    assert all(one["ours_mean"] == one["difference"] == "" and one["n"] == "0" for one in found)


def test_ours_stands_beside_the_published_with_spread_seeds_and_difference(tmp_path: Path) -> None:
    write_all_targets(tmp_path, "base", {1: 7.0, 2: 7.2, 3: 7.4})
    (table,) = table_2(read_runs(tmp_path))
    lines = lines_of(table, "base")
    assert lines["published"] == ("published", "7.7", "6.1", "9.7", "4.8", "7.1", "32.3", "127")
    assert lines["ours"] == (
        "ours (3 seeds)",
        "8.70 ± 0.20",
        "7.70 ± 0.20",
        "6.70 ± 0.20",
        "5.70 ± 0.20",
        "7.20 ± 0.20",
        "-",
        "4.5",
    )  # fmt: skip  (four targets, 0.75 kWh each, PUE 1.5)
    assert lines["difference"] == ("difference", "+1.00", "+1.60", "-3.00", "+0.90", "+0.10", "", "")
    (average,) = [one for one in records_of(table) if one["model"] == "base" and one["target"] == "average"]
    assert (average["unit"], average["published"], average["n"], average["state"]) == ("dB", "7.1", "3", "")
    assert float(average["ours_mean"]) == pytest.approx(7.2)
    assert float(average["ours_std"]) == pytest.approx(0.2)
    assert float(average["difference"]) == pytest.approx(0.1)
    assert "PUE of 1.5" in table.caption


def test_a_difference_of_nothing_has_its_line(tmp_path: Path) -> None:
    write_study_run(tmp_path, "base", 1, 7.7)  # as published
    (table,) = table_2(read_runs(tmp_path))
    assert lines_of(table, "base")["difference"] == ("difference", "+0.00", *["-"] * 4, "", "")


def test_the_average_needs_all_four_targets_of_a_seed(tmp_path: Path) -> None:
    write_all_targets(tmp_path, "base", {1: 7.0})
    write_study_run(tmp_path, "base", 2, 9.0, "vocals")
    (table,) = table_2(read_runs(tmp_path))
    ours = lines_of(table, "base")["ours"]
    assert ours[:2] == ("ours (1 to 2 seeds)", "8.75 ± 0.35 (2)")
    assert ours[5] == "7.00 (1)"
    assert lines_of(table, "base")["ours"][7] == "4.5"


def test_a_shared_model_has_a_value_for_each_target(tmp_path: Path) -> None:
    write_study_run(tmp_path, "simo", 1, 7.0, "+".join(TARGETS))
    (table,) = validation_tables("Shared", ["simo"], read_runs(tmp_path))
    assert lines_of(table, "simo")["ours"][1:6] == ("8.50", "7.50", "6.50", "5.50", "7.00")


def test_unfinished_runs_and_runs_changed_by_hand_are_no_results(tmp_path: Path) -> None:
    write_study_run(tmp_path, "large", 1, 9.0, stop=None)
    write_study_run(tmp_path, "large", 1, 9.0, target="bass", changes={"model.n_blocks": 4})
    (table,) = table_2(read_runs(tmp_path))
    assert lines_of(table, "large")["ours"][1:6] == ("unfinished", "not run", "not run", "not run", "unfinished")


def test_a_run_that_goes_on_says_running(tmp_path: Path) -> None:
    folder = write_study_run(tmp_path, "large", 1, 9.0, stop=None)
    with FileLock(folder / ".lock"):
        (table,) = table_2(read_runs(tmp_path))
    assert lines_of(table, "large")["ours"][1:6] == ("running", "not run", "not run", "not run", "running")


def test_numbers_of_another_data_set_have_a_table_of_their_own_without_published_numbers(tmp_path: Path) -> None:
    for recipe, value in (("base", 3.1), ("large", 4.3), ("bscnn", 3.6)):
        write_all_targets(tmp_path, recipe, {1: value, 2: value + 0.1}, data=TOY)
    first, second = table_2(read_runs(tmp_path))
    assert lines_of(first, "base")["ours"][1:6] == ("not run",) * 5
    assert "on toy (train c2, valid d2), which is not MUSDB18-HQ" in second.caption
    assert second.rows[0] == (
        "base", "4.65 ± 0.07", "3.65 ± 0.07", "2.65 ± 0.07", "1.65 ± 0.07", "3.15 ± 0.07", "2", "-", "4.5", "3", "2",
    )  # fmt: skip
    assert [row[-2:] for row in second.rows] == [("3", "2"), ("1", "1"), ("2", "3")]  # place here, published place
    assert not any(value in second.csv() for value in ("7.7,", "127,", "32.3,"))
    assert {one["published"] for one in records_of(second)} == {""}
    order, opposite = second.footnotes[-2:]
    assert order == (
        "Order compared with the paper's (average, 3 pairs with different published scores): 2 in the same order, 1 in "
        "the opposite order. Significant differences here: 3 (2 in the same order, 1 in the opposite order)."
    )
    assert re.fullmatch(
        r"Significant differences with the opposite sign from the paper: base - bscnn -0\.50 dB "
        r"\[-0\.\d\d, -0\.\d\d\], published \+0\.5 dB\.",
        opposite,
    )


def test_small_counterparts_are_placed_beside_their_namesakes(tmp_path: Path) -> None:
    for recipe, value in (("mini-base", 3.0), ("mini-large", 4.0), ("mini-bscnn", 2.0)):
        for seed in (1, 2, 3):
            write_study_run(tmp_path, recipe, seed, value + seed / 100, data=TOY)
    tables = study_tables(STUDIES["mini"], read_runs(tmp_path), [])
    assert list(tables) == ["variants"]
    places = {row[0]: row[-2:] for row in tables["variants"].rows}
    assert places == {"mini-base": ("2", "2"), "mini-large": ("1", "1"), "mini-bscnn": ("3", "3")}
    assert tables["variants"].footnotes[-1] == (
        "Order compared with the paper's (vocals, 3 pairs with different published scores): 3 in the same order, 0 in "
        "the opposite order. Significant differences here: 3 (3 in the same order, 0 in the opposite order)."
    )


def test_one_recipe_with_a_published_number_has_no_place(tmp_path: Path) -> None:
    for recipe in ("mini-base", "mini-dttnet"):
        write_study_run(tmp_path, recipe, 1, 3.0, data=TOY)
    table = study_tables(STUDIES["table1-mini"], read_runs(tmp_path), [])["families"]
    assert [row[0] for row in table.rows] == ["mini-base", "mini-dttnet"]
    assert table.header[-1] == "energy, kWh"


def test_the_documentation_shows_the_tables_that_the_code_makes() -> None:
    page = (ROOT / "docs" / "paper-tables.md").read_text(encoding="utf-8")
    tables = study_tables(STUDIES["paper"], [], [])
    assert list(tables) == ["table1", "table2", "table3", "convergence", "layers", "simo", "data"]
    assert page.endswith("\n".join(table.markdown() for table in tables.values()))


def test_scores_of_a_study_on_test_songs_stand_beside_yardsticks_in_a_table_for_each_data_set() -> None:
    toy: dict[str, Any] = {"data": "toy", "fingerprint": "e9", "benchmark": None}
    songs = np.linspace(-1, 1, 9)
    scores = [
        row
        for recipe, mean_db in (("mini-base", 3.0), ("mini-large", 4.0))
        for seed in (1, 2, 3)
        for row in make_scores(recipe, "usdr_db", (songs + mean_db + 0.1 * seed).tolist(), seed=seed, **toy)
    ]
    scores += make_scores(None, "usdr_db", songs.tolist(), system="mixture", seed=None, **toy)
    scores += make_scores("mini-base", "csdr_db", [1.0, 2.0, 9.0], **toy)
    real: dict[str, Any] = toy | {"data": "real", "fingerprint": "f1"}
    scores += make_scores("mini-base", "usdr_db", [5.0], **real)
    tables = study_tables(STUDIES["mini"], [], scores)
    assert tables["test"].header == ("system", "vocals uSDR", "vocals cSDR")
    assert tables["test"].rows == (
        ("mini-base", "3.20 ± 0.10", "2.00"), ("mini-large", "4.20 ± 0.10", "-"), ("mixture", "0.00", "-"),
    )  # fmt: skip
    assert "on toy (e9), 9 songs" in tables["test"].caption
    assert (
        tables["test"]
        .footnotes[-1]
        .startswith("Order compared with the paper's (vocals, 1 pairs with different published scores): 1")
    )
    assert tables["test-2"].rows == (("mini-base", "5.00", "-"),)
    assert "real (f1), 1 song (" in tables["test-2"].caption


def test_pairs_that_are_equal_in_print_say_nothing_about_the_order() -> None:
    toy: dict[str, Any] = {"data": "toy", "fingerprint": "e9", "benchmark": None}
    scores = [  # 7.7 dB each published, by vocals
        row
        for recipe, mean_db in (("mini-base", 3.0), ("mini-naive-stereo", 4.0))
        for row in make_scores(recipe, "usdr_db", [mean_db] * 9, **toy)
    ]
    found = compare(scores, "usdr_db")
    assert describe_agreement(found, "vocals") == []
    (pair,) = published_pairs(found, "drums")
    assert (pair.published_db, pair.alike, pair.sure) == (1.3, False, True)


def test_a_set_that_only_has_the_name_of_the_benchmark_is_not_the_benchmark(tmp_path: Path) -> None:
    write_study_run(tmp_path, "base", 1, 7.0, data={"name": "MUSDB18-HQ"})
    first, second = table_2(read_runs(tmp_path))
    assert lines_of(first, "base")["ours"][1] == "not run"
    assert "on MUSDB18-HQ, no fingerprint, which is not MUSDB18-HQ" in second.caption


def test_runs_of_two_versions_are_two_rows_and_never_averaged(tmp_path: Path) -> None:
    write_study_run(tmp_path, "base", 1, 7.0, version="1.0")
    write_study_run(tmp_path, "base", 2, 8.0, version="2.0")
    (table,) = table_2(read_runs(tmp_path))
    rows = {row[0]: row[2] for row in table.rows if row[0].startswith("1 base")}
    assert set(rows) == {"1 base (version 1.0)", "1 base (version 2.0)"}
    ours = [row[2] for row in table.rows if row[1] == "ours (1 seed)"]
    assert ours == ["7.00", "8.00"]


def test_notes_list_the_rows_that_are_not_significantly_different(tmp_path: Path) -> None:
    for recipe, value in (("base", 7.0), ("tac-prelu", 7.01), ("large", 9.0)):
        write_all_targets(tmp_path, recipe, {1: value, 2: value + 0.05, 3: value - 0.05})
    (table,) = table_2(read_runs(tmp_path))
    assert table.footnotes == (
        "By average, 3 pairs of ours compared, song by song (95 %). Not significantly different from each other: 1, "
        "13. All other pairs differ significantly.",
    )


def test_one_seed_each_is_said_to_be_the_limit(tmp_path: Path) -> None:
    write_all_targets(tmp_path, "base", {1: 7.0})
    write_all_targets(tmp_path, "tac-prelu", {1: 7.5})
    (table,) = table_2(read_runs(tmp_path))
    assert table.footnotes == (
        "By average, 1 pair of ours compared, song by song (95 %): none differs significantly.",
        "In 1 pair the only doubt is the unknown variance between seeds.",
    )


def test_scores_of_a_validation_carry_what_they_were_made_with(tmp_path: Path) -> None:
    write_study_run(tmp_path, "base", 3, 7.0)
    (run,) = read_runs(tmp_path)
    rows = validation_scores(run)
    assert len(rows) == 14
    first = rows[0]
    assert (first.recipe, first.seed, first.split, first.benchmark) == ("base", 3, "valid", "MUSDB18-HQ")
    assert (first.fingerprint, first.version) == ("train a1, valid b1", "1.0")
    assert first.inference == "whole songs; crossfade, chunk_s 10.0"
    assert sum(row.value or 0 for row in rows) / 14 == pytest.approx(7.0)


def test_parameters_are_counted_from_the_header_of_the_weights(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"a": "b"}, "w": {"dtype": "F32", "shape": [3, 5], "data_offsets": [0, 60]},
                         "b": {"dtype": "F32", "shape": [5], "data_offsets": [60, 80]}}).encode()  # fmt: skip
    folders = [write_study_run(tmp_path, "base", 1, 7.0, target) for target in TARGETS]
    for folder in folders:
        (folder / "best.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(80))
    folder = folders[-1]
    assert count_stored_parameters(folder / "best.safetensors") == 20
    ((measured,),) = measure_runs(read_runs(tmp_path)).values()
    assert measured.parameters_m == pytest.approx(80e-6)
    (folder / "best.safetensors").write_bytes(b"torn")
    assert count_stored_parameters(folder / "best.safetensors") is None
    assert count_stored_parameters(tmp_path / "absent") is None


# --- test scores -----------------------------------------------------------------------------------------------------

SONGS = [6.0, 8.0, 7.0, 9.0, 5.0, 7.5, 6.5]


def test_table_1_marks_the_two_corrected_cells_and_adds_ours() -> None:
    rows = make_scores("optimised", "csdr_db", SONGS) + make_scores("optimised", "csdr_db", [9.0] * 7, seed=2)
    rows += make_scores(None, "csdr_db", [1.0] * 7, system="mixture", seed=None)
    (table,) = table_1(rows)
    cells = {(row[0], row[1]): row[3:] for row in table.rows}
    assert cells["HT Demucs", "no"] == ("7.9", "8.5", "7.9", "5.7†", "7.5")
    assert cells["DTTNet", "no"][2] == "7.7†"
    assert sum("†" in cell for row in table.rows for cell in row) == 2
    assert [note for note in table.footnotes if note.startswith("†")] == [
        "† HT Demucs, extra data no: the paper prints other 5.2; two independent tables say 5.72.",
        "† DTTNet, extra data no: the paper prints drums 7.4; the DTTNet table says 7.74.",
    ]
    start = next(number for number, row in enumerate(table.rows) if row[0] == "optimised")
    theirs, ours, difference, mixture = table.rows[start : start + 4]
    assert theirs[2:4] == ("published", "9.81")
    assert ours[2:4] == ("ours (2 seeds)", "8.00 ± 1.41")  # medians over songs: 7 and 9
    assert difference[2:4] == ("difference", "-1.81")
    assert mixture[:4] == ("mixture", "", "ours", "1.00")


def test_a_system_that_was_trained_on_the_test_songs_is_marked_and_not_compared() -> None:
    rows = [
        row
        for metric in ("csdr_db", "usdr_db")
        for row in (
            *make_scores("base", metric, SONGS),
            *make_scores("optimised", metric, SONGS),
            *make_scores(None, metric, [12.0] * 7, system="mdx_extra", seed=None, saw_test_songs=True),
        )
    ]
    for table in (table_1(rows)[0], test_set.test_set_tables("Test set", rows, TARGETS)[0]):
        assert [row[0] for row in table.rows if row[0].startswith("mdx_extra")] == ["mdx_extra ‡"]
        assert "‡ trained on these songs: not a score" in table.footnotes
        assert any("1 pair of ours compared" in note for note in table.footnotes)
    (without, *_) = table_1([row for row in rows if row.recipe is not None])
    assert not any("‡" in text for text in (*without.footnotes, *(row[0] for row in without.rows)))


def test_table_1_of_another_data_set_shows_no_published_system() -> None:
    first, second = table_1(make_scores("base", "csdr_db", SONGS, benchmark=None, data="toy"))
    assert "Ours: not run." in first.footnotes
    assert [row[0] for row in second.rows] == ["base"]
    assert "on toy (e1), which is not MUSDB18-HQ" in second.caption


def test_table_3_finds_the_line_by_recipe_and_inference() -> None:
    (empty,) = table_3([])
    assert [row[2] for row in empty.rows].count("published") == 6
    assert all(set(row[3:]) == {"not run"} for row in empty.rows if row[2] == "ours")
    rows = make_scores("large-patience-30", "usdr_db", SONGS)
    rows += make_scores("large-patience-30", "usdr_db", [4.0] * 7, inference="overlap-add (chunk 3 s, hop 0.5 s)")
    rows += make_scores("large-patience-30", "usdr_db", [1.0] * 7, inference="overlap-add (chunk 4 s, hop 0.5 s)")
    (table,) = table_3(rows)
    ours = [row for row in table.rows if row[2] == "ours (1 seed)"]
    assert [row[3] for row in ours] == ["7.00", "4.00"]
    assert [row[4] for row in ours] == ["not run", "not run"]
    gaps = [row[3] for row in table.rows if row[2] == "difference"]
    assert gaps == ["-2.20", "-5.20"]
    assert table.footnotes[0] == "By average, 1 pair of ours compared, song by song (95 %): all differ significantly."


def test_the_convergence_table_lists_seeds_with_mean_and_deviation(tmp_path: Path) -> None:
    for seed, value in ((1, 7.0), (2, 7.5), (3, 8.0)):
        write_study_run(tmp_path, "base", seed, value)
    (table,) = convergence_tables(["base", "base-patience-30"], read_runs(tmp_path))
    rows = {row[:3]: row[3:] for row in table.rows}
    assert rows["base", "vocals", "published"] == ("7.7", "8.1", "7.4", "7.73", "0.35")
    assert rows["base", "vocals", "ours"] == ("7.00", "7.50", "8.00", "7.50", "0.50")
    assert rows["base", "bass", "ours"] == ("-", "-", "-", "not run", "-")
    assert rows["base-patience-30", "vocals", "published"] == ("-", "-", "-", "8.3", "-")
    assert any("standard deviation 0.03" in note for note in table.footnotes)


@pytest.mark.parametrize("id", list(STUDIES))
def test_every_study_has_its_tables_before_anything_ran(id: str) -> None:
    tables = study_tables(STUDIES[id], [], [])
    assert set(tables) >= {part for part, experiments in STUDIES[id].parts.items() if experiments}
    for table in tables.values():
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.header)}
        assert "not run" in table.markdown()


def test_comparisons_are_a_table_too() -> None:
    rows = make_scores("base", "usdr_db", SONGS) + make_scores("large", "usdr_db", [value + 2 for value in SONGS])
    table = comparison_table(compare(rows, "usdr_db"), "Pairs")
    assert table.rows[0][:5] == ("base", "large", "vocals", "large better", "-2.00")
    assert {one["verdict"] for one in records_of(table)} == {"large better"}


# --- formats ---------------------------------------------------------------------------------------------------------


def test_latex_is_escaped_and_continued_rows_stand_together() -> None:
    table = TextTable(
        "50 % of a_b & c", ("name", "dB"), (("x_1 ± 2", "[3"), ("", "4"), ("#2", r"\5 ~ ^ {|}")), ("† note $",)
    )
    assert table.latex() == "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            r"\caption{50 \% of a\_b \& c}",
            r"\begin{tabular}{lr}",
            r"\toprule",
            r"name & dB \\",
            r"\midrule",
            r"x\_1 $\pm$ 2 & {[}3 \\",
            r" & 4 \\",
            r"\addlinespace",
            r"\#2 & \textbackslash{}5 \textasciitilde{} \textasciicircum{} \{\textbar{}\} \\",
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip{\footnotesize $\dagger$ note \$\par}",
            r"\end{table}",
            "",
        ]
    )


def test_csv_without_records_is_the_table_itself() -> None:
    table = TextTable("caption", ("name", "a, b"), (("x", '1"'),))
    assert list(csv.reader(io.StringIO(table.csv()))) == [["name", "a, b"], ["x", '1"']]


def test_the_data_of_a_run_are_its_audio_and_not_its_folder(tmp_path: Path) -> None:
    write_study_run(tmp_path, "base", 1, 7.0)
    write_study_run(tmp_path, "base", 2, 8.0, data={**MUSDB, "name": "copy"})
    assert len(measure_runs(read_runs(tmp_path))) == 1

"""Rows keep what they mean and are aggregated as their metric says."""

import io
import math
from pathlib import Path
from typing import Literal

import pytest
from rich.console import Console

from bandsplit.core.errors import BandsplitError
from bandsplit.core.targets import order_targets
from bandsplit.evaluation.results import (
    SDR_CONVENTIONS,
    Metric,
    Score,
    Summary,
    aggregate,
    append_scores,
    average_over_targets,
    read_scores,
    summarise_conventions,
)
from bandsplit.evaluation.tables import convention_tables, score_tables
from bandsplit.models.chunk_config import ChunkConfig, CrossfadeConfig, FadedConfig, FoldedConfig, JoinedConfig
from bandsplit.published.paper import convention_users
from bandsplit.separation.chunks import describe_chunks


def _score(
    value: float | None,
    system: str = "net",
    track: str = "A",
    target: str = "vocals",
    metric: Metric = "usdr_db",
    inference: str = "whole",
    plan: ChunkConfig | None = None,
    saw_test_songs: Literal[True] | None = None,
) -> Score:
    return Score(
        system=system,
        data="set",
        split="test",
        track=track,
        target=target,
        metric=metric,
        value=value,
        mixture="file",
        inference=inference if plan is None else describe_chunks(plan),
        plan=plan,
        scored_with=("vocals", "bass"),
        version="1",
        saw_test_songs=saw_test_songs,
    )


def test_rows_survive_the_file_and_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "scores.jsonl"
    rows = [_score(1.25, track="Ünïcode\nname"), _score(None, metric="csdr_db")]
    append_scores(path, rows[:1])
    append_scores(path, rows[1:])
    assert read_scores(path) == rows


def test_a_system_that_was_trained_on_the_songs_is_marked_and_other_rows_are_as_before(tmp_path: Path) -> None:
    rows = [_score(math.inf), _score(9.0, "other net", saw_test_songs=True)]
    append_scores(tmp_path / "scores.jsonl", rows)
    first, second = (tmp_path / "scores.jsonl").read_text().splitlines()
    assert "saw_test_songs" not in first and '"value":"Infinity"' in first and '"saw_test_songs":true' in second
    assert read_scores(tmp_path / "scores.jsonl") == rows
    (table,) = score_tables(rows)
    assert [row[0] for row in table.rows] == ["net", "other net ‡"]
    assert table.footnotes == ("‡ trained on these songs: not a score",)
    assert score_tables(rows[:1])[0].footnotes == ()
    assert r"other net $\ddagger$" in table.latex()


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    append_scores(path, [_score(1.0)])
    whole = path.read_bytes()
    for line in (b'{"system": "net"}\n', b"[1]\n", b"scores", b"\xff\xfe{", b"\x89PNG"):
        path.write_bytes(whole + line)
        with pytest.raises(BandsplitError, match=r"scores\.jsonl, line 2: not a score .*; delete the line"):
            read_scores(path)
    with pytest.raises(BandsplitError, match=r"absent\.jsonl: cannot be read as scores"):
        read_scores(tmp_path / "absent.jsonl")


def test_usdr_is_averaged_and_csdr_is_the_median_over_songs() -> None:
    values = {"A": 1.0, "B": 2.0, "C": 9.0}
    (usdr,) = aggregate(_score(value, track=track) for track, value in values.items()).values()
    (csdr,) = aggregate(_score(value, track=track, metric="csdr_db") for track, value in values.items()).values()
    assert usdr == {"vocals": Summary(4.0, 3)}
    assert csdr == {"vocals": Summary(2.0, 3)}


@pytest.mark.parametrize("metric", ["si_sdr_db", "l1_freq", "si_sar_db", "bleedless", "fullness", "lsd_db"])
def test_all_other_metrics_are_averaged(metric: Metric) -> None:
    (summary,) = aggregate(_score(value, track=str(value), metric=metric) for value in (1.0, 2.0, 9.0)).values()
    assert summary == {"vocals": Summary(4.0, 3)}


def test_a_row_that_was_cut_is_left_out_with_a_note_also_when_others_follow_it(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    rows = [_score(1.0), _score(2.0, track="B")]
    append_scores(path, rows)
    whole = path.read_bytes()
    for cut in (len(whole) - 2, len(whole) // 2 + 1, 5):
        path.write_bytes(whole[:cut])
        append_scores(path, rows)
        before = whole[:cut].count(b"\n")
        notes: list[str] = []
        assert read_scores(path, notes.append) == [*rows[:before], *rows]
        assert notes == [
            f"{path}: left out a line that is cut or damaged: {before + 1}; evaluate the songs in question again"
        ]
        with pytest.warns(UserWarning, match="left out a line"):
            read_scores(path)
    path.write_bytes(whole[:-1])
    append_scores(path, rows)
    assert path.read_bytes() == whole + whole


def test_windows_and_odd_names_survive_the_file(tmp_path: Path) -> None:
    row = _score(1.0, track="a\u2028b\x85c").model_copy(update={"windows": (1.5, None, math.inf)})
    append_scores(tmp_path / "scores.jsonl", [row, row])
    assert read_scores(tmp_path / "scores.jsonl") == [row, row]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BandsplitError, match=r"scores\.jsonl: cannot be written .*; choose another file"):
        append_scores(tmp_path / "file" / "scores.jsonl", [_score(1.0)])


def test_seeds_states_of_a_model_and_definitions_are_never_averaged() -> None:
    rows = [
        _score(1.0).model_copy(update=change)
        for change in ({"seed": 1}, {"seed": 2}, {"source": "0123"}, {"convention": "museval 3"})
    ]
    assert len(aggregate(rows)) == 4
    (table,) = score_tables(rows[:2])
    assert [row[0] for row in table.rows] == ["net (seed: 1)", "net (seed: 2)"]
    hashed = [row.model_copy(update={"source": f"hash {row.seed}"}) for row in rows[:2]]
    assert score_tables(hashed)[0].rows == table.rows  # hashes are shown only where nothing else tells systems apart
    (table,) = score_tables(row.model_copy(update={"seed": None}) for row in hashed)
    assert [row[0] for row in table.rows] == ["net (source: hash 1)", "net (source: hash 2)"]


def test_songs_without_a_value_do_not_count() -> None:
    rows = [_score(3.0, track="A", metric="csdr_db"), _score(None, track="B", metric="csdr_db")]
    (summary,) = aggregate(rows).values()
    assert summary == {"vocals": Summary(3.0, 1)}
    (none,) = aggregate(rows[1:]).values()
    assert none == {"vocals": Summary(None, 0)}


def test_a_repeated_evaluation_replaces_the_earlier_one() -> None:
    (summary,) = aggregate([_score(1.0), _score(5.0, track="B"), _score(3.0)]).values()
    assert summary == {"vocals": Summary(4.0, 2)}


def test_rows_of_different_settings_are_never_mixed() -> None:
    assert len(aggregate([_score(1.0), _score(3.0, inference="chunks of 10 s")])) == 2


def test_nan_becomes_none_and_infinity_survives_the_file(tmp_path: Path) -> None:
    assert _score(math.nan).value is None
    append_scores(tmp_path / "scores.jsonl", [_score(math.inf)])
    assert read_scores(tmp_path / "scores.jsonl")[0].value == math.inf


def test_the_average_needs_every_target() -> None:
    assert average_over_targets([1.0, 3.0]) == 2.0
    assert average_over_targets([1.0, None]) is None


def test_targets_come_in_the_order_of_the_literature() -> None:
    assert order_targets(["zither", "other", "flute", "vocals", "drums", "bass"]) == [
        "vocals", "bass", "drums", "other", "flute", "zither"
    ]  # fmt: skip


def test_a_table_says_its_metric_aggregation_and_songs() -> None:
    rows = [_score(1.0 + song + (target == "bass"), track=f"{song}", target=target)
            for song in range(3) for target in ("bass", "vocals")]  # fmt: skip
    rows += [_score(-0.5, system="vocals|only", track=f"{song}") for song in range(3)]
    (table,) = score_tables(rows)
    assert table.markdown() == (
        "uSDR, dB, mean over 3 songs (set, test)\n\n"
        "| system | vocals | bass | average |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| net | 2.00 | 3.00 | 2.50 |\n"
        "| vocals\\|only | -0.50 | - | - |\n"
    )


def test_systems_scored_on_different_songs_show_how_many() -> None:
    rows = [_score(1.0, track="A"), _score(2.0, track="B"), _score(3.0, system="late", track="A")]
    (table,) = score_tables(rows)
    assert table.caption == "uSDR, dB, mean over songs (set, test)"
    assert table.header == ("system", "vocals", "songs")
    assert table.rows == (("net", "1.50", "2"), ("late", "3.00", "1"))


def test_one_system_under_two_settings_has_two_labelled_lines() -> None:
    (table,) = score_tables([_score(1.0), _score(3.0, inference="chunks")])
    assert [row[0] for row in table.rows] == ["net (inference: whole)", "net (inference: chunks)"]


def test_each_metric_has_its_own_table_and_nothing_counted_is_said() -> None:
    tables = score_tables([_score(0.0, system="silence"), _score(None, system="silence", metric="csdr_db")])
    assert [table.caption.split(",")[0] for table in tables] == ["uSDR", "cSDR"]
    assert tables[0].rows == (("silence", "0.00"),)
    assert tables[1].rows == (("silence", "n/a"),)


def test_the_screen_table_shows_names_as_they_are() -> None:
    (table,) = score_tables([_score(1.0, system="[bold]net[/bold]")])
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(table.screen())
    text = console.export_text()
    assert "[bold]net[/bold]" in text and "1.00" in text and "uSDR, dB, mean over 1 song (set, test)" in text


def test_plans_survive_the_file_and_rows_without_one_can_still_be_read(tmp_path: Path) -> None:
    plans = [CrossfadeConfig(), FadedConfig(exact_batch=3), JoinedConfig(chunk_s=6, sixteen_bits=True)]
    rows = [_score(1.0, plan=plan) for plan in plans]
    append_scores(tmp_path / "scores.jsonl", rows)
    assert [row.plan for row in read_scores(tmp_path / "scores.jsonl")] == plans
    old = _score(1.0).model_dump_json(exclude={"plan"})
    (tmp_path / "old.jsonl").write_text(old + "\n")
    assert read_scores(tmp_path / "old.jsonl") == [_score(1.0)]


def test_systems_name_their_plans_where_these_differ() -> None:
    def names(*rows: Score) -> list[str]:
        (table,) = score_tables(rows)
        return [line[0] for line in table.rows]

    yardstick = _score(0.0, system="silence", inference="none")
    alike = [_score(1.0, plan=CrossfadeConfig()), _score(2.0, system="other", plan=CrossfadeConfig())]
    assert names(*alike, yardstick) == ["net", "other", "silence"]
    unlike = [_score(1.0, plan=FadedConfig()), _score(2.0, system="other", plan=FoldedConfig(chunk_s=6)), yardstick]
    faded, folded = "faded (chunk 8 s, 2 overlaps)", "folded (chunk 6 s, 8 overlaps)"
    assert names(*unlike) == [f"net (inference: {faded})", f"other (inference: {folded})", "silence"]
    one_system = [_score(1.0, plan=FadedConfig()), _score(2.0, plan=FoldedConfig(chunk_s=6))]
    assert names(*one_system) == [f"net (inference: {faded})", f"net (inference: {folded})"]


def _windows(*values: float | None, track: str = "A", target: str = "vocals", metric: Metric = "csdr_db") -> Score:
    present = sorted(value for value in values if value is not None)
    median = present[len(present) // 2] if present else None  # of an odd number of windows
    return _score(median, track=track, target=target, metric=metric).model_copy(update={"windows": values})


def test_conventions_aggregate_the_same_rows_in_their_own_ways() -> None:
    rows = [
        _score(1.0, track="A"), _score(2.0, track="B"), _score(6.0, track="C"),
        _score(1.5, track="A", metric="msst_sdr_db"),
        _windows(1.0, None, 2.0, 9.0, track="A"),
        _windows(3.0, track="B"),
        _windows(10.0, 20.0, None, 31.0, 40.0, 50.0, track="C"),
        _windows(None, track="D"),
        _windows(4.0, 5.0, 6.0, track="A", metric="csdr_rest_db"),
    ]  # fmt: skip
    (found,) = summarise_conventions(rows).values()
    assert {id: targets["vocals"] for id, targets in found.items()} == {
        "usdr": Summary(3.0, 3),
        "msst": Summary(1.5, 1),
        "csdr-median": Summary(3.0, 3),  # of 2, 3, 31
        "csdr-mean": Summary(12.0, 3),
        "csdr-pooled": Summary(10.0, 9),  # of 1, 2, 3, 9, 10, 20, 31, 40, 50
        "csdr_rest-median": Summary(5.0, 1), "csdr_rest-mean": Summary(5.0, 1), "csdr_rest-pooled": Summary(5.0, 3),
    }  # fmt: skip
    assert list(found) == [id for id in SDR_CONVENTIONS if id in found]


def test_conventions_count_a_repeated_evaluation_once_and_never_mix_settings() -> None:
    rows = [_windows(1.0, 2.0, 3.0), _windows(7.0, 8.0, 9.0)]
    (found,) = summarise_conventions(rows).values()
    assert found["csdr-pooled"]["vocals"] == Summary(8.0, 3)
    assert len(summarise_conventions([rows[0], rows[1].model_copy(update={"inference": "chunks"})])) == 2


def test_the_table_of_conventions_has_one_line_each_and_says_what_was_counted() -> None:
    rows = [
        *(_score(value, track=track, target=target) for track, value in (("A", 1.0), ("B", 3.0))
          for target in ("vocals", "bass")),
        _windows(1.0, 2.0, 9.0), _windows(4.0, track="B"),
        _windows(None, 5.0, None, target="bass"), _windows(None, track="B", target="bass"),
    ]  # fmt: skip
    (table,) = convention_tables(rows)
    assert table.caption == "net: SDR in dB by convention (set, test)"
    assert table.header == ("convention", "used by", "vocals", "bass", "average", "counted")
    assert [(line[0], *line[2:]) for line in table.rows] == [
        ("uSDR", "2.00", "2.00", "2.00", "2 songs"),
        ("cSDR", "3.00", "5.00", "4.00", "1 to 2 songs"),
        ("cSDR, mean", "3.00", "5.00", "4.00", "1 to 2 songs"),
        ("cSDR, pooled", "3.00", "5.00", "4.00", "1 to 4 windows"),
    ]
    assert "SDX" in table.rows[0][1] and "museval" in table.rows[1][1]
    two = convention_tables([*rows, *(row.model_copy(update={"inference": "chunks"}) for row in rows)])
    assert [table.caption.split(":")[0] for table in two] == ["net (inference", "net (inference"]
    assert table.footnotes == two[1].footnotes != two[0].footnotes == ()


def test_each_convention_that_is_said_to_be_used_exists() -> None:
    assert set(convention_users()) <= set(SDR_CONVENTIONS)


def test_plans_may_have_a_column_under_each_system() -> None:
    plans = [CrossfadeConfig(), FoldedConfig(chunk_s=6)]
    rows = [_score(1.0 + n, system=system, plan=plan) for n, plan in enumerate(plans) for system in ("a", "b")]
    (table,) = score_tables([*rows, _score(0.0, system="silence", inference="none")], by_plan=True)
    assert (table.header, table.text_columns) == (("system", "inference", "vocals"), 2)
    crossfade, folded = map(describe_chunks, plans)
    assert table.rows == (
        ("a", crossfade, "1.00"), ("", folded, "2.00"),
        ("b", crossfade, "1.00"), ("", folded, "2.00"),
        ("silence", "none", "0.00"),
    )  # fmt: skip

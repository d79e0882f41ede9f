"""Table I of a study of systems, from scores: forms in their places, marks, and what nobody ran."""

from pathlib import Path
from typing import Any

from bandsplit.evaluation.results import Score
from bandsplit.separation.chunks import describe_chunks
from bandsplit.studies.figures import study_figures
from bandsplit.studies.outcome import StudyData, comparison_tables, gather
from bandsplit.studies.plans import STUDIES
from bandsplit.studies.runner.folder import StudyFolder
from bandsplit.studies.tables.validation import study_tables
from study_runs import make_scores

STUDY = STUDIES["table1"]
PROTOCOL = describe_chunks(STUDY.plan) if STUDY.plan is not None else ""


def both(recipe: str | None, first: float, **fields: Any) -> list[Score]:
    """Scores of a system on eight songs, by both metrics, uSDR 1 dB below cSDR."""
    values = [first + 0.1 * song for song in range(8)]
    facts = {"inference": PROTOCOL, "seed": None if recipe is None else 1} | fields
    return [
        *make_scores(recipe, "csdr_db", values, **facts),
        *make_scores(recipe, "usdr_db", [value - 1 for value in values], **facts),
    ]


SCORES = [
    *both("table1-htdemucs", 5.0),
    *both("table1-dttnet", 6.0),
    *both(None, 7.0, system="htdemucs"),
    *both(None, 8.0, system="htdemucs", inference="triangle"),
    *both(None, 20.0, system="mdx_extra", saw_test_songs=True),
    *both(None, 9.0, system="mel-roformer-kim")[:8],
]


def lines(scores: list[Score], name: str = "table1") -> dict[tuple[str, ...], list[str]]:
    """Lines of the table by form, name and plan."""
    return {
        tuple(row[1:4]): list(row[4:]) for row in study_tables(STUDY, [], scores)[name].rows if row[1] != "published"
    }


def test_without_a_score_every_form_of_ours_says_that_it_was_not_run():
    made = study_tables(STUDY, [], [])
    assert list(made) == ["table1", "table1-other-targets", "trained"]
    table = made["table1"]
    ours = [row for row in table.rows if row[1] != "published"]
    assert len(ours) == 21 and all(set(row[5:-1]) == {"not run"} and row[-1] == "-" for row in ours)
    assert [row[0] for row in table.rows if row[0]] == [system.name for system in STUDY.systems]
    published = [row for row in table.rows if row[1] == "published"]
    assert len(published) == 13 and {row[10] for row in published} == {"-"}
    names = {row[2] for row in table.rows}
    assert "mdx_extra ‡" in names and "table1-mdx-net, excerpts of 8.15 s" in names
    assert "not run" in table.markdown() and "not run" in table.latex() and "not run" in table.csv()
    apart = {row[2]: row[5:] for row in made["table1-other-targets"].rows}
    assert apart["bs-roformer-1297: vocals"] == ("not run", "-", "-", "-", "-", "-")


def test_lines_have_their_plan_extra_data_and_place_and_those_that_saw_the_songs_have_none():
    found = lines(SCORES)
    # The median of eight songs is 0.35 above the first, uSDR 1 below.
    assert found["trained", "table1-htdemucs", "protocol"] == ["no", *["5.35"] * 5, "4.35", "3"]
    assert found["trained", "table1-dttnet, excerpts of 7.87 s", "protocol"][-1] == "2"
    assert found["public", "htdemucs", "protocol"] == ["yes", *["7.35"] * 5, "6.35", "1"]
    assert found["public", "htdemucs", "authors'"] == ["yes", *["8.35"] * 5, "7.35", "-"]
    assert found["public", "mdx_extra ‡", "protocol"][-1] == "-"
    texts = [getattr(study_tables(STUDY, [], SCORES)["table1"], form)() for form in ("markdown", "latex", "csv")]
    assert all("table1-dttnet" in text and "7.35" in text for text in texts)
    assert found["trained", "table1-large", "-"] == ["no", *["not run"] * 6, "-"]


def test_public_weights_of_other_targets_are_in_a_table_of_their_own():
    vocals = [row for row in SCORES if row.system != "mel-roformer-kim" or row.target == "vocals"]
    assert not any("kim" in name for _, name, _ in lines(vocals))
    apart = study_tables(STUDY, [], vocals)
    line = next(row for row in apart["table1-other-targets"].rows if "kim" in row[2])
    assert line[2:] == ("mel-roformer-kim: vocals", "protocol", "yes", "9.35", "-", "-", "-", "-", "-")
    assert "not compared" in apart["table1-other-targets"].footnotes[0]
    assert not any("kim" in row[0] for row in apart["test"].rows)


def test_only_systems_that_were_scored_alike_are_compared_and_none_that_saw_the_songs(tmp_path: Path):
    found = StudyData(STUDY, StudyFolder(tmp_path), (), tuple(SCORES))
    pairs = comparison_tables(found)["comparisons-test-csdr"].rows
    named = {name for row in pairs for name in row[:2]}
    assert not any("mdx_extra" in name or "kim" in name for name in named)
    assert {name for name in named if "triangle" in name} == set()  # nothing else was scored with that plan
    assert len({frozenset(row[:2]) for row in pairs}) == 3
    assert any(
        "By average, 3 pairs of ours compared" in note for note in study_tables(STUDY, [], SCORES)["table1"].footnotes
    )


def test_other_songs_have_another_table_without_published_lines():
    other = both("table1-htdemucs", 1.0, data="songs", fingerprint="f0", benchmark=None)
    made = study_tables(STUDY, [], [*SCORES, *other])
    assert "which is not MUSDB18-HQ" in made["table1-2"].caption
    assert [row[:3] for row in made["table1-2"].rows] == [("HT Demucs", "trained", "table1-htdemucs")]
    assert [row[0] for row in made["table1"].rows if row[0]] == [system.name for system in STUDY.systems]


def test_the_figure_has_published_points_hollow_and_is_drawn_before_anything_was_run(tmp_path: Path):
    (empty,) = study_figures(STUDY, [], [], tmp_path, ".svg")
    assert empty.path.name == "systems.svg" and "trained here" not in empty.path.read_text()
    drawn = study_figures(STUDY, [], SCORES, tmp_path, ".svg")
    assert "trained here" in drawn[0].path.read_text() and "public weights, scored here" in drawn[0].path.read_text()


def test_an_empty_folder_of_the_study_has_no_result(tmp_path: Path):
    found = gather(STUDY, StudyFolder(tmp_path))
    assert found.empty
    assert not StudyData(STUDY, StudyFolder(tmp_path), (), tuple(SCORES)).empty

"""Pictures of stored costs: which points they have, at which cost, and on which front."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from bandsplit.evaluation.results import Score
from bandsplit.published.paper import AVERAGE, table1, table2
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.reports.scatter import Point, draw_scores
from bandsplit.runs.records import read_runs
from bandsplit.studies.costs.pictures import CostPicture, cost_pictures
from bandsplit.studies.costs.rows import Cost
from bandsplit.studies.costs.systems import as_published
from bandsplit.studies.figures import study_figures
from bandsplit.studies.plans import STUDIES
from stored_costs import separation, training
from study_runs import MUSDB, TOY, make_scores, write_study_run

FIELD = STUDIES["table1"]
PARENTS = [as_published(RECIPES[recipe].parent or "") for system in FIELD.systems for recipe in system.recipes]


def pictures(study: str, costs: Sequence[Cost], scores: Sequence[Score] = (), runs: Any = ()) -> dict[str, CostPicture]:
    return {one.name: one for one in cost_pictures(STUDIES[study], runs, scores, costs)}


def test_published_scores_stand_at_the_cost_of_the_recipe_or_of_the_public_bag():
    costs = [separation(name, 10.0 * number) for number, name in enumerate(PARENTS, 1)]
    costs += [separation("kuielab-mdx-net", 500.0), separation("bs-roformer-musdb", 900.0)]
    (picture,) = pictures("table1", costs).values()
    points = {point.text: point for point in picture.points}
    assert len(points) == len(table1())
    assert not any(point.ours for point in picture.points)
    assert points["KUIELab-MDX-Net"].cost == 500  # a bag
    assert points["BS-RoFormer"].cost == 10.0 * (1 + PARENTS.index("bs-roformer as published"))
    assert points["BS-RoFormer, extra data"].score_db == 12.0
    assert picture.title == "On MUSDB18-HQ; energy on m"


def test_measured_scores_stand_at_the_cost_of_their_weights_and_plan():
    costs = [separation("htdemucs", 50.0), separation("htdemucs_6s", 9.0), separation("table1-dttnet", 20.0)]
    scores = [
        *make_scores(None, "csdr_db", [7.0, 8.0, 9.0], system="htdemucs", inference="plan"),
        *make_scores(None, "csdr_db", [6.0, 7.0], system="htdemucs", inference="another plan"),
        *make_scores(None, "csdr_db", [6.0], system="htdemucs_6s", inference="plan"),  # its "other" is another target
        *make_scores("table1-dttnet", "csdr_db", [5.0], inference="plan"),
        *make_scores(None, "csdr_db", [4.0], system="hdemucs_mmi", inference="plan"),
    ]
    points = pictures("table1", costs, scores)["score-joules"].points
    # A published score has no place: no bag, and no recipe as published, was measured.
    assert {(point.label, point.cost, point.score_db, point.ours) for point in points} == {
        ("htdemucs", 50.0, 8.0, True), ("table1-dttnet", 20.0, 5.0, True)
    }  # fmt: skip


def test_other_songs_and_other_machines_have_pictures_of_their_own():
    costs = [separation("dttnet as published"), separation("table1-dttnet"), separation("table1-dttnet", machine="n")]
    toy = make_scores("table1-dttnet", "csdr_db", [5.0], inference="plan", data="toy", benchmark=None, fingerprint="t")
    found = pictures("table1", costs, toy)
    assert [(one.title, len(one.points)) for one in found.values()] == [
        ("On MUSDB18-HQ; energy on m", 1), ("On toy (t); energy on m", 1), ("On toy (t); energy on n", 1),
    ]  # fmt: skip
    assert list(found) == ["score-joules", "score-joules-2", "score-joules-3"]


def test_energy_of_training_is_published_measured_or_estimated(tmp_path: Path):
    costs = [
        training("dttnet as published", kwh=(10, 10)), training("table1-mdx-net", kwh=(20, 20)),
        training("large as published", kwh=(1, 1)),
    ]  # fmt: skip
    for target in ("vocals", "bass", "drums", "other"):
        write_study_run(tmp_path, "table1-dttnet", 1, 7.0, target)
    scores = [
        *make_scores("table1-dttnet", "csdr_db", [5.0]), *make_scores("table1-mdx-net", "csdr_db", [6.0]),
        *make_scores(None, "csdr_db", [9.0], system="bsrnn-opt"),
        *make_scores(None, "csdr_db", [9.0], system="htdemucs"),
    ]  # fmt: skip
    points = pictures("table1", costs, scores, read_runs(tmp_path))["score-training"].points
    assert {(point.label, point.cost, point.estimated, point.ours) for point in points} == {
        ("DTTNet", 15.0, True, False),
        ("BSRNN", table2()["large"].energy_kwh, False, False),
        ("table1-dttnet", 4 * 0.75 * 1.5, False, True),
        ("table1-mdx-net", 30.0, True, True),
        ("bsrnn-opt", table2()["optimised"].energy_kwh, False, True),
    }


def test_what_was_trained_on_the_songs_is_marked():
    scores = make_scores(None, "csdr_db", [9.0], system="mdx_extra", inference="plan", saw_test_songs=True)
    points = pictures("table1", [separation("mdx_extra")], scores)["score-joules"].points
    (point,) = (point for point in points if point.ours)
    assert point.seen and point.text == "mdx_extra, extra data ‡"


def test_a_study_of_recipes_has_validation_scores(tmp_path: Path):
    costs = [
        separation("base", 5.0),
        separation("optimised", 50.0, parts={"cpu": {"state": "estimated", "how": "TDP"}}),
    ]
    for target in ("vocals", "bass", "drums", "other"):
        for data in (MUSDB, TOY):
            write_study_run(tmp_path, "base", 1, 7.0, target, data)
    first, second = pictures("paper", costs, runs=read_runs(tmp_path)).values()
    assert {(point.label, point.cost, round(point.score_db, 6), point.ours) for point in first.points} == {
        ("1", 5.0, table2()["base"].usdr_db[AVERAGE], False),
        ("20b", 50.0, table2()["optimised"].usdr_db[AVERAGE], False),
        ("1", 5.0, 7.0, True),
    }  # fmt: skip
    assert [point.estimated for point in first.points] == [False, True, False]
    assert [point.label for point in second.points] == ["1"] and "toy" in second.title


def test_without_costs_there_are_no_pictures():
    assert pictures("table1", []) == pictures("paper", []) == {}
    assert pictures("paper", [separation("base", None)]) == {}


def test_the_pictures_are_among_the_figures_of_the_study(tmp_path: Path):
    costs = [separation(name, 10.0 + number) for number, name in enumerate(PARENTS)]
    made = study_figures(FIELD, [], [], tmp_path, ".png", costs)
    (figure,) = (figure for figure in made if figure.path.name == "score-joules.png")
    assert figure.caption.startswith("test cSDR against joules per minute of music (without PUE), on MUSDB18-HQ")
    with Image.open(figure.path) as picture:
        assert picture.width > 500


def test_a_picture_marks_estimates_and_keeps_systems_that_saw_the_songs_from_the_front(tmp_path: Path):
    points = [
        Point("good", 1.0, 9.0, ours=True), Point("seen", 0.5, 12.0, ours=True, seen=True),
        Point("guess", 2.0, 8.0, ours=False, estimated=True), Point("more", 1.0, 9.5, ours=False, extra_data=True),
    ]  # fmt: skip
    draw_scores(tmp_path / "a.svg", points, "cost", "score")
    text = (tmp_path / "a.svg").read_text()
    for label in (
        "ours, Pareto front",
        "published, Pareto front",
        "cost estimated",
        "‡ trained on these songs",
        "seen ‡",
        "published",
        "more, extra data",
    ):
        assert f"<!-- {label} -->" in text

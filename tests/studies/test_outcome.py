"""``bandsplit study tables | figures | report``: what is told comes from the runs and scores that are there."""

import csv
import dataclasses
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bandsplit.cli.main import app
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.studies.plans import STUDIES, planned_runs
from bandsplit.studies.runner.folder import StudyFolder
from small_study import SMALL
from small_study import STUDY as TWO_TARGETS
from songs import write_dataset

STUDY = dataclasses.replace(TWO_TARGETS, targets=("vocals",))


@pytest.fixture(scope="module", autouse=True)
def _known():
    with pytest.MonkeyPatch.context() as patch:
        for id, recipe in SMALL.items():
            patch.setitem(RECIPES, id, recipe)
        patch.setitem(STUDIES, STUDY.id, STUDY)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with songs, three finished runs of two recipes, and their scores."""
    place = tmp_path_factory.mktemp("place")
    songs = write_dataset(place / "songs", train=3, test=2, samples=12000)
    folder = StudyFolder(place / "study")
    planned = planned_runs(STUDY, ["good"], targets=["vocals"])
    for run in planned:
        options = ["--seed", str(run.seed), "--runs", str(folder.runs), "--data", str(songs), "--device", "cpu"]
        assert CliRunner().invoke(app, ["train", run.recipe, "-t", "vocals", *options]).exit_code == 0
    for run in folder.look(planned):
        model = str(run.folder / "best.safetensors")
        options = ["--data", str(songs), "--out", str(folder.scores), "--device", "cpu"]
        result = CliRunner().invoke(app, ["evaluate", model, *options])
        assert result.exit_code == 0, result.output
    return place


def ask(place: Path, *arguments: str) -> str:
    command = ["study", arguments[0], "small", "--folder", str(place / "study"), *arguments[1:]]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_tables_hold_the_mean_over_seeds_of_the_runs(place: Path):
    shown = ask(place, "tables", "--format", "md")
    folder = StudyFolder(place / "study")
    runs = [run.record for run in folder.look(planned_runs(STUDY, ["good"], ["small"], targets=["vocals"]))]
    best = [run.best.validation_usdr_db for run in runs if run is not None and run.best is not None]
    assert len(best) == 2 and f"{sum(best) / 2:.2f}" in shown
    assert "small-too" in shown and (folder.path / "tables" / "good.tex").read_text().startswith("\\begin{table}")
    with (folder.path / "tables" / "comparisons-validation.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["a"], row["b"], row["seeds_a"], row["seeds_b"]) == ("small", "small-too", "2", "1")
    assert row["verdict"] == "not significantly different"
    assert row["reason"].startswith("fewer than")  # one validation song


def test_figures_are_drawn_in_the_format_that_is_asked_for(place: Path):
    lines = ask(place, "figures", "--format", "png").splitlines()
    files = [Path(line.partition(": ")[0]) for line in lines]
    assert files and all(file.read_bytes().startswith(b"\x89PNG") for file in files)


def test_the_page_holds_tables_scores_and_songs(place: Path):
    page = Path(ask(place, "report", "--data", str(place / "songs"), "--songs", "1", "--device", "cpu").strip())
    text = page.read_text()
    assert page == place / "study" / "report" / "index.html"
    for part in ("Not measured on MUSDB18-HQ", "Energy of training", "small, seed 1", "small-too, seed 1", "Song 3"):
        assert part in text, part
    written = {str(file.relative_to(place / "study" / "songs")) for file in (place / "study" / "songs").rglob("*.wav")}
    assert {"song-1/mixture.wav", "song-1/reference/vocals.wav", "song-1/small-seed-1/vocals.wav"} <= written
    again = ask(place, "report")  # without songs, over the first
    assert "Song 3" in Path(again.strip()).read_text()


def test_a_recipe_without_models_cannot_be_heard_and_without_runs_nothing_is_measured(place: Path, tmp_path: Path):
    options = ["--folder", str(place / "study"), "--data", str(place / "songs"), "--listen", "small-long"]
    result = CliRunner().invoke(app, ["study", "report", "small", *options])
    assert "--listen small-long: no run of it is finished; finished: small" in str(result.exception)
    result = CliRunner().invoke(app, ["study", "tables", "small", "--folder", str(tmp_path)])
    assert result.exit_code == 0 and "all numbers are published ones" in result.output
    assert "not run" in (tmp_path / "tables" / "good.md").read_text()


def test_runs_changed_by_hand_are_told_nowhere(place: Path):
    folder = StudyFolder(place / "study")
    (run,) = folder.look(planned_runs(STUDY, ["good"], ["small-too"], targets=["vocals"]))
    file = run.folder / "config.json"
    before = file.read_text()
    description = json.loads(before)
    description["run"]["changes"] = {"training.max_epochs": 2}
    file.write_text(json.dumps(description))
    try:
        assert "comparisons" not in ask(place, "tables", "--format", "csv")
        shown = ask(place, "tables", "--format", "md")
    finally:
        file.write_text(before)
    assert not any("small-too" in line and " dB" in line for line in shown.splitlines())

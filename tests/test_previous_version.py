"""What the version before wrote is still read: models, states, runs, studies and scores."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bandsplit.data.songs.check import check_dataset
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.evaluation.results import read_scores
from bandsplit.models.card import read_card
from bandsplit.models.files import load_model
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.separation.separator import Separator
from bandsplit.studies.plans import STUDIES, planned_runs
from bandsplit.studies.runner.folder import StudyFolder
from bandsplit.studies.runner.run import run_study
from bandsplit.studies.runner.scoring import Songs
from bandsplit.training.execution import Execution
from bandsplit.training.loop import train
from bandsplit.training.reporters.events import report_to
from command_line import run_command
from places import ROOT
from small_study import COMMAND, SMALL, STUDY
from songs import write_dataset

PREVIOUS = ROOT / "tests" / "golden" / "previous"


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    for id, recipe in SMALL.items():
        monkeypatch.setitem(RECIPES, id, recipe)
    monkeypatch.setitem(STUDIES, STUDY.id, STUDY)


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "songs", train=3, test=1, samples=6000)


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx"])
def test_models_give_the_estimates_they_gave(name: str):
    if name.endswith("onnx"):
        pytest.importorskip("onnxruntime")
    config, card = read_card(PREVIOUS / name)
    assert (config.family, config.targets, card.recipe, card.seed) == ("bsrnn", ("bass",), "small", 5)
    mixture = np.random.default_rng(7).normal(0, 0.1, (2, 8000)).astype(np.float32)
    (estimate,) = Separator(PREVIOUS / name, device="cpu").separate(mixture, 8000).values()
    expected = np.load(PREVIOUS / "estimate.npy")
    np.testing.assert_allclose(estimate[:, 3000:4000], expected, atol=1e-5 * np.abs(expected).max() + 1e-7)


def test_a_stopped_run_goes_on_and_ends_as_if_it_had_not_been(tmp_path: Path, songs: Path):
    shutil.copytree(PREVIOUS / "runs", tmp_path / "runs")
    dataset = check_dataset(index_dataset(songs)).dataset
    config = SMALL["small"].run_config(["bass"], seed=5)
    result = train(config, dataset, tmp_path / "runs", report_to(), execution=Execution("cpu"), resume=True)
    assert [path.name for path in (tmp_path / "runs" / "small" / "bass").iterdir()] == ["seed-5-9621dc46"]
    assert '"update": 5' in result.best.with_name("log.jsonl").read_text().splitlines()[2]
    expected = load_file(PREVIOUS / "model.safetensors")
    for name, tensor in load_model(result.best).state_dict().items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-4, rtol=1e-3)


def test_runs_are_listed(capsys: pytest.CaptureFixture[str]):
    listed = run_command(capsys, "runs", PREVIOUS).out
    assert re.search(r"small +bass +5 +stopped \(SIGTERM\)", listed), listed
    assert re.search(r"small +vocals +1 +finished", listed), listed


def test_a_study_has_its_run_and_its_scores_and_starts_nothing_again(
    tmp_path: Path, songs: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(PREVIOUS / "study", tmp_path / "study")
    folder = StudyFolder(tmp_path / "study")
    (best,) = folder.runs.rglob("best.safetensors")
    ((*_, time_ns),) = list(folder.events())[-1]["models"]  # scores are of a file of that time
    os.utime(best, ns=(time_ns, time_ns))
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    planned = planned_runs(STUDY, ["good"], ["small"], [1], ["vocals"])
    (run,) = folder.look(planned)
    assert run.finished
    data = Songs(check_dataset(index_dataset(songs)).dataset, ("--data", str(songs)))
    told: list[str] = []
    result = run_study(STUDY, planned, folder, [data], told.append, device="cpu", command=COMMAND)
    assert (result.exit_code, told) == (0, [])
    assert all(path.read_bytes() == content for path, content in before.items())
    scores = read_scores(PREVIOUS / "study" / "scores.jsonl")
    assert {row.recipe for row in scores if row.recipe} == {"small"}

"""Bags on the command line: made, shown, separated with and scored."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from bandsplit.evaluation.results import read_scores
from bandsplit.models.bags import read_bag
from command_line import run_command
from songs import write_dataset
from tiny_models import write_tiny_model

TAC = {"stereo": {"kind": "tac"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, one bag of both, and a data set with a song."""
    folder = tmp_path_factory.mktemp("bags")
    for seed, name in enumerate(("a", "b")):
        write_tiny_model(folder / "models" / f"{name}.safetensors", seed=seed, card={"name": name}, **TAC)
    write_dataset(folder / "data", train=1, test=1, samples=16_000)
    return folder


@pytest.fixture
def bag(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    path = tmp_path / "mean.yaml"
    ended = run_command(
        capsys, "models", "bag", *(folder / "models" / f"{name}.safetensors" for name in "ab"), "-o", path
    )
    assert ended.code == 0, ended.err
    assert (
        f"{path}: a bag of 2; use: -n {path}" in ended.out
        and "a.safetensors (vocals 1, bass 1): crossfade" in ended.out
    )
    return path


def test_a_bag_is_shown_and_never_overwritten_by_chance(folder: Path, bag: Path, capsys: pytest.CaptureFixture[str]):
    shown = run_command(capsys, "models", "show", bag).out
    assert "mean: a bag of 2" in shown and "b.safetensors (vocals 1, bass 1)" in shown
    facts = json.loads(run_command(capsys, "models", "show", bag, "--json").out)
    assert [Path(file).name for file in facts["files"]] == ["mean.yaml", "a.safetensors", "b.safetensors"]
    model = folder / "models" / "a.safetensors"
    ended = run_command(capsys, "models", "bag", model, "-o", bag)
    assert ended.code == 1 and "exists already; choose another name with -o, or replace it with --force" in ended.err
    ended = run_command(capsys, "models", "bag", model, "-o", bag.with_suffix(".bag"))
    assert ended.code == 1 and "is not a name of a bag; choose one that ends with .yaml" in ended.err
    ended = run_command(capsys, "models", "bag", model, folder / "none.safetensors", "-o", bag.with_name("x.yaml"))
    assert ended.code == 1 and "members: number 2" in ended.err and not bag.with_name("x.yaml").exists()


def test_a_bag_separates_and_the_price_of_averages_is_printed(
    folder: Path, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    song = folder / "data" / "test" / "Song 1" / "mixture.wav"
    found = {}
    for name, options in {"mean": [], "one": ["--sequential"], "tta": ["--tta", "channels,polarity"]}.items():
        ended = run_command(capsys, "separate", song, "-n", bag, "-o", tmp_path / name, *options)
        assert ended.code == 0, ended.err
        assert ("3 times the work of one estimate" in ended.err) == (name == "tta")
        found[name] = soundfile.read(tmp_path / name / "mixture" / "vocals.wav")[0]
    for name in "ab":
        model = folder / "models" / f"{name}.safetensors"
        assert run_command(capsys, "separate", song, "-n", model, "-o", tmp_path / name).code == 0
        found[name] = soundfile.read(tmp_path / name / "mixture" / "vocals.wav")[0]
    np.testing.assert_allclose(found["mean"], (found["a"] + found["b"]) / 2, atol=1e-6)
    assert np.array_equal(found["mean"], found["one"]) and not np.allclose(found["mean"], found["tta"], atol=1e-4)
    record = json.loads((tmp_path / "mean" / "manifest.jsonl").read_text())
    assert list(record["models"]) == ["mean.yaml", "a.safetensors", "b.safetensors"]
    assert "done already" in run_command(capsys, "separate", song, "-n", bag, "-o", tmp_path / "mean").err
    ended = run_command(capsys, "separate", song, "-n", bag, "-o", tmp_path / "mean", "--tta", "time")
    assert ended.code == 2 and "tta" in ended.err


def test_a_bag_is_scored_as_one_system(folder: Path, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    scores = tmp_path / "scores.jsonl"
    command = ("evaluate", "--data", folder / "data", folder / "models" / "a.safetensors", bag, "-o", scores, "-j", "2")
    ended = run_command(capsys, *command)
    assert ended.code == 0, ended.err
    rows = read_scores(scores)
    assert {row.system for row in rows} == {"a", "mean"}
    assert len({row.source for row in rows}) == 2 and all(row.plan is not None for row in rows)
    assert "0 rows added" in run_command(capsys, *command).err
    text = bag.read_text().replace("b.safetensors", "b.safetensors\n  weights: {vocals: 1}")
    bag.write_text(text)
    assert "0 rows added" not in run_command(capsys, *command).err  # another bag under the same name


def test_a_mixer_is_read_from_the_file_of_its_authors(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = write_tiny_model(tmp_path / "m.safetensors", "bass", "drums", "other", "vocals", **TAC)
    matrix = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    torch.save({"mixing_layer.weight": matrix}, tmp_path / "mixer.ckpt")
    out = tmp_path / "mixed.yaml"
    ended = run_command(capsys, "models", "bag", model, "--mixer", tmp_path / "mixer.ckpt", "-o", out)
    assert ended.code == 0 and "mixer: bass, drums, other, vocals, from all of them and the mixture" in ended.out
    mixer = read_bag(out).mixer
    assert mixer is not None
    np.testing.assert_allclose(mixer.matrix, matrix.numpy())

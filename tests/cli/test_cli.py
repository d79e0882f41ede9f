"""The command line as a user meets it: real files in, real files out, exit codes and messages."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.card import ModelCard
from bandsplit.models.files import save_model
from bandsplit.models.network import build_model
from command_line import run_command
from places import CHECKPOINT
from songs import write_dataset

SMALL = [
    "model.sample_rate_hz=8000", "model.bands=[[500, 4]]", "model.stft.n_fft=128", "model.stft.hop_samples=32",
    "model.n_features=4", "model.n_blocks=1", "training.examples_per_epoch=4", "training.excerpt_s=0.2",
    "training.max_epochs=2", "training.mixing.activity=null", "training.global_batch=2",
]  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Run the command line in this process; return exit code and all output, unwrapped."""
    ended = run_command(capsys, *arguments)
    return ended.code, " ".join((ended.out + ended.err).split())


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("BANDSPLIT_CACHE", str(tmp_path / "cache"))  # not the models of whoever runs the tests


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small stereo-only model of two targets at 8 kHz."""
    torch.manual_seed(0)
    config = BsrnnConfig.parse(
        {
            "targets": ["vocals", "bass"], "bands": [[500, 4]], "sample_rate_hz": 8000, "n_features": 4, "n_blocks": 1,
            "stft": {"n_fft": 128, "hop_samples": 32}, "stereo": {"kind": "merged"},
        }
    )  # fmt: skip
    path = tmp_path / "small.safetensors"
    save_model(path, build_model(config), ModelCard(name="small", training_data="none", licence="CC0"))
    return path


def tone(path: Path, channels: int = 2, samples: int = 8000, sample_rate_hz: int = 8000) -> Path:
    signal = np.sin(np.arange(samples * channels) / 9).reshape(samples, channels) / 3
    soundfile.write(path, signal, sample_rate_hz)
    return path


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]):
    code, text = run(capsys, "--help")
    assert code == 0
    for command in ("separate", "train", "plan", "submit", "evaluate", "demo", "models"):
        assert command in text


def test_a_checkpoint_is_imported_shown_and_used(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    code, text = run(capsys, "models", "import", CHECKPOINT, "-o", "bass.safetensors")
    assert code == 0
    assert "bass.safetensors: bass, 0.08 M parameters, 44100 Hz" in text
    assert "licence: not stated by its authors" in text
    code, text = run(capsys, "models", "show", "bass.safetensors")
    assert code == 0
    assert "source_sha256" in text
    song = tone(tmp_path / "song.flac", samples=20000, sample_rate_hz=48000)
    code, text = run(capsys, "separate", song, "-n", "bass.safetensors")
    assert code == 0
    info = soundfile.info("separated/song/bass.wav")
    assert (info.frames, info.samplerate, info.channels, info.subtype) == (20000, 48000, 2, "FLOAT")


def test_an_existing_model_is_not_replaced_unless_asked(capsys: pytest.CaptureFixture[str]):
    Path("bass.safetensors").touch()
    code, text = run(capsys, "models", "import", CHECKPOINT, "-o", "bass.safetensors")
    assert code == 1
    assert "bass.safetensors: exists already; choose another name with -o, or replace it with --force" in text
    assert run(capsys, "models", "import", CHECKPOINT, "-o", "bass.safetensors", "--force")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["separate", "x.wav", "-n", "none.safetensors"], 1, "none.safetensors: no such model file"),
        (["separate", "x.wav"], 1, "no model was named, none is in the cache"),
        (
            ["separate", "x.wav", "-n", "m", "--method", "crossfade", "--hop", "1"],
            2,
            "--hop: has no meaning with --method crossfade",
        ),
        (
            ["separate", "x.wav", "-n", "m", "--method", "crossfade", "--overlap", "0.7"],
            2,
            "overlap: Input should be less than 0.5 (got 0.7)",
        ),
        (["train", "bsae", "--data", "."], 2, "no recipe is named 'bsae'; did you mean 'base'?"),
        (["train", "base", "--data", "."], 2, "name one of vocals, bass, drums, other with --target"),
        (["train", "base", "-t", "vocals", "--data", "."], 1, "not a data set"),
        (["train", "base", "-t", "bass", "--data", ".", "--set", "model.n_block=3"], 2, "did you mean 'n_blocks'?"),
        (["train", "base", "-t", "bass", "--data", ".", "--set", "seven"], 2, "--set seven: must be PATH=VALUE"),
        (["models", "import", "none.ckpt"], 1, "none.ckpt: no such checkpoint file"),
        (["models", "show", "none"], 1, "none: is not a file, a folder with model files or the name of a registered"),
        (["sing"], 2, "No such command 'sing'"),
    ],
)
def test_mistakes_get_one_clear_message(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
):
    tone(Path("x.wav"))
    found, text = run(capsys, *arguments)
    assert (found, message in text) == (code, True), text
    assert "Traceback" not in text


def test_train_evaluate_and_separate_follow_each_other(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    data = write_dataset(tmp_path / "songs", train=3, test=2, samples=17000)
    changes = [part for change in SMALL for part in ("--set", change)]
    for target in ("vocals", "drums"):
        code, text = run(capsys, "train", "base", "--target", target, "--data", data, "--device", "cpu", *changes)
        assert code == 0, text
        assert "validation: 'Song 2', the last song of train/, is held out" in text
        assert "best after epoch" in text
    code, text = run(capsys, "train", "base", "--target", "drums", "--data", data, "--device", "cpu", *changes)
    assert code == 1
    assert "this run exists; add --resume" in text
    models = sorted(Path("runs").rglob("best.safetensors"))
    code, text = run(capsys, "evaluate", *models, "--data", data, "--yardsticks", "-o", "rows.jsonl", "-d", "cpu")
    assert code == 0, text
    assert "uSDR, dB, mean over 2 songs" in text
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    systems = {row["system"] for row in rows}
    assert {"base*", "silence", "mixture", "static gain per frequency", "ideal ratio mask (ceiling)"} <= systems
    ours = [row for row in rows if row["system"] == "base*" and row["metric"] == "usdr_db"]
    assert {(row["track"], row["target"]) for row in ours} == {
        (song, target) for song in ("Song 3", "Song 4") for target in ("vocals", "drums")
    }
    code, text = run(capsys, "separate", data / "test" / "Song 3" / "mixture.wav", "-n", models[0], "-n", models[1])
    assert code == 0
    assert sorted(os.listdir("separated/mixture")) == ["drums.wav", "vocals.wav"]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["train", "base", "-t", "bass", "--data", ".", "--plan", "--price-kwh", "0.3"], "bandsplit plan RECIPE"),
        (["train", "base", "--data", ".", "--launcher", "slurm", "--hours", "2"], "bandsplit submit RECIPE"),
        (["train", "base", "--data", ".", "--launcher=local"], "bandsplit submit RECIPE"),
        (["bench", "train", "--recipe", "demo"], "bandsplit bench train RECIPE ..."),
    ],
)
def test_options_that_became_commands_name_them(capsys: pytest.CaptureFixture[str], arguments: list[str], command: str):
    code, text = run(capsys, *arguments)
    assert (code, "is no longer an option of" in text, f"; use `{command}`" in text) == (2, True, True), text


def test_a_job_is_submitted_for_each_target(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    submitted = []

    def submit(runs: list[tuple[str, ...]], folder: Path, **options: object) -> list[Any]:
        submitted.append((runs, folder, options))
        paths = SimpleNamespace(stderr=folder / "err")
        return [SimpleNamespace(job_id=number, paths=paths) for number in range(len(runs))]

    monkeypatch.setattr("bandsplit.training.cluster.submit", submit)
    jobs = ["--hours=12", "--gpus", "2", "--slurm", "partition=gpu", "--slurm=account=x"]
    arguments = ["submit", "base", "-t", "vocals", "--target=bass", "--data", "songs", "--seed", "3"]
    code, text = run(capsys, *arguments, *jobs, "--save-every", "2", "--no-energy", "--set", "training.patience=3")
    assert code == 0, text
    assert "job 1: base bass, output in jobs/err" in text
    ((runs, folder, options),) = submitted
    common = [
        "--data", "songs", "--seed", "3", "--set", "training.patience=3", "--device", "auto", "--save-every", "2.0",
        "--no-energy",
    ]  # fmt: skip
    assert [list(one) for one in runs] == [["train", "base", "--target", name, *common] for name in ("vocals", "bass")]
    assert folder == Path("jobs")
    assert options == {
        "executor": "slurm", "hours": 12.0, "gpus": 2, "cpus": 4, "options": {"partition": "gpu", "account": "x"},
        "name": "bandsplit-base",
    }  # fmt: skip
    code, text = run(capsys, "submit", "simo", "--data", "songs", "--launcher", "local")
    assert submitted[1][0] == [("train", "simo", "--data", "songs", "--device", "auto")]
    assert submitted[1][2]["executor"] == "local"
    code, text = run(capsys, "submit", "base", "-t", "piano", "--data", "songs")
    assert (code, len(submitted)) == (2, 2), text
    code, text = run(capsys, *arguments, "--slurm", "gpu")
    assert (code, "--slurm gpu: must be KEY=VALUE" in text) == (2, True)

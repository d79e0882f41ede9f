"""Training on unlabelled songs, as a user meets it."""

import shutil
from pathlib import Path

import pytest
import soundfile

from bandsplit.cli.options import as_arguments
from bandsplit.cli.training_options import ExecutionOptions, RunOptions
from bandsplit.data.examples.mixing import UnlabelledConfig
from bandsplit.models.card import read_card
from bandsplit.recipes.catalogue import find_recipe
from command_line import run_command, run_training
from songs import noise_stems, write_dataset
from tiny_models import TINY_CHANGES, write_tiny_model

SMALL = [
    *TINY_CHANGES, "model.mask.hidden_factor=1", "training.examples_per_epoch=8", "training.excerpt_s=0.2",
    "training.max_epochs=1", "training.mixing.activity=null", "training.global_batch=2",
    "training.unlabelled.segment_s=0.25",
]  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], command: str, *options: str | Path) -> tuple[int, str]:
    return run_training(capsys, command, "semi-supervised", SMALL, *options)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("BANDSPLIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Labelled songs; next to them, two unlabelled ones in ``more``, and ``teacher.safetensors``."""
    (tmp_path / "more").mkdir()
    for number in range(2):
        mixture = sum(noise_stems(70 + number, 4000).values())
        soundfile.write(tmp_path / "more" / f"{number}.flac", mixture.T, 8000, subtype="PCM_16")  # type: ignore[union-attr]
    write_tiny_model(tmp_path / "teacher.safetensors", "vocals", "bass")
    return write_dataset(tmp_path / "songs", train=3, test=1)


def test_a_model_is_fine_tuned_with_songs_without_stems(capsys: pytest.CaptureFixture[str], songs: Path):
    options = ("--data", songs, "--init", "teacher.safetensors", "--unlabelled", "more", "--cache", "separated")
    code, text = run(capsys, "plan", *options)
    assert code == 0, text
    assert "unlabelled: 2 songs" in text and not Path("separated").exists()
    code, text = run(capsys, "train", *options)
    assert code == 0, text
    assert "unlabelled: 2 songs" in text and "epoch 0 loss - validation uSDR" in text
    assert [*Path("separated").glob("*.cached")]
    (model,) = Path("runs").rglob("best.safetensors")
    card = read_card(model)[1]
    assert card.semi_supervision is not None and card.semi_supervision.songs == 2
    assert "semi_supervision" in run_command(capsys, "models", "show", model).out
    assert run(capsys, "train", *options)[0] == 1
    assert run(capsys, "train", *options, "--resume")[0] == 0
    listed = run_command(capsys, "runs")
    assert listed.code == 0 and "semi-supervised*" in listed.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--init", "teacher.safetensors"], "the run learns from songs without stems; name a folder, --unlabelled"),
        (["--unlabelled", "more"], "name the model that is the first one and the start of the run, --init"),
        (["--unlabelled", "none", "--init", "teacher.safetensors"], "none: is not a folder; name the folder"),
        (["--unlabelled", "empty", "--init", "teacher.safetensors"], "empty: has no wav or flac files, which"),
        (["--unlabelled", "more", "--init", "other.safetensors"], "does not estimate vocals, only drums; choose"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_and_nothing_starts(
    capsys: pytest.CaptureFixture[str], songs: Path, options: list[str], message: str
):
    Path("empty").mkdir()
    write_tiny_model("other.safetensors", "drums")
    code, text = run(capsys, "train", "--data", songs, *options)
    assert code in (1, 2) and message in text
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("song", "valid", "label"),
    [
        ("train/Song 2", False, "valid/Song 2"),
        ("test/Song 3", False, "test/Song 3"),
        ("test/Song 4", True, "test/Song"),
    ],
)
def test_held_out_songs_are_refused(
    capsys: pytest.CaptureFixture[str], songs: Path, song: str, valid: bool, label: str
):
    others = write_dataset(Path("others"), train=4, test=1)
    shutil.copy((others if valid else songs) / song / "mixture.wav", "more/known.wav")
    options = ["--data", songs, "--init", "teacher.safetensors", "--unlabelled", "more"]
    code, text = run(capsys, "train", *options, *(["--valid", others] if valid else []))
    assert code == 1 and f"known: is {label}" in text and "on which models are scored; remove it" in text
    assert not Path("runs").exists()


def test_any_recipe_of_one_target_can_use_them_with_the_default_settings(songs: Path):
    base = find_recipe("base")
    options = {"data": [str(songs)], "init": "teacher.safetensors", "unlabelled": Path("more")}
    assert RunOptions(**options).config(base, ["vocals"]).training.unlabelled == UnlabelledConfig()
    changed = RunOptions(**options, set=["training.unlabelled.share=0.2"]).config(base, ["vocals"])
    assert changed.training.unlabelled == UnlabelledConfig(share=0.2)
    plain = RunOptions(data=[str(songs)]).config(base, ["vocals"])
    assert plain.training.unlabelled is None


def test_a_job_gets_the_same_options():
    options = RunOptions(["a"], init="m.safetensors", unlabelled=Path("more"))
    assert as_arguments(options, ExecutionOptions(cache=Path("kept"), cache_gb=5.0)) == [
        "--data", "a", "--init", "m.safetensors", "--unlabelled", "more", "--cache", "kept", "--cache-gb", "5.0",
    ]  # fmt: skip

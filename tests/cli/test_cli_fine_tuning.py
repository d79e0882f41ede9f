"""Training from a model and on several data sets, as a user meets them."""

import json
import re
import shlex
from pathlib import Path

import pytest
from pooch import file_hash

from bandsplit.cli.options import as_arguments
from bandsplit.cli.training_options import RunOptions
from bandsplit.models.card import read_card
from bandsplit.recipes.catalogue import find_recipe
from command_line import run_command, run_training
from places import CHECKPOINT
from songs import noise_stems, write_dataset, write_song
from tiny_models import TINY_CHANGES, write_tiny_model

SMALL = [
    *TINY_CHANGES, "model.mask.hidden_factor=1", "training.examples_per_epoch=8", "training.excerpt_s=0.2",
    "training.max_epochs=1", "training.mixing.activity=null", "training.global_batch=2",
]  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], command: str, *options: str | Path) -> tuple[int, str]:
    return run_training(capsys, command, "base", SMALL, *options)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("BANDSPLIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "songs", train=3, test=0)


def test_a_model_of_four_targets_is_fine_tuned_for_one(capsys: pytest.CaptureFixture[str], songs: Path):
    source = write_tiny_model("four.safetensors", "vocals", "bass", "drums", "other")
    options = ("--data", songs, "--init", source, "--freeze", "encoder", "--freeze", "blocks.*.norm")
    code, text = run(capsys, "plan", *options)
    assert code == 0, text
    assert re.search(r"loaded [\d,]+ parameters in \d+ tensors: encoder, blocks, decoders", text)
    assert "fresh nothing" in text
    assert re.search(r"frozen [\d,]+ parameters in \d+ tensors: encoder, blocks\.0\.time\.layer\.norm", text)
    code, text = run(capsys, "train", *options)
    assert code == 0, text
    assert "fresh: nothing" in text
    (model,) = Path("runs").rglob("best.safetensors")
    card = read_card(model)[1]
    assert card.fine_tuning is not None and card.fine_tuning.source_sha256 == file_hash("four.safetensors")
    assert card.recipe is None and card.name == "base*"
    assert "training.freeze=['encoder', 'blocks.*.norm']" in run_command(capsys, "runs").out
    assert "source_sha256" in run_command(capsys, "models", "show", model).out
    assert run(capsys, "train", *options)[0] == 1
    assert run(capsys, "train", *options, "--resume")[0] == 0


def test_an_imported_checkpoint_is_a_start_with_the_settings_that_the_refusal_names(
    capsys: pytest.CaptureFixture[str], songs: Path
):
    assert run_command(capsys, "models", "import", CHECKPOINT, "-o", "bass.safetensors").code == 0
    changes = [part for change in SMALL if change.startswith("training.") for part in ("--set", change)]
    train = ("train", "base", "-t", "bass", "--data", songs, "-d", "cpu", "--no-energy", "--init", "bass.safetensors",
             *changes)  # fmt: skip
    refused = run_command(capsys, *train)
    assert refused.code == 1
    settings = shlex.split(refused.err.split("give the run its settings: ")[1])
    ended = run_command(capsys, *train, *settings)
    assert ended.code == 0, ended.err
    assert "fresh: nothing" in ended.err and "unused: nothing" in ended.err
    assert "other settings" not in ended.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--init", "none.safetensors"], "none.safetensors: no such model file"),
        (["--init", "nothing"], "nothing: is not a file, a folder with model files or the name of a registered model"),
        (["--init", "two"], "--init two: 0 of its files estimate vocals; name one of two/bass.safetensors, two/drums"),
        (["--init", "four.safetensors", "--freeze", "decodr"], "'decodr' matches no tensor of the model; did you mean"),
        (["--freeze", "encoder"], "training.freeze: random weights would never be trained; name a model to start from"),
        (["--set", "init=0"], "--set init: is set by the option --init"),
        (["--init", "wide.safetensors"], "give the run its settings: --set model.n_features=8"),
        (["--data", "songs:0"], "--data songs:0: the weight 0 is not a positive number; for example songs:0.3"),
        (["--data", "songs:nan"], "--data songs:nan: the weight nan is not a positive number"),
        (["--data", "./songs"], "--data ./songs: is given twice; give it once, with a weight"),
        (["--data", "nowhere:2"], "nowhere: does not exist"),
        (["--data", "list.csv"], "list.csv: targets: the data set has no stem vocals; it has bass, piano"),
        (["--data", "mono"], "mono: train/Mono: channels is 1, the model needs 2"),
    ],
)  # fmt: skip
def test_mistakes_are_named(capsys: pytest.CaptureFixture[str], songs: Path, options: list[str], message: str):
    write_tiny_model("four.safetensors", "vocals", "bass", "drums", "other")
    write_tiny_model("wide.safetensors", "vocals", n_features=8)
    for target in ("bass", "drums"):
        write_tiny_model(f"two/{target}.safetensors", target)
    one, two = (path.relative_to(songs.parent) for path in sorted((songs / "train" / "Song 0").glob("[bd]*.wav")))
    Path("list.csv").write_text(f"instrum,path\nbass,{one}\npiano,{two}\n")
    write_song(Path("mono") / "train" / "Mono", noise_stems(8, channels=1))
    code, text = run(capsys, "train", "--data", songs, *options)
    assert code in (1, 2)
    assert message in text
    assert not [*Path().rglob("state-*.pt")]


def test_several_data_sets_are_recorded_and_other_ones_are_refused(capsys: pytest.CaptureFixture[str], songs: Path):
    write_song(Path("more/train/One"), noise_stems(20), sample_rate_hz=16000)
    write_song(Path("more/train/Two"), noise_stems(21), sample_rate_hz=16000)
    options = ("--data", songs, "--data", "more:0.25")
    code, text = run(capsys, "train", *options)
    assert code == 0, text
    (file,) = Path("runs").rglob("config.json")
    description = json.loads(file.read_text())
    assert description["run"]["training"]["data_weights"] == [1.0, 0.25]
    (other,) = description["data"]["others"]
    assert (other["name"], other["train"], other["mixture"]) == ("more", ["One"], ["file"])  # Two is held out
    assert re.fullmatch("[0-9a-f]{12}", other["fingerprint"])
    assert description["data"]["valid"] == ["Song 2"]
    card = read_card(file.parent / "best.safetensors")[1]
    assert card.training_data.endswith(f"; more: 1 songs, train {other['fingerprint']}") and card.recipe is None
    (record,) = json.loads(run_command(capsys, "runs", "--json").out)
    assert record["data"] == "songs + more"
    assert record["fingerprints"]["train"].endswith(f"+{other['fingerprint']}")
    write_song(Path("more/train/Three"), noise_stems(22), sample_rate_hz=16000)
    code, text = run(capsys, "train", *options, "--resume")
    assert code == 1
    assert "was trained on other data (different: others); give the data set 'songs'" in text
    assert run(capsys, "train", "--data", songs, "--data", "more:0.5")[0] == 0  # other weights: another run


def test_validation_songs_are_those_of_the_first_set_that_has_any(capsys: pytest.CaptureFixture[str], songs: Path):
    loose = Path("loose/train/vocals")
    write_song(loose / "One", {"vocals": noise_stems(30)["vocals"]})
    (loose / "One" / "vocals.wav").rename(loose / "one.wav")
    (loose / "One" / "mixture.wav").unlink()
    (loose / "One").rmdir()
    code, text = run(capsys, "train", "--data", "loose", "--data", songs)
    assert code == 0, text
    (file,) = Path("runs").rglob("config.json")
    data = json.loads(file.read_text())["data"]
    assert (data["name"], data["train"], data["valid"]) == ("loose", ["one"], ["Song 2"])
    assert data["others"][0]["train"] == ["Song 0", "Song 1"]


def test_a_job_gets_the_same_options():
    options = RunOptions(["a", "b:0.3"], init="m.safetensors", freeze=["encoder", "x*"])
    assert as_arguments(options) == [
        "--data", "a", "--data", "b:0.3", "--init", "m.safetensors", "--freeze", "encoder", "--freeze", "x*",
    ]  # fmt: skip
    config = RunOptions(["a", "b:0.3"]).config(find_recipe("base"), ["vocals"])
    assert config.training.data_weights == (1.0, 0.3)
    assert RunOptions(["a:0.3"]).config(find_recipe("base"), ["vocals"]).training.data_weights == ()

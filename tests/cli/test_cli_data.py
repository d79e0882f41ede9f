"""The data commands, and the options by which other commands take data, as a user meets them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib import image

from bandsplit.models.card import read_card
from command_line import run_command
from songs import noise_stems, write_dataset, write_song
from tiny_models import TINY_CHANGES

SMALL = [
    *TINY_CHANGES, "training.examples_per_epoch=4", "training.excerpt_s=0.2", "training.max_epochs=1",
    "training.mixing.activity=null", "training.global_batch=2",
]  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Run the command line in this process; return exit code and all output, line by line."""
    ended = run_command(capsys, *arguments)
    return ended.code, ended.out + ended.err


def run_train(capsys: pytest.CaptureFixture[str], data: Path, *options: str | Path, target: str = "bass"):
    changes = [part for change in SMALL for part in ("--set", change)]
    return run(capsys, "train", "base", "-t", target, "--data", data, "--device", "cpu", *changes, *options)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "songs", train=3, test=1)


def change_song(song: Path) -> None:
    """Turn two stems upside down, and the mixture with them: nothing is wrong, but the audio is another."""
    signals = {stem: soundfile.read(song / f"{stem}.wav")[0] for stem in ("vocals", "bass", "drums", "other")}
    signals["bass"], signals["drums"] = -signals["bass"], -signals["drums"]
    for name, signal in {**signals, "mixture": sum(signals.values())}.items():
        soundfile.write(song / f"{name}.wav", signal, 8000, subtype="FLOAT")


# --- check -----------------------------------------------------------------------------------------------------------


def test_a_good_set_is_described_with_its_fingerprints(capsys: pytest.CaptureFixture[str], songs: Path):
    code, text = run(capsys, "data", "check", songs)
    assert code == 0, text
    lines = text.rstrip().splitlines()
    for split, n_songs in (("train", 2), ("valid", 1), ("test", 1)):
        (line,) = [line for line in lines if line.startswith(f"fingerprint of {split}: ")]
        fingerprint = line.split(": ")[1].split(" ")[0]
        assert len(fingerprint) == 12 and int(fingerprint, 16) >= 0
        assert line.endswith(f"({n_songs} songs)")
    assert "note: validation: 'Song 2', the last song of train/, is held out" in text
    assert "bandwidth: the rate is too low to distinguish lossless from lossy" in lines
    assert lines[-1] == "songs: 4 songs, nothing broken"
    (row,) = [line.split() for line in lines if line.startswith(" test/Song 3") or line.startswith("test/Song 3")]
    assert row[2:8] == ["0:00", "8000", "2", "file", "exact", row[7]]
    assert run(capsys, "data", "check", songs) == (code, text)


def test_a_broken_set_is_described_song_by_song_with_stem_and_fix(capsys: pytest.CaptureFixture[str], songs: Path):
    (songs / "train" / "Song 0" / "bass.wav").unlink()
    path = songs / "train" / "Song 1" / "drums.wav"
    signal, _ = soundfile.read(path)
    signal[5] = np.nan
    soundfile.write(path, signal, 8000, subtype="FLOAT")
    write_song(songs / "test" / "Copy", noise_stems(3))
    code, text = run(capsys, "data", "check", songs)
    assert code == 1
    broken = [line for line in text.splitlines() if line.startswith("BROKEN: ")]
    assert len(broken) == 2
    assert broken[0].startswith("BROKEN: train/Song 0, bass: missing (the folder holds drums.wav, mixture.wav, ")
    assert broken[0].endswith("add bass.wav or bass.flac")
    assert broken[1] == "BROKEN: train/Song 1, drums: holds samples that are not finite; export it again"
    assert "remark: test/Song 3, bass: is the same audio as bass of test/Copy; remove one of them" in text
    assert "2 problem(s): fix them before training; --allow continues without the songs that cannot be read" in text


def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    song = write_song(tmp_path / "set" / "test" / "[bold]Ünd [x] $1", {"a[1]": noise_stems(0)["bass"]})
    (song / "mixture.wav").unlink()
    code, text = run(capsys, "data", "check", tmp_path / "set", "--stems", "a[1]", "--mixture", "sum")
    assert code == 0, text
    assert "test/[bold]Ünd [x] $1" in text


def test_a_place_without_songs_is_an_error_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    for command in ("check", "activity"):
        code, text = run(capsys, "data", command, tmp_path / "nowhere")
        assert code == 1
        assert text == f"error: {tmp_path / 'nowhere'}: does not exist; give the folder that holds train/ and test/\n"


# --- activity --------------------------------------------------------------------------------------------------------


@pytest.fixture
def long_songs(tmp_path: Path) -> Path:
    """Two songs of 24 s whose vocals rest in their second halves, and whose bass is on the left only."""
    for number in range(2):
        stems = noise_stems(number, 24 * 8000)
        stems["vocals"][:, 12 * 8000 :] = 0
        stems["bass"][1] = 0
        write_song(tmp_path / "long" / "test" / f"Song {number}", stems)
    return tmp_path / "long"


def test_activity_is_shown_as_a_table_and_a_picture(capsys: pytest.CaptureFixture[str], long_songs: Path):
    code, text = run(capsys, "data", "activity", long_songs, "--song", "Song 1")
    assert code == 0, text
    assert "Share of segments kept, in %: default / authors" in text
    rows = {
        line.split("  ")[0].strip(): line.split() for line in text.splitlines() if "test/" in line or "mean" in line
    }
    for name in ("test/Song 0", "test/Song 1"):
        cells = " ".join(rows[name][2:]).split(" ")
        assert cells[:3] == ["43", "/", "43"]
        assert cells[3:6] == ["100", "/", "0"]
    assert rows["mean"][1:4] == ["43", "/", "43"]
    path = long_songs / ".bandsplit" / "activity-Song 1.png"
    assert f"kept segments of 'Song 1': {path}" in text
    picture = image.imread(path)
    assert picture.shape[:2] == (round(110 * (1.6 * 4 + 0.8)), 1320)
    assert picture.std() > 0.05
    right = picture[:, 700:1250, :3].reshape(-1, 3)
    left = picture[:, 100:650, :3].reshape(-1, 3)
    shaded = [
        float((np.abs(half - half.mean(axis=1, keepdims=True)).max(axis=1) > 0.05).mean()) for half in (left, right)
    ]
    assert shaded[0] > shaded[1] > 0  # the vocals' first half is shaded, their second is not


def test_an_unknown_song_is_told_with_those_that_there_are(capsys: pytest.CaptureFixture[str], long_songs: Path):
    code, text = run(capsys, "data", "activity", long_songs, "--song", "Sonk")
    assert code == 1
    assert f"error: {long_songs}: has no song named 'Sonk'; it has Song 0, Song 1" in text


# --- synth -----------------------------------------------------------------------------------------------------------


def test_synth_writes_the_songs_that_are_asked_for_the_same_each_time(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    options = [
        "--songs",
        "2",
        "--valid",
        "1",
        "--test",
        "0",
        "--minutes",
        "0.02",
        "--sample-rate",
        "16000",
        "--workers",
        "1",
    ]
    contents = []
    for name in ("a", "b"):
        code, text = run(capsys, "data", "synth", name, *options, "--seed", "5")
        assert code == 0, text
        assert f"3 songs in {name}: 0 min of music in " in text
        files = sorted(Path(name).rglob("*.wav"))
        assert len({path.parent for path in files}) == 3
        assert len(files) == 15
        contents.append([(path.relative_to(name), path.read_bytes()) for path in files])
    assert contents[0] == contents[1]
    assert {soundfile.info(path).frames for path in files} == {19200}
    assert sorted(path.name for path in Path("a").iterdir() if path.is_dir()) == ["train", "valid"]
    code, text = run(capsys, "data", "check", "a")
    assert code == 0, text
    before = {path: path.stat().st_mtime_ns for path in Path("a").rglob("*.wav")}
    assert run(capsys, "data", "synth", "a", *options, "--seed", "5")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in Path("a").rglob("*.wav")} == before
    code, text = run(capsys, "data", "synth", "a", *options, "--seed", "6")
    assert code == 1
    assert "seed is 5 instead of 6" in text


# --- the data of other commands --------------------------------------------------------------------------------------


def test_results_carry_the_fingerprint_and_a_run_does_not_go_on_with_other_audio(
    capsys: pytest.CaptureFixture[str], songs: Path
):
    code, text = run(capsys, "data", "check", songs)
    told = [line.split() for line in text.splitlines() if line.startswith("fingerprint of ")]
    fingerprints = {words[2].rstrip(":"): words[3] for words in told}
    code, text = run_train(capsys, songs)
    assert code == 0, text
    (folder,) = Path("runs").glob("base/bass/*")
    data = json.loads((folder / "config.json").read_text())["data"]
    assert data["fingerprints"] == {split: fingerprints[split] for split in ("train", "valid")}
    card = read_card(folder / "best.safetensors")[1]
    for split in ("train", "valid"):
        assert f"{split} {fingerprints[split]}" in card.training_data
    code, text = run(capsys, "evaluate", folder / "best.safetensors", "--data", songs, "-o", "rows.jsonl", "-d", "cpu")
    assert code == 0, text
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert {row["fingerprint"] for row in rows} == {fingerprints["test"]}
    assert run_train(capsys, songs, "--resume")[0] == 0
    change_song(songs / "train" / "Song 0")
    code, text = run_train(capsys, songs, "--resume")
    assert code == 1
    assert "was trained on other data (different: fingerprints); give the data set 'songs' as it was" in text


def test_training_refuses_a_broken_set_and_goes_on_where_that_is_allowed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    songs = write_dataset(tmp_path / "songs", train=4, test=0)
    signal, _ = soundfile.read(songs / "train" / "Song 0" / "drums.wav")
    soundfile.write(songs / "train" / "Song 0" / "drums.wav", np.roll(signal, 50, axis=0), 8000, subtype="FLOAT")
    signal[9] = np.inf
    soundfile.write(songs / "train" / "Song 1" / "other.wav", signal, 8000, subtype="FLOAT")
    code, text = run_train(capsys, songs)
    assert code == 1
    assert "2 problem(s) that would spoil the results" in text
    assert "  train/Song 0, mixture: mixture minus sum of stems is " in text
    assert "  train/Song 1, other: holds samples that are not finite; export it again" in text
    assert "or continue anyway with --allow" in text
    assert not Path("runs").exists()
    code, text = run_train(capsys, songs, "--allow")
    assert code == 0, text
    assert "allowed: train/Song 0, mixture: mixture minus sum of stems is " in text
    assert "left out: train/Song 1" in text
    (description,) = Path("runs").rglob("config.json")
    assert json.loads(description.read_text())["data"]["train"] == ["Song 0", "Song 2"]


def write_list(folder: Path) -> Path:
    """Write loose stems of different lengths and a list of them."""
    rows = ["instrum,path"]
    for number in range(4):
        for stem, signal in noise_stems(number, 4000 + 100 * number).items():
            path = folder / "audio" / f"{stem} {number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, signal.T, 8000, subtype="FLOAT")
            rows.append(f"{stem},audio/{path.name}")
    (folder / "loose.csv").write_text("\n".join(rows) + "\n")
    return folder / "loose.csv"


def test_loose_stems_are_trained_on_with_the_validation_songs_of_another_set(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, songs: Path
):
    data = write_list(tmp_path / "collection")
    code, text = run_train(capsys, data)
    assert code == 1
    assert f"error: {data}: no songs of the split 'valid'; " in text
    code, text = run_train(capsys, data, "--valid", songs)
    assert code == 0, text
    assert "0 complete songs and 16 loose stems; mixtures are sums of stems" in text
    assert "best after epoch 1 of 1" in text
    (description,) = Path("runs").rglob("config.json")
    described = json.loads(description.read_text())["data"]
    assert described["valid"] == ["Song 2"]
    assert len(described["train"]) == 16
    assert set(described["fingerprints"]) == {"train", "valid"}
    assert run_train(capsys, data, "--valid", songs, "--resume")[0] == 0
    change_song(songs / "train" / "Song 2")
    assert "different: fingerprints" in run_train(capsys, data, "--valid", songs, "--resume")[1]


def test_a_set_without_validation_songs_cannot_be_the_one_for_validation(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, songs: Path
):
    other = write_dataset(tmp_path / "other", train=0, test=1)
    code, text = run_train(capsys, songs, "--valid", other)
    assert code == 1
    assert f"error: {other}: no songs of the split 'valid'; add a valid/ folder, or at least 2 songs" in text


def test_stems_lengths_and_mixture_are_options_of_training_and_evaluation(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    for number, split in enumerate(("train", "valid", "test")):
        stems = noise_stems(number)
        song = write_song(tmp_path / "duo" / split / f"Duo {split}", {"vocals": stems["vocals"], "bass": stems["bass"]})
        soundfile.write(song / "bass.wav", stems["bass"].T[:3500], 8000, subtype="FLOAT")
        os.unlink(song / "mixture.wav")
    options = ["--stems", "vocals, bass", "--lengths", "pad", "--mixture", "sum"]
    code, text = run_train(capsys, tmp_path / "duo", *options[:4])
    assert code == 1
    assert "or take the sum of the stems with --mixture sum" in text
    code, text = run_train(capsys, tmp_path / "duo", *options[:2], *options[4:])
    assert code == 1
    assert "or choose --lengths pad or trim" in text
    code, text = run_train(capsys, tmp_path / "duo", *options)
    assert code == 0, text
    (model,) = Path("runs").rglob("best.safetensors")
    code, text = run(capsys, "evaluate", model, "--data", tmp_path / "duo", "-o", "rows.jsonl", "-d", "cpu", *options)
    assert code == 0, text
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert {(row["track"], row["mixture"], row["data"]) for row in rows} == {("Duo test", "sum", "duo")}

"""A packed data set holds the same music in a form that is quicker to read; the benchmark measures that."""

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from bandsplit.audio import files as audio
from bandsplit.core.errors import AudioError, DataError
from bandsplit.data.examples.dataset import make_examples
from bandsplit.data.examples.mixing import UMX_LIKE, MixingConfig
from bandsplit.data.songs import pack
from bandsplit.data.songs.check import check_dataset
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.pack import pack_dataset
from bandsplit.tools.bench.examples import measure_examples
from command_line import run_command
from songs import STEMS, noise_stems, write_song


def _flac_set(root: Path, samples: int = 4000) -> Path:
    for number in range(3):
        write_song(root / "train" / f"Song {number}", noise_stems(number, samples), suffix=".flac")
    write_song(root / "test" / "Song 3", noise_stems(3, samples), suffix=".flac")
    return root


def test_a_packed_flac_set_has_the_samples_splits_and_fingerprints_of_the_original(tmp_path: Path) -> None:
    original = check_dataset(index_dataset(_flac_set(tmp_path / "flac"))).dataset
    pack_dataset(original, tmp_path / "packed")
    packed = check_dataset(index_dataset(tmp_path / "packed")).dataset
    assert [(track.split, track.name) for track in packed.tracks] == [(t.split, t.name) for t in original.tracks]
    assert packed.fingerprints == original.fingerprints
    assert {file.path.suffix for track in packed.tracks for (file,) in track.files.values()} == {".wav"}
    assert json.loads((tmp_path / "packed" / "pack.json").read_text())["fingerprints"] == original.fingerprints


def test_packing_resamples_when_asked(tmp_path: Path) -> None:
    dataset = index_dataset(_flac_set(tmp_path / "flac"))
    pack_dataset(dataset, tmp_path / "packed", sample_rate_hz=4000)
    track = index_dataset(tmp_path / "packed").tracks[0]
    assert (track.sample_rate_hz, track.samples) == (4000, 2000)


def test_loose_stems_stay_stem_folders(tmp_path: Path) -> None:
    for stem in ("flute", "harp"):
        for name in ("a", "b") if stem == "flute" else ("c",):
            (tmp_path / "loose" / stem).mkdir(parents=True, exist_ok=True)
            signal = noise_stems(len(name), 500)["bass"].T
            soundfile.write(tmp_path / "loose" / stem / f"{name}.flac", signal, 8000, subtype="PCM_16")
    pack_dataset(index_dataset(tmp_path / "loose", ("flute", "harp")), tmp_path / "packed")
    packed = index_dataset(tmp_path / "packed", ("flute", "harp"))
    assert [(track.name, *track.stems) for track in packed.tracks] == [("a", "flute"), ("b", "flute"), ("c", "harp")]


@pytest.mark.parametrize("there", [False, True], ids=["new folder", "empty folder"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("songs", range(1, 5))
def test_a_signal_leaves_no_copy_or_all_of_it(
    songs: int,
    number: signal.Signals,
    there: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: Any,
) -> None:
    _flac_set(tmp_path / "flac")
    if there:
        (tmp_path / "packed").mkdir()
    written: list[Path] = []

    def write(path: Path, *sound: Any) -> None:
        audio.write(path, *sound)
        written.append(path)
        if len(written) == 5 * songs:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(pack, "audio", SimpleNamespace(write=write))
    ended = run_command(capsys, "data", "pack", tmp_path / "flac", tmp_path / "packed")
    assert (ended.code, ended.err.splitlines()[-1]) == (1, "stopped")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert [*(tmp_path / "packed").glob("*")] == []
    assert (tmp_path / "packed").exists() is there


def test_a_song_that_fails_leaves_no_copy(tmp_path: Path) -> None:
    dataset = index_dataset(_flac_set(tmp_path / "flac"))
    file = tmp_path / "flac" / "test" / "Song 3" / "other.flac"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(AudioError, match=r"other\.flac: "):
        pack_dataset(dataset, tmp_path / "packed")
    assert [path.name for path in tmp_path.iterdir()] == ["flac"]


def test_a_folder_that_cannot_be_replaced_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = index_dataset(_flac_set(tmp_path / "flac"))
    (tmp_path / "packed").mkdir()
    (tmp_path / "link").symlink_to("packed")
    with pytest.raises(DataError, match=r"link: cannot be created \(Not a directory\); choose a new folder"):
        pack_dataset(dataset, tmp_path / "link")
    monkeypatch.chdir(tmp_path / "packed")
    with pytest.raises(DataError, match="is the working folder; change to another one, or choose a new folder"):
        pack_dataset(dataset, Path("."))


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "precious").touch()
    with pytest.raises(DataError, match="packed: is not empty; choose a new folder"):
        pack_dataset(index_dataset(_flac_set(tmp_path / "flac")), tmp_path / "packed")


def test_examples_of_both_are_the_same(tmp_path: Path) -> None:
    dataset = index_dataset(_flac_set(tmp_path / "flac"))
    pack_dataset(dataset, tmp_path / "packed")
    mixing = MixingConfig.parse(UMX_LIKE)
    options = {"excerpt_s": 0.1, "examples": 5, "sample_rate_hz": 8000, "channels": 2, "seed": 0}
    first, second = (
        make_examples(index_dataset(tmp_path / name).songs("train"), STEMS, mixing, **options)
        for name in ("flac", "packed")
    )
    for index in range(5):
        np.testing.assert_array_equal(first[index].targets.numpy(), second[index].targets.numpy())


def test_the_benchmark_compares_rates_of_the_same_round(tmp_path: Path) -> None:
    tracks = index_dataset(_flac_set(tmp_path / "flac", samples=20000)).songs("train")
    options = {"excerpt_s": 0.5, "examples": 80, "sample_rate_hz": 8000, "channels": 2, "seed": 0}
    speed = measure_examples(make_examples(tracks, ["bass"], MixingConfig.parse(UMX_LIKE), **options), per_round=8)
    assert min(speed.floor, speed.made, speed.loaded) > 0
    assert 0.01 < speed.made_ratio < 100 and speed.growth_mb >= 0

"""Broken folders of estimates: the message names the file, what is wrong and what to do."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bandsplit.core.errors import BandsplitError, DataError
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import Track
from bandsplit.evaluation.estimates import EstimateFiles, name_and_folder
from bandsplit.evaluation.evaluate import evaluate
from songs import STEMS, write_dataset

RATE_HZ = 8000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "songs", train=0, test=2)


@pytest.fixture
def tracks(data: Path) -> tuple[Track, ...]:
    return index_dataset(data).songs("test")


@pytest.fixture
def folder(data: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(data / "test", tmp_path / "tool"))


def message(folder: Path, tracks: tuple[Track, ...]) -> str:
    with pytest.raises(DataError) as caught:
        EstimateFiles(folder, tracks, STEMS)
    return str(caught.value)


def test_a_missing_stem(folder: Path, tracks: tuple[Track, ...]) -> None:
    (folder / "Song 1" / "bass.wav").unlink()
    expected = (
        f"song 'Song 1': no estimate of bass; add {folder / 'Song 1' / 'bass'}.wav, or score only existing stems: "
    )
    assert message(folder, tracks) == f"{expected}--targets vocals,drums,other"


def test_a_missing_song(folder: Path, tracks: tuple[Track, ...]) -> None:
    shutil.rmtree(folder / "Song 0")
    places = f"{folder / 'test' / 'Song 0'} or {folder / 'Song 0'}"
    assert message(folder, tracks) == f"song 'Song 0': no estimates; {places} must hold its stems"


def test_a_stem_that_is_there_twice(folder: Path, tracks: tuple[Track, ...]) -> None:
    soundfile.write(folder / "Song 0" / "drums.flac", np.zeros((4000, 2)), RATE_HZ)
    assert message(folder, tracks) == f"{folder / 'Song 0'}: drums.flac and drums.wav are the same stem; remove one"


def test_another_rate_or_number_of_channels_and_all_songs_at_once(folder: Path, tracks: tuple[Track, ...]) -> None:
    fast, mono = folder / "Song 0" / "other.wav", folder / "Song 1" / "vocals.wav"
    soundfile.write(fast, np.zeros((4000, 2)), 44100)
    soundfile.write(mono, np.zeros(4000), RATE_HZ)
    assert message(folder, tracks).splitlines() == [
        f"{fast}: has 44100 Hz, its song 8000 Hz; resample it to 8000 Hz",
        f"{mono}: has 1 channel(s), its song 2; write it with 2",
    ]


def test_a_file_that_is_no_audio(folder: Path, tracks: tuple[Track, ...]) -> None:
    path = folder / "Song 0" / "bass.wav"
    path.write_text("this is a shopping list\n")
    assert str(path) in message(folder, tracks)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite(folder: Path, data: Path, tracks: tuple[Track, ...], value: float) -> None:
    path = folder / "Song 1" / "bass.wav"
    signal = np.zeros((4000, 2), np.float32)
    signal[1234, 1] = value
    soundfile.write(path, signal, RATE_HZ, subtype="FLOAT")
    files = EstimateFiles(folder, tracks, STEMS)
    expected = rf"tool, song 'Song 1': {re.escape(str(path))}: sample 1234 \(0\.154 s\) of channel 1 is {value}"
    with pytest.raises(BandsplitError, match=expected):
        list(evaluate({"tool": files}, index_dataset(data), "test"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    for text in (f"{tmp_path}/absent", f"net={tmp_path}/absent"):
        with pytest.raises(DataError, match=r"absent: no such folder of estimates; give DIR or NAME=DIR"):
            name_and_folder(text)

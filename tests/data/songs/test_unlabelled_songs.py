"""Folders of songs without stems: what is found in them, and which songs are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bandsplit.core.errors import DataError
from bandsplit.data.songs.check import check_dataset, require_sound
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import MIXTURE, Dataset
from bandsplit.data.songs.unlabelled import index_unlabelled, unlabelled_songs
from songs import noise, write_dataset


def write(path: Path, seed: int = 0, samples: int = 4000, channels: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(channels, samples, seed).T, 8000, subtype="PCM_16")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Songs 0 to 2 for training, of which the last is for validation, and song 3 for the test."""
    return index_dataset(write_dataset(tmp_path / "data", train=3, test=1))


def test_all_wav_and_flac_files_are_songs_and_of_a_song_with_stems_only_the_mixture(tmp_path: Path):
    root = tmp_path / "songs"
    for number, name in enumerate(["b.wav", "a/c.flac", ".hidden/d.wav", "song/mixture.wav", "song/vocals.wav"]):
        write(root / name, number)
    (root / "e.mp3").write_bytes(b"ID3")
    found = index_unlabelled(root)
    assert [track.name for track in found.tracks] == ["a/c", "b", "song"]
    assert found.choices == ("unlabelled: 3 songs", "unlabelled: 1 .mp3 left out; convert to wav or flac")
    expected = np.round(noise(2, 4000, 3) * 32768) / 32768
    np.testing.assert_allclose(found.tracks[2].read(MIXTURE), expected, atol=2 / 32768)


def test_a_folder_without_songs_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="none: is not a folder; name the folder of the unlabelled songs"):
        index_unlabelled(tmp_path / "none")
    with pytest.raises(DataError, match="has no wav or flac files, which unlabelled songs must be; add some"):
        index_unlabelled(tmp_path)
    (tmp_path / "a.mp3").write_bytes(b"ID3")
    with pytest.raises(DataError, match=r"must be \(it has .mp3: convert them\); add some"):
        index_unlabelled(tmp_path)


def test_songs_that_cannot_be_read_are_all_named(tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(b"no audio")
    write(tmp_path / "b.wav")
    (tmp_path / "c.flac").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        index_unlabelled(tmp_path)
    assert "2 problems" in str(caught.value) and "a.wav" in str(caught.value) and "c.flac" in str(caught.value)


def test_samples_that_are_not_finite_are_refused(tmp_path: Path, dataset: Dataset):
    signal = noise(2, 4000)
    signal[1, 7] = np.nan
    (tmp_path / "songs").mkdir()
    soundfile.write(tmp_path / "songs" / "a.wav", signal.T, 8000, subtype="FLOAT")
    report = check_dataset(index_unlabelled(tmp_path / "songs"))
    with pytest.raises(DataError, match="a, mixture: holds samples that are not finite"):
        require_sound(report)
    with pytest.raises(DataError, match="a, mixture: holds samples that are not finite"):
        unlabelled_songs(report.dataset, dataset, 2)


@pytest.mark.parametrize(("number", "label"), [(2, "valid/Song 2"), (3, "test/Song 3")])
def test_held_out_songs_are_refused_whatever_their_files_are_called(
    tmp_path: Path, dataset: Dataset, number: int, label: str
):
    write(tmp_path / "songs" / "fine.wav", 99)
    (original,) = tmp_path.glob(f"data/*/Song {number}/mixture.wav")
    signal, rate = soundfile.read(original)
    soundfile.write(tmp_path / "songs" / "other name.flac", signal, rate, subtype="PCM_16")
    with pytest.raises(DataError) as caught:
        unlabelled_songs(index_unlabelled(tmp_path / "songs"), dataset, 2)
    assert f"other name: is {label}, on which models are scored; remove it" in str(caught.value)
    assert "fine" not in str(caught.value)


def test_test_songs_of_further_data_sets_are_refused_and_training_songs_are_not(tmp_path: Path, dataset: Dataset):
    other = index_dataset(write_dataset(tmp_path / "more", train=5, test=1))  # song 5 for the test
    write(tmp_path / "songs" / "a.wav", 99)
    several = replace(dataset, others=(other,))
    for number in (0, 5):
        (original,) = (tmp_path / "more").glob(f"*/Song {number}/mixture.wav")
        (tmp_path / "songs" / f"{number}.wav").write_bytes(original.read_bytes())
    with pytest.raises(DataError) as caught:
        unlabelled_songs(index_unlabelled(tmp_path / "songs"), several, 2)
    assert "1 problem" in str(caught.value) and "5: is test/Song 5" in str(caught.value)


def test_songs_with_other_channels_are_refused(tmp_path: Path, dataset: Dataset):
    write(tmp_path / "songs" / "mono.wav", channels=1)
    with pytest.raises(DataError, match="mono: channels is 1, the model needs 2; convert the song"):
        unlabelled_songs(index_unlabelled(tmp_path / "songs"), dataset, 2)


def test_the_fingerprint_is_that_of_the_audio(tmp_path: Path):
    for folder, seed in (("one", 0), ("two", 0), ("three", 1)):
        write(tmp_path / folder / "a.wav", seed)
    one, two, three = (
        check_dataset(index_unlabelled(tmp_path / name)).fingerprints["train"] for name in ("one", "two", "three")
    )
    assert one == two != three

"""A folder becomes songs and splits."""

from pathlib import Path

import numpy as np
import pytest

from bandsplit.data.layouts import index_dataset
from bandsplit.data.musdb import VALIDATION_SONGS
from bandsplit.errors import DataError
from songs import STEMS, noise_stems, write_dataset, write_song


def test_songs_are_found_with_their_headers(tmp_path: Path) -> None:
    write_song(tmp_path / "test" / "Çà et là - Über", noise_stems(0, samples=1234), sample_rate_hz=22050)
    (track,) = index_dataset(tmp_path).songs("test")
    assert (track.name, track.split) == ("Çà et là - Über", "test")
    assert (track.samples, track.channels, track.sample_rate_hz) == (1234, 2, 22050)
    assert tuple(track.stems) == STEMS
    assert track.mixture == (tmp_path / "test" / "Çà et là - Über" / "mixture.wav", 1234)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_loaded_song_holds_what_was_written(tmp_path: Path, suffix: str) -> None:
    stems = noise_stems(1)
    write_song(tmp_path / "test" / "Song", stems, suffix=suffix)
    song = index_dataset(tmp_path).songs("test")[0].load()
    for name in STEMS:
        np.testing.assert_array_equal(song.stems[name], stems[name].astype(np.float32))
    np.testing.assert_allclose(song.mixture, sum(stems.values()), atol=1e-6)


def test_validation_songs_are_taken_by_their_musdb_names(tmp_path: Path) -> None:
    for name in ("A Song", "Leaf - Summerghost", "Young Griffo - Pennies"):
        write_song(tmp_path / "train" / name, noise_stems(0, 100))
    dataset = index_dataset(tmp_path)
    assert [track.name for track in dataset.songs("valid")] == ["Leaf - Summerghost", "Young Griffo - Pennies"]
    assert [track.name for track in dataset.songs("train")] == ["A Song"]
    assert dataset.notes == ("validation: 2 of the 14 songs that musdb names, taken from train/",)


def test_there_are_14_validation_songs() -> None:
    assert len(VALIDATION_SONGS) == 14


def test_a_valid_folder_goes_before_the_musdb_names(tmp_path: Path) -> None:
    write_song(tmp_path / "train" / "Leaf - Summerghost", noise_stems(0, 100))
    write_song(tmp_path / "valid" / "Another", noise_stems(1, 100))
    dataset = index_dataset(tmp_path)
    assert [track.name for track in dataset.songs("valid")] == ["Another"]
    assert [track.name for track in dataset.songs("train")] == ["Leaf - Summerghost"]
    assert dataset.notes == ()


def test_without_either_the_last_training_song_is_held_out_and_a_note_says_so(tmp_path: Path) -> None:
    dataset = index_dataset(write_dataset(tmp_path, train=3))
    assert [track.name for track in dataset.songs("train")] == ["Song 0", "Song 1"]
    assert [track.name for track in dataset.songs("valid")] == ["Song 2"]
    assert "'Song 2', the last song of train/, is held out" in dataset.notes[0]


def test_one_training_song_leaves_no_validation_song(tmp_path: Path) -> None:
    dataset = index_dataset(write_dataset(tmp_path, train=1, test=0))
    assert len(dataset.songs("train")) == 1
    with pytest.raises(DataError, match="no songs of the split 'valid'; add a valid/ folder, or at least 2 songs"):
        dataset.songs("valid")


def test_only_asked_splits_are_checked(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    (tmp_path / "train" / "Song 0" / "bass.wav").unlink()
    assert len(index_dataset(tmp_path, splits=["test"]).tracks) == 1


def test_other_stem_names_can_be_asked_for(tmp_path: Path) -> None:
    write_song(tmp_path / "train" / "Duo", {"flute": np.zeros((1, 50)), "harp": np.zeros((1, 50))})
    (track,) = index_dataset(tmp_path, stems=["harp", "flute"]).songs("train")
    assert tuple(track.stems) == ("harp", "flute")


def test_hidden_files_and_folders_are_no_songs(tmp_path: Path) -> None:
    write_dataset(tmp_path, train=1)
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "readme.txt").write_text("hello")
    assert len(index_dataset(tmp_path).tracks) == 2


def test_real_songs_are_indexed(shared: Path) -> None:
    root = shared / "data" / "everything_is_free"
    if not root.is_dir():
        pytest.skip("the real songs are not here")
    dataset = index_dataset(root)
    assert [len(dataset.songs(split)) for split in ("train", "valid", "test")] == [4, 1, 1]
    assert {track.sample_rate_hz for track in dataset.tracks} == {44100}
    assert sum(track.samples for track in dataset.tracks) / 44100 == pytest.approx(108)

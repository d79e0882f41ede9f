"""A folder becomes songs and splits."""

import dataclasses
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from bandsplit.core.errors import DataError
from bandsplit.data.songs.check import DatasetReport, PartFacts, SongFacts
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.musdb import VALIDATION_SONGS, looks_like_musdb18_hq
from bandsplit.data.songs.tracks import Dataset, Problem, Track
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


# --- is it MUSDB18-HQ? -----------------------------------------------------------------------------------------------


def benchmark_tracks() -> list[Track]:
    """Make the songs of MUSDB18-HQ as far as names and headers tell."""
    names = {
        "train": [f"Train {number}" for number in range(86)],
        "valid": sorted(VALIDATION_SONGS),
        "test": [f"Test {number}" for number in range(50)],
    }
    stems = {stem: () for stem in STEMS}
    return [Track(name, split, stems, None, 44100, 2, 44100) for split, songs in names.items() for name in songs]


def report_of(tracks: list[Track], cliff_db: float | None, broken: tuple[Problem, ...] = ()) -> DatasetReport:
    """Make the report of a check that found a fall of the level of ``cliff_db`` at 16 kHz in each song."""
    below = None if cliff_db is None else 0.0
    above = None if cliff_db is None else -cliff_db
    part = PartFacts("digest", 0.5, -20.0, 0, True, below, above)
    songs = tuple(SongFacts(track, dict.fromkeys((*STEMS, "mixture"), part), None) for track in tracks)
    return DatasetReport(Dataset(Path("set"), "musdb", STEMS, tuple(tracks)), songs, broken, ())


def test_musdb18_hq_is_known_by_counts_names_headers_and_bandwidth() -> None:
    tracks = benchmark_tracks()
    assert report_of(tracks, cliff_db=10).benchmark == "MUSDB18-HQ"
    for split in ("train", "valid", "test"):
        assert report_of([track for track in tracks if track.split == split], cliff_db=10).benchmark == "MUSDB18-HQ"


def test_names_in_another_unicode_form_are_the_same_names() -> None:
    tracks = [dataclasses.replace(track, name=unicodedata.normalize("NFD", track.name)) for track in benchmark_tracks()]
    assert looks_like_musdb18_hq(tracks)


def test_lossy_or_broken_copies_and_those_whose_bandwidth_is_unknown_are_not_musdb18_hq() -> None:
    tracks = benchmark_tracks()
    assert report_of(tracks, cliff_db=50).benchmark is None
    assert report_of(tracks, cliff_db=None).benchmark is None
    assert report_of(tracks, cliff_db=10, broken=(Problem("test/Test 1", None, "is cut"),)).benchmark is None


def test_songs_whose_errata_were_treated_are_not_musdb18_hq() -> None:
    report = report_of(benchmark_tracks(), cliff_db=10)
    treated = dataclasses.replace(report, dataset=dataclasses.replace(report.dataset, errata="relabel"))
    assert (report.benchmark, treated.benchmark) == ("MUSDB18-HQ", None)


@pytest.mark.parametrize("change", ["one less", "one more", "other validation", "mono", "rate", "stem", "nothing"])
def test_what_differs_from_musdb18_hq_in_any_way_is_not_it(change: str) -> None:
    tracks = benchmark_tracks()
    valid = next(track for track in tracks if track.split == "valid")
    others = [track for track in tracks if track is not valid]
    changed = {
        "one less": tracks[:-1],
        "one more": [*tracks, dataclasses.replace(tracks[0], name="Another")],
        "other validation": [*others, dataclasses.replace(valid, name="Another")],
        "mono": [*others, dataclasses.replace(valid, channels=1)],
        "rate": [*others, dataclasses.replace(valid, sample_rate_hz=48000)],
        "stem": [*others, dataclasses.replace(valid, stems={"vocals": ()})],
        "nothing": [],
    }[change]
    assert not looks_like_musdb18_hq(changed)


def test_validation_songs_of_another_set_make_it_another_set() -> None:
    train = Dataset(Path("a"), "musdb", STEMS, (), benchmark="MUSDB18-HQ")
    other = Dataset(Path("b"), "musdb", STEMS, (benchmark_tracks()[90],))
    assert train.with_validation(other).benchmark is None
    assert train.with_validation(dataclasses.replace(other, benchmark="MUSDB18-HQ")).benchmark == "MUSDB18-HQ"

"""Every layout becomes the same tracks: samples are traced from the files to what is read."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bandsplit.core.errors import DataError
from bandsplit.data.songs.layouts import MOISESDB_STEMS, index_dataset
from bandsplit.data.songs.tracks import Dataset, Track
from songs import STEMS, noise_stems, write_dataset, write_song

RATE_HZ = 8000


def write(path: Path, seed: int, samples: int = 400, channels: int = 2, sample_rate_hz: int = RATE_HZ) -> np.ndarray:
    """Write noise and return it as ``c samples``; no two seeds share a sample sequence."""
    signal = np.random.default_rng(seed).normal(0, 0.1, (channels, samples)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal.T, sample_rate_hz, subtype="FLOAT" if path.suffix == ".wav" else "PCM_24")
    return signal


def track_of(dataset: Dataset, name: str) -> Track:
    (track,) = [track for track in dataset.tracks if track.name == name]
    return track


def error_of(root: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        index_dataset(root, **options)  # type: ignore[arg-type]
    return str(caught.value)


# --- songs -----------------------------------------------------------------------------------------------------------


def test_the_mixture_is_read_from_its_file_or_summed_and_the_track_records_which(tmp_path: Path) -> None:
    stems = noise_stems(0)
    song = write_song(tmp_path / "test" / "Song", stems)
    mastered = write(song / "mixture.wav", 1, samples=4000)
    (from_file,) = index_dataset(tmp_path).tracks
    assert from_file.mixture_from == "file"
    np.testing.assert_array_equal(from_file.load().mixture, mastered)
    np.testing.assert_array_equal(from_file.read("mixture", 100, 50), mastered[:, 100:150])
    (summed,) = index_dataset(tmp_path, mixture="sum").tracks
    assert summed.mixture_from == "sum"
    together = np.sum(list(stems.values()), axis=0)
    np.testing.assert_allclose(summed.load().mixture, together, atol=1e-6)
    np.testing.assert_allclose(summed.read("mixture", 100, 50), together[:, 100:150], atol=1e-6)


def test_a_missing_mixture_is_an_error_that_names_the_option_which_needs_none(tmp_path: Path) -> None:
    write_dataset(tmp_path, train=2, test=0)
    (tmp_path / "train" / "Song 1" / "mixture.wav").unlink()
    message = error_of(tmp_path)
    assert "  train/Song 1, mixture: missing (the folder holds bass.wav, drums.wav, other.wav, vocals.wav)" in message
    assert message.endswith("add mixture.wav or mixture.flac, or take the sum of the stems with --mixture sum")
    assert len(index_dataset(tmp_path, mixture="sum").tracks) == 2


def test_a_mixture_that_is_not_used_may_be_broken_or_of_any_length(tmp_path: Path) -> None:
    song = write_song(tmp_path / "test" / "A", noise_stems(0))
    write(song / "mixture.wav", 1, samples=9000)
    (write_song(tmp_path / "test" / "B", noise_stems(1)) / "mixture.wav").write_bytes(b"no audio")
    for track in index_dataset(tmp_path, mixture="sum", lengths="pad").tracks:
        assert track.samples == 4000


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_files_of_different_length_are_refused_padded_or_trimmed(tmp_path: Path, suffix: str) -> None:
    song = tmp_path / "test" / "Song"
    signals = {stem: write(song / f"{stem}{suffix}", number) for number, stem in enumerate(STEMS)}
    signals["drums"] = write(song / f"drums{suffix}", 7, samples=300)
    whole = write(song / f"mixture{suffix}", 8)
    text = f"test/Song, drums: drums{suffix} has 300 samples, mixture{suffix} has 400; cut or pad it to 400 samples, "
    assert text + "or choose --lengths pad or trim" in error_of(tmp_path)

    (padded,) = index_dataset(tmp_path, lengths="pad").tracks
    assert padded.samples == 400
    np.testing.assert_allclose(padded.read("drums")[:, :300], signals["drums"], atol=1e-6)
    assert not padded.read("drums")[:, 300:].any()
    np.testing.assert_allclose(padded.read("drums", 290, 20)[:, :10], signals["drums"][:, 290:], atol=1e-6)
    assert padded.read("drums", 350, 20).shape == (2, 20)
    assert not padded.read("drums", 350, 20).any()
    np.testing.assert_allclose(padded.load().mixture, whole, atol=1e-6)

    (trimmed,) = index_dataset(tmp_path, lengths="trim").tracks
    assert trimmed.samples == 300
    loaded = trimmed.load()
    np.testing.assert_allclose(loaded.stems["bass"], signals["bass"][:, :300], atol=1e-6)
    np.testing.assert_allclose(loaded.mixture, whole[:, :300], atol=1e-6)


def test_files_of_different_rate_are_refused_whatever_the_lengths(tmp_path: Path) -> None:
    song = write_song(tmp_path / "test" / "Song", noise_stems(0))
    write(song / "bass.wav", 0, samples=4000, sample_rate_hz=16000)
    for lengths in ("error", "pad", "trim"):
        text = "test/Song, bass: bass.wav has 16000 Hz, mixture.wav has 8000; resample it to 8000 Hz"
        assert text in error_of(tmp_path, lengths=lengths)


def test_allowed_broken_songs_are_left_out_with_notes(tmp_path: Path) -> None:
    write_dataset(tmp_path, train=4, test=1)
    (tmp_path / "train" / "Song 1" / "bass.wav").unlink()
    (tmp_path / "train" / "Song 2" / "drums.wav").write_bytes(b"")
    dataset = index_dataset(tmp_path, allow_broken=True)
    assert [track.name for track in dataset.tracks] == ["Song 0", "Song 3", "Song 4"]
    first, second = dataset.left_out
    assert first.startswith("train/Song 1, bass: missing (")
    assert second.startswith(f"train/Song 2, drums: {tmp_path / 'train' / 'Song 2' / 'drums.wav'}: is empty")
    assert dataset.notes == (*dataset.choices, f"left out: {first}", f"left out: {second}")


@pytest.mark.parametrize("others", [2, 0])
def test_of_a_song_in_two_splits_the_one_for_testing_is_kept_where_that_is_allowed(tmp_path: Path, others: int) -> None:
    write_dataset(tmp_path, train=others, test=0)
    for split in ("train", "test"):
        write_song(tmp_path / split / "Twice", noise_stems(9))
    dataset = index_dataset(tmp_path, allow_broken=True)
    assert [track.split for track in dataset.tracks if track.name == "Twice"] == ["test"]
    assert "train/Twice: the song is in test/ too; keep one of them" in dataset.left_out


def test_a_song_named_like_a_stem_does_not_make_stem_folders_of_all_songs(tmp_path: Path) -> None:
    write_dataset(tmp_path, train=2, test=0)
    write_song(tmp_path / "train" / "drums", noise_stems(9))
    dataset = index_dataset(tmp_path)
    assert dataset.layout == "songs"
    assert sorted(track.name for track in dataset.tracks) == ["Song 0", "Song 1", "drums"]


# --- stem folders ----------------------------------------------------------------------------------------------------


def test_files_of_one_name_and_length_in_all_stem_folders_are_a_song_and_others_loose_stems(tmp_path: Path) -> None:
    signals = {}
    for number, stem in enumerate(STEMS):
        signals[stem, "whole"] = write(tmp_path / stem / "whole.wav", number)
        signals[stem, "uneven"] = write(tmp_path / stem / "uneven.flac", 10 + number, samples=300 + number)
    signals["bass", "solo"] = write(tmp_path / "bass" / "solo.flac", 20)
    dataset = index_dataset(tmp_path)
    assert (dataset.layout, dataset.stems) == ("stem folders", STEMS)
    whole = track_of(dataset, "whole")
    assert (tuple(whole.stems), whole.mixture, whole.mixture_from) == (STEMS, None, "sum")
    song = whole.load()
    for stem in STEMS:
        np.testing.assert_array_equal(song.stems[stem], signals[stem, "whole"])
    np.testing.assert_allclose(song.mixture, sum(signals[stem, "whole"] for stem in STEMS), atol=1e-6)
    loose = [track for track in dataset.tracks if track.name != "whole"]
    assert sorted((track.name, *track.stems) for track in loose) == [
        ("solo", "bass"), *sorted(("uneven", stem) for stem in STEMS)
    ]  # fmt: skip
    for track in loose:
        (stem,) = track.stems
        np.testing.assert_allclose(track.read(stem), signals[stem, track.name], atol=1e-6)
        np.testing.assert_array_equal(track.load().mixture, track.read(stem))
    assert {track.split for track in dataset.tracks} == {"train"}
    assert "1 complete songs and 5 loose stems; mixtures are sums of stems" in dataset.notes


def test_a_loose_stem_is_no_song_to_separate(tmp_path: Path) -> None:
    write(tmp_path / "vocals" / "a.wav", 0)
    write(tmp_path / "bass" / "b.wav", 1)
    with pytest.raises(DataError, match="train/a: is a loose stem \\(no bass\\), not a song to separate; give"):
        index_dataset(tmp_path).whole_songs("train")


def test_the_last_whole_song_of_stem_folders_is_held_out(tmp_path: Path) -> None:
    for seed, stem in enumerate(("vocals", "bass")):
        for name in ("a", "b"):
            write(tmp_path / stem / f"{name}.wav", seed)
    write(tmp_path / "bass" / "z.wav", 3)
    dataset = index_dataset(tmp_path)
    assert [(track.name, track.split) for track in dataset.tracks] == [("a", "train"), ("b", "valid"), ("z", "train")]
    assert dataset.notes[0].startswith("validation: 'b', the last song of train/, is held out")


def test_stem_folders_may_lie_in_splits(tmp_path: Path) -> None:
    signals = {}
    for number, split in enumerate(("train", "valid", "test")):
        for other, stem in enumerate(("vocals", "drums")):
            signals[split, stem] = write(tmp_path / split / stem / f"{split} 1.wav", 10 * number + other)
    write(tmp_path / "train" / "drums" / "solo.wav", 99)
    dataset = index_dataset(tmp_path)
    assert (dataset.layout, dataset.stems) == ("stem folders", ("vocals", "drums"))
    for (split, stem), signal in signals.items():
        track = track_of(dataset, f"{split} 1")
        assert track.split == split
        np.testing.assert_array_equal(track.read(stem), signal)
    assert len(dataset.songs("train")) == 2


def test_only_asked_splits_of_stem_folders_are_checked(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        for seed, stem in enumerate(("vocals", "bass")):
            for name in "ab":
                write(tmp_path / split / stem / f"{split} {name}.wav", seed)
    (tmp_path / "test" / "vocals" / "test a.wav").write_bytes(b"")
    assert "test/test a, vocals: " in error_of(tmp_path)
    dataset = index_dataset(tmp_path, splits=["train"])
    assert [(track.name, track.split) for track in dataset.tracks] == [("train a", "train"), ("train b", "train")]
    (tmp_path / "train" / "vocals" / "train a.wav").write_bytes(b"")
    assert len(index_dataset(tmp_path, splits=["valid"]).tracks) == 2


def test_stem_folders_without_wav_or_flac_files_are_told(tmp_path: Path) -> None:
    for stem in ("vocals", "bass"):
        (tmp_path / stem).mkdir()
        (tmp_path / stem / "song.m4a").touch()
    text = f"{tmp_path}: no wav or flac files in the stem folders vocals, bass; add some or convert existing files"
    assert text in error_of(tmp_path)


def test_stems_may_have_any_names(tmp_path: Path) -> None:
    signal = write(tmp_path / "hurdy gurdy" / "tune.wav", 0)
    write(tmp_path / "bagpipe" / "tune.wav", 1)
    dataset = index_dataset(tmp_path, stems=["hurdy gurdy", "bagpipe"])
    assert dataset.stems == ("hurdy gurdy", "bagpipe")
    np.testing.assert_array_equal(dataset.tracks[0].read("hurdy gurdy"), signal)
    assert "not a data set" in error_of(tmp_path)


def test_hidden_files_and_folders_are_no_stems(tmp_path: Path) -> None:
    write(tmp_path / "vocals" / "a.wav", 0)
    (tmp_path / "vocals" / "._a.wav").write_bytes(b"resource fork")
    for name in (".bandsplit", ".git"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.json").write_text("{}")
    dataset = index_dataset(tmp_path)
    assert dataset.layout == "stem folders"
    assert [track.name for track in dataset.tracks] == ["a"]


# --- lists -----------------------------------------------------------------------------------------------------------


def write_list(path: Path, rows: Sequence[str], header: str = "instrum,path", encoding: str = "utf-8") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding=encoding)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_list_names_files_by_absolute_paths_or_relative_to_its_folder(tmp_path: Path, encoding: str) -> None:
    far = write(tmp_path / "elsewhere" / "Été, tard.wav", 0)
    near = write(tmp_path / "lists" / "audio" / "b.flac", 1)
    rows = [f'vocals,"{tmp_path / "elsewhere" / "Été, tard.wav"}"', "kazoo, audio/b.flac"]
    dataset = index_dataset(write_list(tmp_path / "lists" / "all.csv", rows, encoding=encoding))
    assert (dataset.layout, dataset.name, dataset.stems) == ("list", "all.csv", ("vocals", "kazoo"))
    np.testing.assert_array_equal(track_of(dataset, "Été, tard").read("vocals"), far)
    np.testing.assert_allclose(track_of(dataset, "b").read("kazoo"), near, atol=1e-6)


def test_files_of_one_name_under_every_stem_of_a_list_are_a_song(tmp_path: Path) -> None:
    signals = {stem: write(tmp_path / stem / "01.wav", number) for number, stem in enumerate(("bass", "vocals"))}
    write(tmp_path / "bass" / "02.wav", 5)
    rows = ["bass,bass/01.wav", "bass,bass/02.wav", "vocals,vocals/01.wav"]
    dataset = index_dataset(write_list(tmp_path / "all.csv", rows, header="instrum,path"))
    song = track_of(dataset, "01").load()
    for stem, signal in signals.items():
        np.testing.assert_array_equal(song.stems[stem], signal)
    np.testing.assert_allclose(song.mixture, sum(signals.values()), atol=1e-6)
    assert tuple(track_of(dataset, "02").stems) == ("bass",)


def test_columns_of_a_list_may_come_in_either_order(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0)
    dataset = index_dataset(write_list(tmp_path / "all.csv", ["a.wav,bass"], header="path,instrum"))
    assert dataset.stems == ("bass",)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "found nothing and 0 rows"),
        ("instrum,path\n", "found instrum, path and 0 rows"),
        ("instrum;path\nbass;a.wav\n", "found instrum;path and 1 row"),
        ("stem,file\nbass,a.wav\nbass,b.wav\n", "found stem, file and 2 rows"),
        ("instrum,path,gain\nbass,a.wav,1\n", "found instrum, path, gain and 1 row"),
    ],
)
def test_a_list_with_other_columns_or_without_rows_is_refused(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "all.csv").write_text(text)
    wanted = "must have the columns instrum and path, in its first line, and rows; "
    assert error_of(tmp_path / "all.csv") == f"{tmp_path / 'all.csv'}: {wanted}{found}"


@pytest.mark.parametrize("content", [b"instrum,path\nbass,\xff\xfe.wav\n", "instrum,path\nbass,a\n".encode("utf-16")])
def test_a_list_that_is_not_text_in_utf_8_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "all.csv").write_bytes(content)
    message = error_of(tmp_path / "all.csv")
    assert message.startswith(f"{tmp_path / 'all.csv'}: is not CSV text in UTF-8 (")
    assert message.endswith("save it as such")


def test_rows_that_make_no_sense_are_named_by_their_lines_and_missing_files_by_stem_and_path(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0)
    rows = ["bass,a.wav", "bass,gone.wav", "bass", ",a.wav", "bass,my, song.wav", "mixture,a.wav"]
    message = error_of(write_list(tmp_path / "all.csv", rows))
    assert ": 5 problems\n" in message
    assert "  line 4: has no instrum or no path; complete or remove it\n" in message
    assert "  line 5: has no instrum or no path; complete or remove it\n" in message
    assert "  line 6: has more than two values; put a path that holds a comma in double quotes\n" in message
    assert "  line 7: lists a mixture, but mixtures of a list are sums of stems; remove it\n" in message
    assert f"  train/gone, bass: {tmp_path / 'gone.wav'}: no file has this name; check the spelling" in message
    dataset = index_dataset(tmp_path / "all.csv", allow_broken=True)
    assert [track.name for track in dataset.tracks] == ["a"]
    assert len(dataset.left_out) == 5


def test_files_of_a_list_that_differ_in_rate_are_loose_stems_each_with_its_own(tmp_path: Path) -> None:
    write(tmp_path / "vocals" / "a.wav", 0)
    write(tmp_path / "bass" / "a.wav", 1, sample_rate_hz=16000)
    dataset = index_dataset(write_list(tmp_path / "all.csv", ["vocals,vocals/a.wav", "bass,bass/a.wav"]))
    assert sorted((track.sample_rate_hz, *track.stems) for track in dataset.tracks) == [
        (8000, "vocals"),
        (16000, "bass"),
    ]


# --- MoisesDB --------------------------------------------------------------------------------------------------------


def write_moises(folder: Path, stems: dict[str, list[np.ndarray]], song: str = "Tune", suffix: str = "wav") -> None:
    """Write one song with its ``data.json``."""
    described = []
    for number, (stem, signals) in enumerate(stems.items()):
        tracks = []
        for part, signal in enumerate(signals):
            name = f"{number}{part}-0000"
            (folder / stem).mkdir(parents=True, exist_ok=True)
            subtype = "FLOAT" if suffix == "wav" else "PCM_24"
            soundfile.write(folder / stem / f"{name}.{suffix}", signal.T, RATE_HZ, subtype=subtype)
            tracks.append({"id": name, "trackType": "any", "has_bleed": False, "extension": suffix})
        described.append({"id": f"{number}", "stemName": stem, "tracks": tracks})
    data = {"song": song, "artist": "Anyone", "genre": "rock", "stems": described}
    (folder / "data.json").write_text(json.dumps(data))


def noise(seed: int, samples: int = 300) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (2, samples)).astype(np.float32)


UUIDS = ("0a1b2c3d-0000-4000-8000-000000000000", "9f8e7d6c-0000-4000-8000-000000000000")


@pytest.mark.parametrize("inner", ["moisesdb_v0.1", "."])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_stems_of_moisesdb_are_summed_to_four_as_the_table_says(tmp_path: Path, inner: str, suffix: str) -> None:
    parts = {stem: [noise(2 * n), noise(2 * n + 1)] for n, stem in enumerate(MOISESDB_STEMS)}
    write_moises(tmp_path / inner / UUIDS[0], parts, "Everything", suffix)
    write_moises(tmp_path / inner / UUIDS[1], {"vocals": [noise(50)]}, "Alone", suffix)
    (tmp_path / ".bandsplit").mkdir()
    dataset = index_dataset(tmp_path)
    assert (dataset.layout, dataset.stems) == ("MoisesDB", STEMS)
    song = track_of(dataset, "Anyone - Everything (0a1b2c3d)").load()
    others = {"guitar", "piano", "other_keys", "other_plucked", "bowed_strings", "wind", "percussion", "other"}
    for stem, theirs in {"vocals": {"vocals"}, "bass": {"bass"}, "drums": {"drums"}, "other": others}.items():
        expected = sum(sum(parts[name]) for name in theirs)
        np.testing.assert_allclose(song.stems[stem], expected, atol=1e-5)
    np.testing.assert_allclose(song.mixture, sum(sum(signals) for signals in parts.values()), atol=1e-5)
    assert {*others, "vocals", "bass", "drums"} == set(MOISESDB_STEMS)


def test_stems_that_a_song_of_moisesdb_lacks_are_silent(tmp_path: Path) -> None:
    alone = noise(0)
    write_moises(tmp_path / "moisesdb_v0.1" / UUIDS[0], {"vocals": [alone]})
    (track,) = index_dataset(tmp_path).whole_songs("train")
    song = track.load()
    for stem in ("bass", "drums", "other"):
        assert song.stems[stem].shape == (2, 300)
        assert not song.stems[stem].any()
    np.testing.assert_array_equal(song.mixture, alone)


def test_songs_of_moisesdb_with_files_of_different_length_are_refused_padded_or_trimmed(tmp_path: Path) -> None:
    bass, piano = noise(0, 300), noise(1, 250)
    write_moises(tmp_path / UUIDS[0], {"bass": [bass], "piano": [piano]})
    assert f"  {UUIDS[0]}, other: 10-0000.wav has 250 samples, 00-0000.wav has 300; cut or pad it" in error_of(tmp_path)
    assert error_of(tmp_path).endswith("or choose --lengths pad or trim")
    (padded,) = index_dataset(tmp_path, lengths="pad").tracks
    np.testing.assert_array_equal(padded.read("other"), np.pad(piano, ((0, 0), (0, 50))))
    (trimmed,) = index_dataset(tmp_path, lengths="trim").tracks
    np.testing.assert_array_equal(trimmed.read("bass"), bass[:, :250])


def test_an_unknown_stem_of_moisesdb_is_an_error(tmp_path: Path) -> None:
    write_moises(tmp_path / "moisesdb_v0.1" / UUIDS[0], {"vocals": [noise(0)], "kazoo": [noise(1)]})
    message = error_of(tmp_path)
    assert f"  moisesdb_v0.1/{UUIDS[0]}: data.json names an unknown stem 'kazoo'; rename it and its folder" in message
    assert message.endswith("percussion, other")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"stems": [{"tracks": []}]}', '{"stems": 3}', "\x00"])
def test_a_damaged_description_of_moisesdb_is_named_and_can_be_left_out(tmp_path: Path, text: str) -> None:
    write_moises(tmp_path / UUIDS[0], {"vocals": [noise(0)]})
    (tmp_path / UUIDS[1]).mkdir()
    (tmp_path / UUIDS[1] / "data.json").write_text(text)
    assert f"  {UUIDS[1]}: data.json cannot be parsed (" in error_of(tmp_path)
    assert len(index_dataset(tmp_path, allow_broken=True).tracks) == 1


def test_a_missing_file_of_moisesdb_is_named_with_its_song_and_stem(tmp_path: Path) -> None:
    write_moises(tmp_path / UUIDS[0], {"vocals": [noise(0)], "wind": [noise(1)]})
    path = tmp_path / UUIDS[0] / "wind" / "10-0000.wav"
    path.unlink()
    assert f"  {UUIDS[0]}, other: {path}: no file has this name" in error_of(tmp_path)


# --- neither ---------------------------------------------------------------------------------------------------------


def test_a_folder_of_no_known_layout_is_told_what_is_expected(tmp_path: Path) -> None:
    write(tmp_path / "song.wav", 0)
    (tmp_path / "notes").mkdir()
    message = error_of(tmp_path)
    assert message.startswith(f"{tmp_path}: not a data set: no song folders in train/, valid/ or test/")
    assert "(it holds notes, song.wav); expected train/<song>/mixture.wav" in message

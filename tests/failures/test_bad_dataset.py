"""Broken data sets: every problem is listed with its song, its stem and what to do."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile

from bandsplit.core.errors import DataError
from bandsplit.data.songs.layouts import index_dataset
from songs import noise_stems, write_dataset, write_song


def _message(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        index_dataset(root)
    return str(caught.value)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("this is a shopping list\n" * 50)


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _header_only(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:30])


def _no_samples(path: Path) -> None:
    soundfile.write(path, noise_stems(0, 1)["bass"].T[:0], 8000)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("damage", [_empty, _text, _cut, _header_only, _no_samples, Path.unlink])
@pytest.mark.parametrize("stem", ["bass", "mixture"])
def test_a_damaged_file_is_named_with_its_song_and_stem(
    tmp_path: Path, stem: str, damage: Callable[[Path], None], suffix: str
) -> None:
    write_song(tmp_path / "train" / "Good", noise_stems(0), suffix=suffix)
    song = write_song(tmp_path / "train" / "Broken Song", noise_stems(1), suffix=suffix)
    damage(song / f"{stem}{suffix}")
    message = _message(tmp_path)
    assert message.startswith(f"{tmp_path}: 1 problem\n  train/Broken Song, {stem}: ")
    if damage is Path.unlink:
        assert f"; add {stem}.wav or {stem}.flac" in message
    else:
        assert f"{song / stem}{suffix}: " in message


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_file_cut_near_its_end_is_found(tmp_path: Path, suffix: str) -> None:
    song = write_song(tmp_path / "train" / "Song", noise_stems(1, 50_000), suffix=suffix)
    data = (song / f"drums{suffix}").read_bytes()
    (song / f"drums{suffix}").write_bytes(data[:-1000])
    assert "train/Song, drums: " in _message(tmp_path)


def test_all_problems_of_all_songs_are_listed_at_once(tmp_path: Path) -> None:
    write_dataset(tmp_path, train=3)
    (tmp_path / "train" / "Song 0" / "bass.wav").unlink()
    _text(tmp_path / "train" / "Song 0" / "other.wav")
    soundfile.write(tmp_path / "train" / "Song 2" / "vocals.wav", noise_stems(0, 3999)["bass"].T, 8000)
    soundfile.write(tmp_path / "test" / "Song 3" / "drums.wav", noise_stems(0, 4000, channels=1)["bass"].T, 16000)
    message = _message(tmp_path)
    assert f"{tmp_path}: 5 problems\n" in message
    missing = "(the folder holds drums.wav, mixture.wav, other.wav, vocals.wav); add bass.wav or bass.flac"
    assert f"  train/Song 0, bass: missing {missing}\n" in message
    assert "  train/Song 0, other: " in message
    lengths = "vocals.wav has 3999 samples, mixture.wav has 4000; cut or pad it to 4000 samples, or choose --lengths"
    assert f"  train/Song 2, vocals: {lengths} pad or trim\n" in message
    assert "  test/Song 3, drums: drums.wav has 16000 Hz, mixture.wav has 8000; resample it to 8000 Hz\n" in message
    assert "  test/Song 3, drums: drums.wav has 1 channel(s), mixture.wav has 2; convert it to 2 channel(s)" in message


def test_a_stem_in_two_formats_is_a_problem(tmp_path: Path) -> None:
    song = write_song(tmp_path / "train" / "Song", noise_stems(0))
    shutil.copy(song / "bass.wav", song / "bass.flac")
    assert "train/Song, bass: bass.wav and bass.flac both exist; keep one of them" in _message(tmp_path)


def test_a_song_in_two_splits_is_a_problem(tmp_path: Path) -> None:
    write_song(tmp_path / "train" / "Song", noise_stems(0))
    write_song(tmp_path / "test" / "Song", noise_stems(0))
    assert "train/Song: the song is in test/ too; keep one of them" in _message(tmp_path)


def test_an_empty_split_folder_is_a_problem(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    (tmp_path / "valid").mkdir()
    assert "valid/: holds no song folders; add songs or remove the folder" in _message(tmp_path)


def test_a_folder_that_is_no_data_set_is_named_with_the_expected_layout(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    message = _message(tmp_path)
    assert message.startswith(f"{tmp_path}: not a data set: no song folders in train/, valid/ or test/")
    assert "(it holds holiday.jpg)" in message and "train/<song>/mixture.wav" in message


def test_a_root_that_is_absent_or_a_file_is_named(tmp_path: Path) -> None:
    assert _message(tmp_path / "nowhere").startswith(f"{tmp_path / 'nowhere'}: does not exist; give the folder")
    (tmp_path / "song.wav").touch()
    assert _message(tmp_path / "song.wav").startswith(f"{tmp_path / 'song.wav'}: is a file; give the folder")


def test_the_compressed_musdb_is_told_from_the_one_that_is_needed(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "A Song.stem.mp4").touch()
    assert "the compressed MUSDB18; use MUSDB18-HQ" in _message(tmp_path)


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path)

    allowed = Path.iterdir

    def refuse(folder: Path) -> Iterator[Path]:
        if folder.name == "train":
            raise PermissionError(13, "Permission denied", str(folder))
        return allowed(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert _message(tmp_path) == f"{tmp_path / 'train'}: cannot be read (Permission denied); check its permissions"

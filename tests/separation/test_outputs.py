"""Stems get their names together or not at all, whatever happens meanwhile, and temporary files never stay."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bandsplit.audio import files as audio
from bandsplit.audio import writing
from bandsplit.audio.writing import SoundFormat, Writer
from bandsplit.core.errors import AudioError
from bandsplit.core.interrupt import watching
from bandsplit.separation import outputs
from bandsplit.separation.outputs import OutputConfig, StemFiles

STEMS = ("bass", "drums", "vocals")


def open_stems(folder: Path, ext: Any = "wav") -> StemFiles:
    paths = {stem: folder / "song" / f"{stem}.{ext}" for stem in STEMS}
    return StemFiles(OutputConfig(ext=ext), paths, 8000, 2, 100, {})


def write_stems(folder: Path) -> None:
    with open_stems(folder) as files:
        files.write({stem: np.zeros((2, 100), np.float32) for stem in STEMS})
        files.finish()


def write_older_stems(folder: Path) -> dict[str, bytes]:
    (folder / "song").mkdir()
    for stem in STEMS[:2]:
        (folder / "song" / f"{stem}.wav").write_bytes(f"older {stem}".encode())
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def after_calls(monkeypatch: pytest.MonkeyPatch, count: int, act: Callable[[], None]) -> None:
    """Do something after so many files got their names."""
    replace, calls = os.replace, []

    def replacing(*names: Any) -> None:
        replace(*names)
        calls.append(names)
        if len(calls) == count:
            act()

    monkeypatch.setattr(os, "replace", replacing)


@pytest.mark.parametrize("older", [False, True], ids=["new", "over older stems"])
@pytest.mark.parametrize("count", range(1, 6))
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_two_names_waits_for_all(
    number: signal.Signals, count: int, older: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if older:
        write_older_stems(tmp_path)
    elif count > len(STEMS):
        pytest.skip("fewer names than that change")
    after_calls(monkeypatch, count, lambda: os.kill(os.getpid(), number))
    with watching(), pytest.raises(KeyboardInterrupt):
        write_stems(tmp_path)
    assert sorted(contents(tmp_path)) == [f"song/{stem}.wav" for stem in STEMS]
    assert {soundfile.info(str(tmp_path / "song" / f"{stem}.wav")).frames for stem in STEMS} == {100}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("count", range(1, 6))
def test_a_name_that_fails_gives_all_older_stems_back(
    error: BaseException, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = write_older_stems(tmp_path)

    def fail() -> None:
        monkeypatch.undo()
        raise error

    after_calls(monkeypatch, count, fail)
    with pytest.raises((AudioError, KeyboardInterrupt)):
        write_stems(tmp_path)
    assert contents(tmp_path) == before


def test_a_folder_in_the_place_of_the_last_stem_leaves_the_others_as_they_were(tmp_path: Path):
    before = write_older_stems(tmp_path)
    (tmp_path / "song" / "vocals.wav").mkdir()
    with pytest.raises(AudioError, match=r"vocals\.wav: cannot be written as WAV"):
        write_stems(tmp_path)
    assert contents(tmp_path) == before
    assert (tmp_path / "song" / "vocals.wav").is_dir()


def stop(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_while_a_file_is_opened_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writing, "ForwardSound", stop)
    with pytest.raises(KeyboardInterrupt):
        open_stems(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        Writer(tmp_path / "a.wav", SoundFormat("WAV", "FLOAT"), 8000, 2, 100)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_between_a_file_and_the_list_of_files_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Interrupted(Writer):
        def __enter__(self) -> Any:
            assert self.temporary.exists()
            raise KeyboardInterrupt

    def attempt() -> None:
        with pytest.raises(KeyboardInterrupt):
            open_stems(tmp_path)

    monkeypatch.setattr(outputs, "Writer", Interrupted)
    attempt()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ext", ["wav", "flac"])
def test_ctrl_c_between_opening_and_use_leaves_nothing(ext: str, tmp_path: Path):
    files = open_stems(tmp_path, ext)
    assert len(contents(tmp_path)) == (len(STEMS) if ext == "wav" else 2 * len(STEMS))
    del files  # as where the exception comes before `with`
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_a_folder_is_tried_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    touch = Path.touch

    def touching(path: Path) -> None:
        touch(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "touch", touching)
    with pytest.raises(KeyboardInterrupt):
        audio.make_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_next_separation_removes_what_a_killed_one_left(tmp_path: Path):
    before = write_older_stems(tmp_path)
    writing.temporary_name(tmp_path / "song").write_bytes(b"of a process that is gone")
    write_stems(tmp_path)
    assert sorted(contents(tmp_path)) == [*before, "song/vocals.wav"]

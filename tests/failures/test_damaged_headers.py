"""A short run of the fuzz campaign: each damaged song gives all its stems, or a message that names it, and no file."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bandsplit.core.errors import AudioError
from places import ROOT

SCRIPT = ROOT / "benchmarks" / "fuzz.py"
FILES = 10
"""Of each format; `benchmarks/fuzz.py` damages thousands."""


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fuzz = load()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))


@pytest.mark.parametrize("name", [*fuzz.SOUNDFILE, *fuzz.PYAV])
def test_a_damaged_song_is_separated_whole_or_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    if name in fuzz.PYAV:
        pytest.importorskip("av")
    monkeypatch.setattr(shutil, "which", lambda _name: None)  # ffmpeg takes longer to start than all else together
    separator = fuzz.Separator(fuzz.make_model(), device="cpu")
    songs, others = fuzz.make_songs(name, tmp_path), fuzz.make_songs("caf", tmp_path)
    song, out, verdicts = tmp_path / f"song.{fuzz.suffix_of(name)}", tmp_path / "out", []
    for whole in songs:
        song.write_bytes(whole)
        assert fuzz.attempt(separator, song, out) == "separated"
        shutil.rmtree(out)
    song.write_bytes(songs[0][:16])
    assert fuzz.attempt(separator, song, out) == "refused"
    for number in range(FILES):
        song.write_bytes(fuzz.damage(songs, others, np.random.default_rng(number)))
        verdicts.append(fuzz.attempt(separator, song, out))
        shutil.rmtree(out, ignore_errors=True)
    assert set(verdicts) <= {"separated", "refused"}, verdicts


@pytest.mark.parametrize("name", fuzz.MODELS)
def test_a_damaged_model_is_read_or_refused(tmp_path: Path, name: str):
    (whole,) = fuzz.make_songs(name, tmp_path)
    path, verdicts = tmp_path / f"m.{fuzz.suffix_of(name)}", []
    for number in range(FILES):
        data = fuzz.damage([whole], [whole[:3000]], np.random.default_rng(number))
        path.write_bytes(fuzz.in_checkpoint(data) if name == "pickle" else data)
        verdicts.append(fuzz.attempt(None, path, tmp_path / "out"))
    assert set(verdicts) <= {"separated", "refused"} and "refused" in verdicts, verdicts


class Broken:
    """A separator that does what it must not."""

    def __init__(self, error: Exception, leaves: str) -> None:
        self.error, self.leaves = error, leaves

    def separate_file(self, _song: Path, out: Path) -> Any:
        if self.leaves:
            out.mkdir()
            (out / self.leaves).touch()
        raise self.error


@pytest.mark.parametrize(
    ("error", "leaves", "verdict"),
    [
        (ZeroDivisionError("division by zero"), "", "ZeroDivisionError: division by zero"),
        (AudioError("the file is broken"), "", "a message without the file's name: the file is broken"),
        (AudioError("{song}: is broken"), "", "refused"),
        (AudioError("{song}: is broken"), ".bandsplit-1.part", "left or missing: ['.bandsplit-1.part']"),
    ],
)
def test_the_campaign_notices_what_is_wrong(tmp_path: Path, error: Exception, leaves: str, verdict: str):
    song = tmp_path / "song.wav"
    broken = Broken(type(error)(str(error).format(song=song)), leaves)
    assert fuzz.attempt(broken, song, tmp_path / "out") == verdict


@pytest.mark.skipif(sys.platform != "linux", reason="the campaign reads the memory in use as Linux tells it")
def test_the_campaign_runs_and_notices_crashes_and_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    counts, slowest_s, peak_mb = fuzz.campaign("wav16", 10, 0, tmp_path / "kept")
    assert sum(counts.values()) == 10 and counts["wrong"] == 0 and slowest_s > 0 and peak_mb > 50
    assert not (tmp_path / "kept").exists()
    crash = "import os; print('ready', flush=True); print('[\"refused\", 1, 2]', flush=True); os.abort()"
    monkeypatch.setattr(fuzz, "__file__", str(tmp_path / "crash.py"))
    (tmp_path / "crash.py").write_text(crash)
    (first, *_), (second, *_) = fuzz.watch([])
    assert first == "refused" and second.startswith("crash, exit code -6")
    monkeypatch.setattr(fuzz, "HANG_S", 1)
    (tmp_path / "crash.py").write_text("import time; print('ready', flush=True); time.sleep(1000)")
    assert [verdict for verdict, *_ in fuzz.watch([])] == ["hang"]

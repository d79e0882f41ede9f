"""The demo, with two-second songs and a handful of training steps."""

import io
import json
from pathlib import Path

import pytest
import soundfile
from matplotlib.image import imread
from rich.console import Console

from bandsplit.evaluation.yardsticks import STATIC_GAIN
from bandsplit.tools import demo as demo_module
from bandsplit.tools.demo import NETWORK, run_demo

SHORT = {"training.examples_per_epoch": 8, "training.max_epochs": 2, "training.validate_every": 1}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, bool]:
    folder, output = tmp_path_factory.mktemp("demo"), io.StringIO()
    passed = run_demo(folder, Console(file=output, width=200), songs=(2, 1, 1), duration_s=2.0, changes=SHORT)
    return folder, output.getvalue(), passed


@pytest.mark.slow
def test_it_scores_the_network_beside_the_yardsticks(demo: tuple[Path, str, bool]):
    folder, output, _ = demo
    rows = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    assert {row["system"] for row in rows} == {"silence", "mixture", STATIC_GAIN, NETWORK, "ideal ratio mask (ceiling)"}
    assert all(row["value"] == 0 for row in rows if row["system"] == "silence" and row["metric"] == "usdr_db")
    assert "uSDR, dB, mean over 1 song (data, test)" in output
    assert (folder / "scores.md").read_text().count("| network |") == 2


def test_it_separates_and_draws_an_unseen_song(demo: tuple[Path, str, bool]):
    folder, _, _ = demo
    assert sorted(path.stem for path in (folder / "separated").rglob("*.wav")) == ["bass", "drums", "other", "vocals"]
    assert all(soundfile.info(path).frames == 44100 for path in (folder / "separated").rglob("*.wav"))
    picture = imread(folder / "spectrograms.png")
    assert picture.shape[0] > 800
    assert picture.std() > 0.1


def test_it_says_where_everything_is_and_what_is_next(demo: tuple[Path, str, bool]):
    folder, output, _ = demo
    for text in (str(folder / "spectrograms.png"), "best.safetensors", "separate SONG.mp3", "models list", "is a toy"):
        assert text in output


def test_a_network_that_learnt_nothing_fails_the_demo(demo: tuple[Path, str, bool]):
    _, output, passed = demo
    assert not passed
    assert "too little, the demo failed" in output


def test_a_second_run_uses_what_is_there(demo: tuple[Path, str, bool]):
    folder, _, _ = demo
    model = next(folder.rglob("best.safetensors"))
    before = model.stat().st_mtime_ns
    run_demo(folder, Console(file=io.StringIO()), songs=(2, 1, 1), duration_s=2.0, changes=SHORT)
    assert model.stat().st_mtime_ns == before


def test_the_next_commands_name_the_program_as_this_user_starts_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("sys.argv", [".venv/bin/bandsplit", "demo"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert demo_module._program() == ".venv/bin/bandsplit"
    (tmp_path / "bandsplit").touch(mode=0o755)
    assert demo_module._program() == "bandsplit"

"""The whole path on real music, where it is at hand: train, evaluate, separate, with finite numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from command_line import run_command


def write_cuts(source: Path, root: Path, seconds: int = 8) -> Path:
    """Write the middle of each song."""
    for file in source.glob("*/*/*.flac"):
        rate_hz, frames = soundfile.info(file).samplerate, soundfile.info(file).frames
        signal, _ = soundfile.read(file, seconds * rate_hz, start=max(0, (frames - seconds * rate_hz) // 2))
        cut = root / file.relative_to(source)
        cut.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(cut, signal, rate_hz)
    return root


@pytest.mark.slow
def test_train_evaluate_and_separate_real_songs(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def run(*arguments: str | Path) -> None:
        assert run_command(capsys, *arguments).code == 0

    monkeypatch.chdir(tmp_path)
    data = write_cuts(shared / "data" / "everything_is_free", tmp_path / "everything_is_free")
    changes = [f"training.{change}" for change in ("examples_per_epoch=8", "max_epochs=3", "validate_every=1")]
    run("train", "demo", "--data", data, "--device", "cpu", *(word for change in changes for word in ("--set", change)))
    (folder,) = (tmp_path / "runs").glob("demo/*/*")
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    log = [row for row in rows if row["kind"] == "validation"]
    assert np.isfinite([row["validation_usdr_db"] for row in log]).all()
    assert log[-1]["loss"] < log[0]["loss"]
    run("evaluate", folder / "best.safetensors", "--data", data, "-o", "rows.jsonl", "--yardsticks")
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert np.isfinite([row["value"] for row in rows if row["metric"] == "usdr_db"]).all()
    mixture = data / "test" / "EiF - Francium" / "mixture.flac"
    run("separate", mixture, "-n", folder / "best.safetensors")
    for target in ("vocals", "bass", "drums", "other"):
        signal, rate_hz = soundfile.read(f"separated/mixture/{target}.wav")
        assert (len(signal), rate_hz) == (soundfile.info(mixture).frames, 44100)
        assert np.isfinite(signal).all()

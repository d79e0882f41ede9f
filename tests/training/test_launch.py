"""Jobs: real processes that train, are stopped as by a wall time, and go on; and what Slurm would be told."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import submitit
from safetensors.torch import load_file

from bandsplit.errors import ConfigError, RunError
from bandsplit.training.launch import TrainingJob, command_line, submit, with_resume
from songs import write_dataset

SMALL = [
    "model.sample_rate_hz=8000", "model.bands=[[500, 4]]", "model.stft.n_fft=128", "model.stft.hop_samples=32",
    "model.n_features=4", "model.n_blocks=1", "training.examples_per_epoch=40", "training.excerpt_s=0.2",
    "training.mixing.activity=null", "training.patience=1000",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch):
    # Jobs are processes of their own: they import what this one does, with one thread each.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "songs", train=3, test=1, samples=6000)


def arguments(songs: Path, runs: Path, target: str, epochs: int) -> list[str]:
    changes = [part for change in [*SMALL, f"training.max_epochs={epochs}"] for part in ("--set", change)]
    return ["train", "base", "-t", target, "--data", str(songs), "--runs", str(runs), "--device", "cpu", *changes]


def best(runs: Path, target: str) -> dict:
    (file,) = (runs / "base" / target).glob("*/best.safetensors")
    return load_file(file)


def epochs_done(runs: Path, target: str) -> int:
    files = list((runs / "base" / target).glob("*/log.jsonl"))
    return len(files[0].read_text().splitlines()) if files else 0


def wait_for_epochs(job: submitit.Job, runs: Path, target: str, epochs: int) -> None:
    while epochs_done(runs, target) < epochs:
        assert not job.done(), job.stderr()
        time.sleep(0.02)


def interrupt_as_slurm_would(job: submitit.LocalJob) -> None:
    """Send the time-out signal to every process of the job below submitit's local controller."""
    processes = [job._process.pid]  # type: ignore[union-attr]
    for process in processes:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        processes += map(int, children)
    for process in processes[1:]:
        os.kill(process, signal.SIGUSR2)
    assert len(processes) >= 3  # controller, job, training


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of a job in /proc")
def test_a_job_stopped_by_its_wall_time_is_requeued_and_ends_with_the_same_weights(songs: Path, tmp_path: Path):
    whole = arguments(songs, tmp_path / "whole", "vocals", epochs=40)
    subprocess.run(command_line(whole, gpus=0, patience_s=1), check=True, capture_output=True)
    runs = tmp_path / "runs"
    commands = [arguments(songs, runs, "vocals", epochs=40), arguments(songs, runs, "drums", epochs=3)]
    vocals, drums = submit(commands, tmp_path / "jobs", executor="local", hours=1, gpus=0)
    wait_for_epochs(vocals, runs, "vocals", 5)
    interrupt_as_slurm_would(vocals)  # type: ignore[arg-type]
    assert vocals.result() is None and drums.result() is None
    output, log = vocals.stdout() or "", vocals.stderr() or ""
    assert "stopped by SIGTERM, state saved" in " ".join((output + log).split())
    assert f"Requeued job {vocals.job_id}" in output + log
    first, second = best(tmp_path / "whole", "vocals"), best(runs, "vocals")
    assert first.keys() == second.keys() and all((first[name] == second[name]).all() for name in first)
    assert epochs_done(runs, "drums") >= 3
    # The other run was not touched.
    assert "SIGTERM" not in (drums.stdout() or "") + (drums.stderr() or "")

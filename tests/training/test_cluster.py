"""Jobs: real processes that train, are stopped as by a wall time, and go on; and what Slurm would be told."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import submitit
from safetensors.torch import load_file
from submitit.core.utils import FailedJobError
from typer.testing import CliRunner

from bandsplit.cli.main import app
from bandsplit.core.errors import ConfigError, RunError
from bandsplit.training.cluster import TrainingJob, command_line, submit, with_resume
from songs import write_dataset
from tiny_models import TINY_CHANGES
from waiting import wait_until

SMALL = [
    *TINY_CHANGES, "training.examples_per_epoch=20", "training.excerpt_s=0.2", "training.mixing.activity=null",
    "training.patience=1000",
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
    def done() -> bool:
        assert epochs_done(runs, target) >= epochs or not job.done(), job.stderr()
        return epochs_done(runs, target) >= epochs

    wait_until(done, f"epoch {epochs} of {target}")


def interrupt_as_slurm_would(job: submitit.LocalJob) -> None:
    """Send the time-out signal to every process of the job below submitit's local controller."""
    processes = [job._process.pid]  # type: ignore[union-attr]
    for process in processes:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        processes += map(int, children)
    for process in processes[1:]:
        os.kill(process, signal.SIGUSR2)
    assert len(processes) >= 3  # controller, job, training


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of a job in /proc")
def test_a_job_stopped_by_its_wall_time_is_requeued_and_ends_with_the_same_weights(songs: Path, tmp_path: Path):
    whole = arguments(songs, tmp_path / "whole", "vocals", epochs=15)
    assert CliRunner().invoke(app, whole).exit_code == 0
    runs = tmp_path / "runs"
    commands = [arguments(songs, runs, "vocals", epochs=15), arguments(songs, runs, "drums", epochs=1)]
    vocals, drums = submit(commands, tmp_path / "jobs", executor="local", hours=1, gpus=0)
    wait_for_epochs(vocals, runs, "vocals", 2)
    interrupt_as_slurm_would(vocals)  # type: ignore[arg-type]
    assert vocals.result() is None and drums.result() is None
    output, log = vocals.stdout() or "", vocals.stderr() or ""
    assert "stopped by SIGTERM, state saved" in " ".join((output + log).split())
    assert f"Requeued job {vocals.job_id}" in output + log
    first, second = best(tmp_path / "whole", "vocals"), best(runs, "vocals")
    assert first.keys() == second.keys() and all((first[name] == second[name]).all() for name in first)
    assert epochs_done(runs, "drums") >= 2
    # The other run was not touched.
    assert "SIGTERM" not in (drums.stdout() or "") + (drums.stderr() or "")


@pytest.mark.slow
def test_a_failed_training_fails_its_job_and_its_message_is_in_the_jobs_output(songs: Path, tmp_path: Path):
    (job,) = submit([["train", "bsae", "--data", str(songs)]], tmp_path / "jobs", executor="local", hours=1, gpus=0)
    with pytest.raises(FailedJobError, match="ended with exit code 2; the job's output says why"):
        job.result()
    assert "did you mean 'base'?" in (job.stderr() or "")


def test_a_training_that_does_not_end_in_time_is_killed_and_goes_on_from_its_last_state():
    job = TrainingJob(["train", "base", "--seed", "1"], gpus=0, patience_s=0.2)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as job.process:
        assert job.process.stdout and job.process.stdout.readline()
        next_time = job.checkpoint().function
    assert job.process.returncode == -signal.SIGKILL
    assert isinstance(next_time, TrainingJob)
    assert next_time.arguments == ["train", "base", "--seed", "1", "--resume"]
    assert with_resume(next_time.arguments) == next_time.arguments
    assert next_time.process is None  # it is written to a file


def test_several_gpus_are_run_by_torchrun_which_leaves_time_to_save():
    command = command_line(["train", "base"], gpus=4, patience_s=480)
    assert command[1:] == [
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4", "--shutdown-timeout", "432",
        "-m", "bandsplit", "train", "base",
    ]  # fmt: skip


@pytest.mark.slow
def test_torchrun_understands_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    command = command_line(["runs", str(tmp_path)], gpus=2, patience_s=10)
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.count("no runs below")) == (0, 2), done.stderr


def test_slurm_is_told_time_signal_gpus_and_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    # The commands of a cluster: this `sbatch` keeps the batch file, and accepts it.
    programs = tmp_path / "bin"
    programs.mkdir()
    kept = tmp_path / "batch"
    for name, line in {"srun": "true", "sbatch": f"cp $1 {kept}; echo Submitted batch job 12"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    commands = [["train", "base", "-t", target] for target in ("vocals", "bass")]
    options = {"partition": "gpu", "account": "music"}
    jobs = submit(
        commands, tmp_path / "jobs", executor="slurm", hours=24, gpus=4, cpus=32, options=options, name="paper"
    )
    assert [job.job_id for job in jobs] == ["12_0", "12_1"]
    lines = {line.removeprefix("#SBATCH --") for line in kept.read_text().splitlines() if line.startswith("#SBATCH")}
    assert {
        "job-name=paper", "time=1440", "signal=USR2@600", "nodes=1", "ntasks-per-node=1", "gpus-per-node=4",
        "cpus-per-task=32", "partition=gpu", "account=music", "requeue", "array=0-1%2",
    } <= lines  # fmt: skip


def test_without_slurm_the_message_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match=r"srun.*submit where sbatch is, or use --launcher local"):
        submit([["train"]], tmp_path / "jobs", executor="slurm", hours=1, gpus=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hours": 0}, "--hours: 0 is less than a minute"),
        ({"gpus": -1}, "--gpus -1, --cpus 4: must be at least 0 GPUs"),
        ({"options": {"partition": "gpu"}}, "partition: has no meaning with --launcher local"),
        ({"gpus": 1000}, r"--gpus 1000 for 1 run\(s\) at once: this machine has"),
    ],
)
def test_options_that_make_no_sense_are_refused(settings: dict, message: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=message):
        submit([["train"]], tmp_path / "jobs", **{"executor": "local", "hours": 1, "gpus": 0, **settings})
    assert not (tmp_path / "jobs").exists()

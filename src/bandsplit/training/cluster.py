"""Runs as jobs of a cluster, or of this machine: submitted, stopped before the wall time, put back into the queue.

`submitit` writes the batch files and asks Slurm for a signal some time before the wall time. On that signal the
training gets SIGTERM, saves its state and ends; the job goes back into the queue with the same command and
``--resume``, which continues exactly where it stopped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bandsplit.core.errors import ConfigError, RunError

if TYPE_CHECKING:
    from submitit import Job
    from submitit.helpers import DelayedSubmission

SIGNAL_BEFORE_S = 600
"""Seconds between the signal and the wall time; a tenth of the wall time where that is less."""

_RESUME = "--resume"
_MAX_TIMEOUTS = 1000  # in effect no limit: a run ends by itself


class TrainingJob:
    """The work of a job: it runs a training command as a process of its own, and stops it when the time is over."""

    def __init__(self, arguments: Sequence[str], gpus: int, patience_s: float) -> None:
        """Keep the command.

        Args:
            arguments: what follows ``bandsplit`` on the command line.
            gpus: one process is started for each.
            patience_s: seconds that a stopped training may take to save its state; after them it is killed, and the job
                continues from the last saved state.
        """
        self.arguments, self.gpus, self.patience_s = list(arguments), gpus, patience_s
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Train to the end.

        Raises:
            RunError: the training failed; its output says why.
        """
        # After the death of a node, Slurm starts the job again with the same command: without --resume.
        arguments = with_resume(self.arguments) if os.environ.get("SLURM_RESTART_COUNT", "0") != "0" else self.arguments
        command = command_line(arguments, self.gpus, self.patience_s)
        # Slurm signals every process of a job, and SIGUSR2 kills those that do not handle it. The mask is inherited.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        try:
            self.process = subprocess.Popen(command)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        # Popen.wait must not run here or in `checkpoint`: the signal handler interrupts it while it holds its lock.
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        code = self.process.wait()
        if code:
            raise RunError(f"{' '.join(command)}: ended with exit code {code}; the job's output says why")

    def checkpoint(self) -> DelayedSubmission:
        """Stop the training and return what the job does next time; called by submitit on the time-out signal."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None:
            _stop(self.process.pid, self.patience_s)
        return DelayedSubmission(TrainingJob(with_resume(self.arguments), self.gpus, self.patience_s))


def submit(
    runs: Sequence[Sequence[str]],
    folder: Path,
    *,
    executor: Literal["slurm", "local"],
    hours: float,
    gpus: int = 1,
    cpus: int = 4,
    options: Mapping[str, str] | None = None,
    name: str = "bandsplit",
) -> list[Job[None]]:
    """Submit one job for each run; several on Slurm are one job array.

    Args:
        runs: for each the command line, without ``bandsplit``: ``["train", "base", "--target", "vocals", ...]``.
        folder: for the jobs' output (``<job>_0_log.out``, ``.err``) and submitit's files; every node must see it.
        executor: ``slurm``, or ``local``: processes of this machine that outlive this one and start at once.
        hours: wall time of one attempt, in hours; a run may take many.
        gpus: GPUs per run, all in one node; 0 trains on the CPU.
        cpus: CPU cores per run; ``--workers`` and one more for each GPU.
        options: further options of ``sbatch``: ``{"partition": "gpu", "account": "x", "mem": "32G"}``.
        name: the jobs' name in the queue.

    Returns:
        The jobs, in the order of ``runs``: ``job.job_id``, ``job.state``, ``job.paths.stdout``, ``job.result()``.

    Raises:
        ConfigError: an option is illegal, or submitit is not installed.
        RunError: Slurm is not available, or refuses the jobs.
    """
    _check(runs, executor, hours, gpus, cpus, options)
    try:
        import submitit
        from submitit.core.utils import FailedJobError
    except ImportError:
        raise ConfigError("--launcher: needs submitit; install it with: pip install 'bandsplit[slurm]'") from None
    signal_s = int(min(SIGNAL_BEFORE_S, hours * 3600 / 10))
    jobs = [TrainingJob(arguments, gpus, patience_s=max(1.0, signal_s * 0.8)) for arguments in runs]
    folder.mkdir(parents=True, exist_ok=True)
    if executor == "local":
        local = submitit.LocalExecutor(folder, max_num_timeout=_MAX_TIMEOUTS)
        local.update_parameters(timeout_min=hours * 60, signal_delay_s=signal_s, gpus_per_node=gpus)
        return [_submit_local(local, job, number * gpus, gpus) for number, job in enumerate(jobs)]
    try:
        slurm = submitit.SlurmExecutor(folder, max_num_timeout=_MAX_TIMEOUTS)
        slurm.update_parameters(
            **_slurm_parameters(hours=hours, gpus=gpus, cpus=cpus, options=options or {}, name=name, signal_s=signal_s)
        )
        with slurm.batch():
            submitted = [slurm.submit(job) for job in jobs]
    except (RuntimeError, FailedJobError) as error:
        raise RunError(f"--launcher slurm: {error}; submit where sbatch is, or use --launcher local") from None
    return list(submitted)


def train_arguments(recipe: str, targets: Sequence[str], options: Sequence[str]) -> tuple[str, ...]:
    """Return the command line that trains a recipe for these targets, without ``bandsplit``."""
    return ("train", recipe, *(word for target in targets for word in ("--target", target)), *options)


def command_line(arguments: Sequence[str], gpus: int, patience_s: float) -> list[str]:
    """Return the command that runs ``bandsplit`` with these arguments, in one process for each GPU."""
    bandsplit = ["-m", "bandsplit", *arguments]
    if gpus <= 1:
        return [sys.executable, *bandsplit]
    processes = [
        "--standalone",
        "--nproc-per-node",
        str(gpus),
        "--shutdown-timeout",
        str(max(1, int(patience_s * 0.9))),
    ]
    return [sys.executable, "-m", "torch.distributed.run", *processes, *bandsplit]


def with_resume(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with ``--resume``, which also starts a run that does not exist."""
    return [*arguments] if _RESUME in arguments else [*arguments, _RESUME]


def _stop(process: int, patience_s: float) -> None:
    """Ask a child process to end, and kill it if it does not end in time; the caller reaps it."""
    with suppress(ChildProcessError, ProcessLookupError):  # it has ended by itself, and was reaped
        os.kill(process, signal.SIGTERM)
        until = time.monotonic() + patience_s
        while os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            if time.monotonic() > until:
                os.kill(process, signal.SIGKILL)
                os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
                return
            time.sleep(0.05)


def _submit_local(executor: Any, job: TrainingJob, first_gpu: int, gpus: int) -> Job[None]:
    """Submit a job that sees only GPUs of its own."""
    executor.update_parameters(visible_gpus=tuple(range(first_gpu, first_gpu + gpus)))
    return executor.submit(job)


def _slurm_parameters(
    *, hours: float, gpus: int, cpus: int, options: Mapping[str, str], name: str, signal_s: int
) -> dict[str, Any]:
    """Return arguments of submitit's Slurm executor, for one task, which starts the processes of all GPUs itself."""
    return {
        "job_name": name,
        "time": max(1, round(hours * 60)),
        "signal_delay_s": signal_s,
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": cpus,
        **({"gpus_per_node": gpus} if gpus else {}),
        "additional_parameters": {"requeue": True, **options},
    }


def _check(
    runs: Sequence[Sequence[str]],
    executor: str,
    hours: float,
    gpus: int,
    cpus: int,
    options: Mapping[str, str] | None,
) -> None:
    if hours < 1 / 60:
        raise ConfigError(f"--hours: {hours:g} is less than a minute; give the wall time of one attempt in hours")
    if gpus < 0 or cpus < 1:
        raise ConfigError(f"--gpus {gpus}, --cpus {cpus}: must be at least 0 GPUs and 1 core per run")
    if executor == "local":
        if options:
            raise ConfigError(f"{', '.join(options)}: has no meaning with --launcher local; leave it out")
        if gpus:
            import torch

            there = torch.cuda.device_count()
            if gpus * len(runs) > there:
                raise ConfigError(
                    f"--gpus {gpus} for {len(runs)} run(s) at once: this machine has {there}; submit fewer runs, or "
                    f"train on the CPU with --gpus 0"
                )

"""Processes that a study starts: several at once, each with its own output file, all stopped by one signal."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bandsplit.core.interrupt import collected
from bandsplit.core.machine import cores


@dataclass(frozen=True)
class Job:
    """One command of this package."""

    name: str
    arguments: tuple[str, ...]
    """What follows ``bandsplit`` on the command line."""
    log: Path
    """Its output is appended here."""


class Ended(NamedTuple):
    """A job that ended."""

    job: Job
    code: int
    """Exit code; negative: the signal that killed it."""
    seconds: float


class Processes:
    """Starts jobs and reports those that ended. Signals to this process stop them, see `watching`."""

    def __init__(self, command: Sequence[str], at_once: int) -> None:
        """Start nothing yet.

        Args:
            command: what runs ``bandsplit``.
            at_once: largest number of processes; each gets its share of the cores as threads.
        """
        self.command, self.at_once = tuple(command), at_once
        threads = {"OMP_NUM_THREADS": str(max(1, cores() // at_once))}
        self.environment = threads | os.environ  # a value set by the user has priority
        self.stopping = False
        self._running: list[tuple[Job, subprocess.Popen[bytes], float]] = []
        self._received: Sequence[int] = ()
        self._handled = 0
        self._gives_up = False

    @property
    def running(self) -> int:
        """Number of running processes."""
        return len(self._running)

    @property
    def free(self) -> bool:
        """Whether another may be started now."""
        return self.running < self.at_once and not self.stopping and not self._received

    def _start(self, job: Job, keep: Sequence[int]) -> None:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        command = [*self.command, *job.arguments]
        with job.log.open("ab") as log:
            log.write(f"$ {' '.join(command)}\n".encode())
            log.flush()
            # In its own session: Ctrl-C on the terminal reaches it once, from here, as the signal that saves its state.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=self.environment,
                start_new_session=True, pass_fds=keep,
            )  # fmt: skip
        self._running.append((job, process, time.monotonic()))

    def start_alone(self, job: Job, lock: Path) -> bool:
        """Start a process that holds a lock as long as it lives; return False if another process holds it.

        The process inherits the lock: others see it from the first moment, even after this process is killed.
        """
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._start(job, keep=(handle,))
        except BlockingIOError:
            return False
        finally:
            os.close(handle)
        return True

    def ended(self, wait_s: float = 0.1) -> list[Ended]:
        """Pass signals on, wait a little, and return the jobs that ended."""
        self._pass_on()
        time.sleep(wait_s)
        over = [(job, process, began) for job, process, began in self._running if process.poll() is not None]
        self._running = [one for one in self._running if one not in over]
        return [Ended(job, process.returncode, time.monotonic() - began) for job, process, began in over]

    def _pass_on(self) -> None:
        """Ask all to end after the first signal; make them end after a second Ctrl-C."""
        hard = self._received[1:].count(signal.SIGINT) > 0
        if len(self._received) + self._gives_up == self._handled:
            return
        self._handled, self.stopping = len(self._received) + self._gives_up, True
        for _, process, _ in self._running:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL if hard else signal.SIGTERM)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Collect SIGINT, SIGTERM and SIGHUP, which `ended` passes on; an error stops all processes."""
        with collected(every=True) as self._received:
            try:
                yield
            except BaseException:
                self._gives_up = True
                while self.running:
                    self.ended()
                raise


def last_lines(log: Path, count: int = 5) -> list[str]:
    """Return the last lines of a job's output that are not empty."""
    try:
        text = log.read_bytes()[-20_000:].decode(errors="replace")
    except OSError as error:
        return [f"{log}: cannot be read ({error.strerror})"]
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]

"""The loop that works off a batch, and workers of this process for it: the main thread, or several threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol

from bandsplit.core.interrupt import stopping
from bandsplit.separation.batch import Outcome, time_error
from bandsplit.separation.schedule import End, Schedule
from bandsplit.separation.songs import Song

Attempt = Callable[[Song], Outcome]
Ended = tuple[int, Outcome]
"""The number of a worker, and the result of its song."""


class Workers(Protocol):
    """Workers by number, each with one song at a time."""

    def free(self) -> Sequence[int]:
        """Return the workers that can start a song now."""
        ...

    def start(self, worker: int, song: Song) -> None:
        """Give a free worker a song."""
        ...

    def wait(self) -> Sequence[Ended]:
        """Return the songs that ended, after a short time even if none did."""
        ...

    def stop(self, worker: int) -> None:
        """Make a worker drop its song, whose end `wait` no longer returns."""
        ...


def work_off(
    schedule: Schedule, songs: Sequence[Song], workers: Workers, report: Callable[[Song, Outcome, End], None]
) -> None:
    """Separate songs until all are done or have failed, or a signal arrives.

    Args:
        schedule: the order of the songs, by their number.
        songs: the songs.
        workers: those who separate.
        report: called at the end of each attempt.
    """
    running: dict[int, Song] = {}

    def end(worker: int, outcome: Outcome) -> None:
        song = running.pop(worker)
        done, lost = outcome.status in ("done", "skipped"), outcome.reason == "worker"
        report(song, outcome, schedule.end(worker, time.monotonic(), done=done, lost=lost))

    while not (schedule.finished or stopping()):
        for worker in workers.free():
            number = schedule.take(worker, time.monotonic())
            if number is None:
                break
            running[worker] = songs[number]
            workers.start(worker, songs[number])
        for worker, outcome in workers.wait():
            if outcome.status == "cancelled":
                return
            end(worker, outcome)
        for worker in schedule.overdue(time.monotonic()):
            workers.stop(worker)
            end(worker, Outcome("failed", {}, error=time_error(running[worker]), reason="time"))


class MainThread:
    """The calling thread, for one song after the other."""

    def __init__(self, attempt: Attempt) -> None:
        """Take the work."""
        self._attempt = attempt
        self._song: Song | None = None

    def free(self) -> Sequence[int]:
        """Return the only worker, unless it has a song."""
        return [0] if self._song is None else []

    def start(self, worker: int, song: Song) -> None:
        """Store the song: it is separated while the loop waits."""
        self._song = song

    def wait(self) -> Sequence[Ended]:
        """Separate the song."""
        if self._song is None:
            return []
        song, self._song = self._song, None
        return [(0, self._attempt(song))]

    def stop(self, worker: int) -> None:
        """Do nothing: no song runs outside `wait`."""


class Threads:
    """Threads of this process, which share the models."""

    def __init__(self, attempt: Attempt, count: int, initialise: Callable[[], None]) -> None:
        """Start the pool; ``initialise`` runs first in each thread."""
        self._attempt, self._count = attempt, count
        self._pool = ThreadPoolExecutor(count, initializer=initialise)
        self._running: dict[Future[Outcome], int] = {}

    def free(self) -> Sequence[int]:
        """Return the threads without a song."""
        busy = set(self._running.values())
        return [worker for worker in range(self._count) if worker not in busy]

    def start(self, worker: int, song: Song) -> None:
        """Submit the song."""
        self._running[self._pool.submit(self._attempt, song)] = worker

    def wait(self) -> Sequence[Ended]:
        """Wait until a song ends: attempts in threads watch their time limit themselves."""
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        return [(self._running.pop(future), future.result()) for future in done]

    def stop(self, worker: int) -> None:
        """Do nothing: a thread cannot be stopped from outside; the attempt itself watches the limit."""

    def close(self) -> None:
        """Wait for the threads, which poll for signals."""
        self._pool.shutdown(cancel_futures=True)

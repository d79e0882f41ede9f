"""Dispatcher: gives the jobs of the queue to one worker process, and starts another one when it dies."""

from __future__ import annotations

import logging
import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bandsplit.core.processes import start_worker
from bandsplit.serve.engine import Cancel, Ended, Measurement, Report, Separation, Task, work
from bandsplit.serve.job import Job, JobView, Progress, Result
from bandsplit.serve.jobs import Jobs, UnknownJobError
from bandsplit.serve.offers import Offers
from bandsplit.serve.timing import MINUTE_S, Timing

MOST_DEATHS = 3
CANCEL_S = 10.0
"""Time that the worker has to drop a cancelled task before it is killed."""
_PATIENCE_S = 0.2

_log = logging.getLogger("bandsplit")


class WorkerDied(Exception):  # noqa: N818  an event
    """The worker process ended in the middle of a task."""


class Worker:
    """A process and the connection to it."""

    def __init__(self, device: str) -> None:
        """Start it."""
        ours, its = multiprocessing.Pipe()
        self.connection: Connection = ours
        self.process: BaseProcess = start_worker(work, its, device)
        its.close()  # so that the death of the process closes the connection

    def ask(self, task: Task, follow: Callable[[Report], None], wanted: Callable[[], bool]) -> Ended:
        """Do a task.

        Args:
            task: the task.
            follow: called with its progress.
            wanted: called often; once it returns False the task is cancelled.

        Raises:
            WorkerDied: the process ended, or did not drop the cancelled task in time.
        """
        cancelled_s: float | None = None
        try:
            self.connection.send(task)
            while True:
                if not wanted():
                    now_s = time.monotonic()
                    if cancelled_s is None:
                        self.connection.send(Cancel())
                        cancelled_s = now_s
                    elif now_s - cancelled_s > CANCEL_S:  # a decoder or the loading of a model may hang
                        _log.warning("the process that separates did not stop in %g s, and is killed", CANCEL_S)
                        raise WorkerDied
                if self.connection.poll(_PATIENCE_S):
                    match self.connection.recv():
                        case Ended() as ended:
                            return ended
                        case Report() as report:
                            follow(report)
        except (EOFError, OSError):
            raise WorkerDied from None

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class Dispatcher(threading.Thread):
    """Thread that works off the queue, and measures prices when it is empty."""

    def __init__(self, jobs: Jobs, offers: Offers, device: str, keep_free_bytes: int) -> None:
        """Take the queue, the models, and the space that stays free on the disk; `start` begins the work."""
        super().__init__(name="dispatcher", daemon=True)
        self.jobs, self.offers = jobs, offers
        self._device, self._keep_free_bytes = device, keep_free_bytes
        self._worker: Worker | None = None
        self._closing = threading.Event()
        self._progress: tuple[str, Progress] | None = None
        """Id of the latest job that ran, and its progress."""
        self._latest: tuple[object, Sequence[JobView]] | None = None

    def run(self) -> None:
        """Work until `close`."""
        while not self._closing.is_set():
            offer = self.offers.unmeasured()
            job = self.jobs.next(0 if offer else _PATIENCE_S)
            try:
                if job is not None:
                    self._separate(job)
                elif offer is not None:
                    self._measure(offer.id)
            except Exception:  # the queue must not stand still
                _log.exception("the dispatcher failed")
                self._closing.wait(_PATIENCE_S)
        if self._worker is not None:
            self._worker.kill()

    def close(self) -> None:
        """Kill the worker and end; the job that runs starts again at the next start of the server."""
        self._closing.set()
        self.join()

    def _ask(self, task: Task, follow: Callable[[Report], None], wanted: Callable[[], bool]) -> Ended:
        if self._worker is None:
            self._worker = Worker(self._device)
        try:
            return self._worker.ask(task, follow, lambda: self._check_open() and wanted())
        except WorkerDied:
            self._worker.kill()
            self._worker = None
            raise

    def _check_open(self) -> bool:
        if self._closing.is_set():
            raise WorkerDied
        return True

    def _separate(self, job: Job) -> None:
        self._progress = None  # of an earlier try
        if not self.jobs.move(job.id, "queued", "running"):
            return  # cancelled or deleted before it began
        try:
            with self.jobs.scratch() as out:
                self._separate_into(out, job)
        except WorkerDied:
            if not self._closing.is_set():
                self._bury(job)
        except OSError as error:
            self.jobs.end(job.id, "failed", error=f"the stems cannot be stored ({error.strerror})")

    def _separate_into(self, out: Path, job: Job) -> None:
        models = self.offers.find(job.model)
        if models is None:
            error = f"model {job.model!r} is no longer offered; upload the song again and choose another"
            self.jobs.end(job.id, "failed", error=error)
            return
        task = Separation(
            models.files, models.parts, self.jobs.song(job), job.name, out, job.format, job.two_stems,
            self._keep_free_bytes,
        )  # fmt: skip
        timing = Timing(self.offers.price(job.model), job.about_s, models.signals(job.two_stems))

        def follow(report: Report) -> None:
            progress = timing.follow(report.stage, report.done_s, report.total_s, time.monotonic())
            self._progress = job.id, progress

        ended = self._ask(task, follow, lambda: self._is_wanted(job))
        if ended.kind == "done":
            result = Result.parse(ended.result)
            self.jobs.finish(job.id, out, result=result)
            if job.two_stems is None and result.audio_s >= MINUTE_S:  # it may have been measured at a busy time
                self.offers.set_price(job.model, ended.price)
        elif ended.kind == "failed":
            self.jobs.end(job.id, "failed", error=ended.error)

    def _is_wanted(self, job: Job) -> bool:
        try:
            return self.jobs.get(job.id).state == "running"
        except UnknownJobError:
            return False

    def _bury(self, job: Job) -> None:
        """Let a job wait again after the death of the worker, unless it seems to be the reason."""
        deaths = job.deaths + 1
        if deaths < MOST_DEATHS:
            self.jobs.move(job.id, "running", "queued", deaths=deaths)
            return
        error = (
            f"the process that separates was killed {deaths} times at this song; the memory of the machine may be too "
            f"small for it: choose a smaller model"
        )
        self.jobs.end(job.id, "failed", deaths=deaths, error=error)

    def _measure(self, offer_id: str) -> None:
        offer = self.offers.find(offer_id)
        assert offer is not None
        try:
            ended = self._ask(Measurement(offer.files), lambda _: None, lambda: True)
        except WorkerDied:
            ended = Ended("failed", "the process died")
        if ended.kind == "failed" and not self._closing.is_set():
            _log.warning("%s: its speed cannot be measured (%s)", offer.id, ended.error)
        self.offers.set_price(offer.id, ended.price)

    def version(self) -> object:
        """Return a value that is another one after each change of what `views` returns."""
        return self.jobs.version, self.offers.version, self._progress

    def views(self) -> Sequence[JobView]:
        """Return all jobs as clients see them, in the order of their arrival."""
        version, latest = self.version(), self._latest  # taken first, so that no change is missed
        if latest is None or latest[0] != version:
            self._latest = latest = version, self._look()
        return latest[1]

    def _look(self) -> list[JobView]:
        latest, ahead_s, position = self._progress, 0.0, 0
        views = []
        for job in sorted(self.jobs.all(), key=lambda job: (job.state != "running", job.number)):
            facts: dict[str, Any] = {}
            if job.active:
                left_s = self._cost(job)
                if job.state == "running":
                    progress = Progress(stage="load", share=0, left_s=left_s)
                    if latest is not None and latest[0] == job.id:
                        progress = latest[1]
                    facts["progress"], left_s = progress, progress.left_s
                else:
                    position += 1
                    facts["position"] = position
                ahead_s = float("nan") if left_s is None else ahead_s + left_s
                facts["left_s"] = ahead_s if ahead_s == ahead_s else None
            views.append(JobView.model_construct(**dict(job), **facts))  # no check, since there may be a thousand
        return sorted(views, key=lambda view: view.number)

    def _cost(self, job: Job) -> float | None:
        """Return the time that a job takes, as far as it is known before it begins."""
        offer, price = self.offers.find(job.model), self.offers.price(job.model)
        if offer is None or price is None or job.about_s is None:
            return None
        return sum(price.costs(job.about_s, offer.signals(job.two_stems)))

    def view(self, job_id: str) -> JobView:
        """Return a job as clients see it.

        Raises:
            UnknownJobError: no job has this id.
        """
        found = next((view for view in self.views() if view.id == job_id), None)
        if found is None:
            raise UnknownJobError
        return found

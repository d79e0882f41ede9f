"""Queue and results as files, which survive a restart.

``jobs/<id>/`` has ``job.json``, the song, and, once the job is done, ``result/``. Everything is made in ``work/`` and
renamed when it is complete, so that nothing in ``jobs/`` is ever half there; ``work/`` is emptied at each start.
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bandsplit.core.errors import BandsplitError, ConfigError
from bandsplit.core.files import write_atomically
from bandsplit.serve.job import Job, State, Wish

RECORD, RESULT = "job.json", "result"

_log = logging.getLogger("bandsplit")


class UnknownJobError(BandsplitError):
    """There is no such job."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("this job does not exist, or was deleted; GET /jobs lists all")


class Jobs:
    """All jobs of a folder; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        """Lock the folder and read its jobs; those that a stopped server was working on wait again.

        Raises:
            ConfigError: another server uses the folder, or it cannot be written.
        """
        self.folder = folder
        self._jobs: dict[str, Job] = {}
        self._change = threading.Condition()
        self.version = 0
        """Number of changes."""
        self._lock = FileLock(folder / "lock")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            for name in ("jobs", "work"):
                (folder / name).mkdir(exist_ok=True)
            for leftover in (folder / "work").iterdir():
                shutil.rmtree(leftover, ignore_errors=True)
            self._read()
        except Timeout:
            raise ConfigError(
                f"--folder {folder}: another bandsplit serve uses it; stop that one, or name another folder"
            ) from None
        except OSError as error:
            raise ConfigError(f"--folder {folder}: cannot be written ({error.strerror}); name another folder") from None

    def _read(self) -> None:
        for path in sorted((self.folder / "jobs").iterdir()):
            try:
                job = Job.parse(json.loads((path / RECORD).read_text(encoding="utf-8")))
                if job.id != path.name:
                    raise ConfigError(f"id: is {job.id}")
            except (OSError, ValueError, ConfigError) as error:
                _log.warning("%s: is not a job, and is left alone (%s)", path, error)
                continue
            self._jobs[job.id] = job
            if job.state == "running":
                self.update(job.id, state="queued")

    def close(self) -> None:
        """Unlock the folder."""
        self._lock.release()

    def all(self) -> list[Job]:
        """Return all jobs in the order of their arrival."""
        with self._change:
            return sorted(self._jobs.values(), key=lambda job: job.number)

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            UnknownJobError: no job has this id.
        """
        with self._change:
            if job_id not in self._jobs:
                raise UnknownJobError
            return self._jobs[job_id]

    def place(self, job: Job) -> Path:
        """Return the folder of a job."""
        return self.folder / "jobs" / job.id

    def song(self, job: Job) -> Path:
        """Return the uploaded file of a job."""
        return self.place(job) / f"song{job.suffix}"

    def result(self, job: Job) -> Path:
        """Return the folder of the stems of a job that is done."""
        return self.place(job) / RESULT

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a new folder in ``work/``; what is still there at the end is removed."""
        folder = self.folder / "work" / secrets.token_hex(8)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add(self, song: Path, name: str, wish: Wish, about_s: float | None) -> Job:
        """Take a song into the queue.

        Args:
            song: the complete song, ``song`` with its suffix, in a folder of `scratch`, which becomes that of the job.
            name: its name, as `clean_name` returns it.
            wish: what the client wants.
            about_s: its length as far as known.

        Raises:
            OSError: the disk is full.
        """
        with self._change:
            number = 1 + max((job.number for job in self._jobs.values()), default=0)
            job = Job(
                **wish.model_dump(), id=secrets.token_hex(16), number=number, name=name, bytes=song.stat().st_size,
                created_at=time.time(), about_s=about_s,
            )  # fmt: skip
            _write(song.parent, job)
            song.parent.rename(self.place(job))
            self._jobs[job.id] = job
            self._announce()
            return job

    def next(self, timeout_s: float) -> Job | None:
        """Return the first job that waits; None if ``timeout_s`` pass without one."""
        with self._change:
            self._change.wait_for(self._waiting, timeout_s)
            return self._waiting()

    def _announce(self) -> None:
        self.version += 1
        self._change.notify_all()

    def _waiting(self) -> Job | None:
        waiting = (job for job in self._jobs.values() if job.state == "queued")
        return min(waiting, key=lambda job: job.number, default=None)

    def update(self, job_id: str, **changes: Any) -> Job:
        """Change a job, also on the disk.

        A full disk does not stop the change, which is then lost with the server: the job runs again at its next start.

        Raises:
            UnknownJobError: it was deleted.
        """
        with self._change:
            job = self.get(job_id).model_copy(update=changes)
            self._jobs[job_id] = job
            try:
                _write(self.place(job), job)
            except OSError as error:
                _log.warning("%s: cannot be written (%s)", self.place(job) / RECORD, error.strerror)
            self._announce()
            return job

    def move(self, job_id: str, before: State, state: State, **changes: Any) -> bool:
        """Move a job from one state to another; if it has another one by now, or was deleted, return False."""
        with self._change, suppress(UnknownJobError):
            if self.get(job_id).state == before:
                self.update(job_id, state=state, **changes)
                return True
        return False

    def end(self, job_id: str, state: State, **changes: Any) -> None:
        """Move a job that runs to its last state; nothing happens if it was cancelled or deleted meanwhile."""
        self.move(job_id, "running", state, ended_at=time.time(), **changes)

    def finish(self, job_id: str, made: Path, **changes: Any) -> None:
        """Give a job its result, the folder ``made``, unless it was cancelled or deleted meanwhile.

        Raises:
            OSError: the folder cannot be renamed.
        """
        with self._change, suppress(UnknownJobError):
            job = self.get(job_id)
            if job.state == "running":
                if self.result(job).exists():  # of a server that was killed just after this step
                    shutil.rmtree(self.result(job))
                made.rename(self.result(job))
                self.end(job_id, "done", **changes)

    def cancel(self, job_id: str) -> Job:
        """Cancel a job that waits or runs; one that has ended stays as it is.

        Raises:
            UnknownJobError: no job has this id.
        """
        with self._change:
            job = self.get(job_id)
            return self.update(job_id, state="cancelled", ended_at=time.time()) if job.active else job

    def remove(self, job_id: str) -> None:
        """Delete a job with all its files; if it runs, it is cancelled.

        Raises:
            UnknownJobError: no job has this id.
        """
        deleted = self.folder / "work" / secrets.token_hex(8)
        with self._change:
            job = self.get(job_id)
            # At once, so that no half job remains; a new folder would need room, and the disk may be full.
            self.place(job).rename(deleted)
            del self._jobs[job_id]
            self._announce()
        shutil.rmtree(deleted, ignore_errors=True)


def _write(folder: Path, job: Job) -> None:
    write_atomically(folder / RECORD, job.model_dump_json(indent=1).encode())

"""Fetch the public weights of a study, each in its own process, whose failure does not affect the others."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from bandsplit.core.errors import RunError
from bandsplit.core.fetching import in_gb
from bandsplit.core.files import write_atomically
from bandsplit.models.pretrained.entries import Entry
from bandsplit.models.pretrained.registry import FETCH_FIX
from bandsplit.studies.runner.folder import StudyFolder
from bandsplit.studies.runner.jobs import reason_of, run_jobs
from bandsplit.studies.runner.processes import Job, Processes
from bandsplit.studies.runner.training import Outcome, Report


def fetch_models(
    folder: StudyFolder, missing: Sequence[Entry], allowed: Collection[str], processes: Processes, report: Report
) -> Outcome:
    """Fetch public weights into the cache; those that may not be downloaded fail.

    Args:
        folder: the study's.
        missing: weights that are not in the cache.
        allowed: names of those that may be downloaded.
        processes: where the work runs; its signals must be watched.
        report: called with what happens, line by line.
    """
    outcome = Outcome()
    jobs = [
        Job(entry.name, ("models", "fetch", entry.name, "--yes"), folder.logs / f"fetch-{entry.name}.log")
        for entry in missing
    ]
    for job, entry in zip(jobs, missing, strict=True):
        if entry.name not in allowed:
            reason = f"is not in the cache; give --yes, or: {FETCH_FIX} {entry.name} ({in_gb(entry.source.bytes)})"
            _write(job, f"{entry.name}: {reason}")
            _fail(folder, job, reason, outcome, report)
    for ended in run_jobs([job for job in jobs if job.name in allowed], folder.locks, processes, outcome, report):
        if ended.code == 0:
            outcome.finished.append(ended.job.name)
            report(f"{ended.job.name}: fetched")
        elif processes.stopping:
            outcome.stopped.append(ended.job.name)
        else:
            _fail(folder, ended.job, reason_of(ended), outcome, report)
    return outcome


def _fail(folder: StudyFolder, job: Job, reason: str, outcome: Outcome, report: Report) -> None:
    folder.append("fetch failed", public=job.name, reason=reason, log=str(job.log))
    outcome.failed[job.name] = job.log
    report(f"{job.name}: FAILED: {reason}")


def _write(job: Job, line: str) -> None:
    try:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(job.log, f"{line}\n".encode())
    except OSError as error:
        raise RunError(
            f"{job.log}: cannot be written ({error.strerror}); fix that, or choose another --folder"
        ) from None

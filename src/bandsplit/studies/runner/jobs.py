"""Jobs of a study that are run as places become free: scorings, downloads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bandsplit.studies.runner.processes import Ended, Job, Processes, last_lines
from bandsplit.studies.runner.training import Outcome, Report


def run_jobs(
    jobs: Sequence[Job], locks: Path, processes: Processes, outcome: Outcome, report: Report
) -> Iterator[Ended]:
    """Run jobs and yield each that ended; those that are not begun are noted as stopped.

    Args:
        jobs: the jobs, each with its own log, which names its lock.
        locks: folder of the locks.
        processes: where the work runs; its signals must be watched.
        outcome: gets the jobs that are not begun, because the study was stopped or another process has them.
        report: called with what happens, line by line.
    """
    waiting = list(jobs)
    while waiting or processes.running:
        if processes.stopping:
            outcome.stopped += [job.name for job in waiting]
            waiting = []
        while waiting and processes.free:
            job = waiting.pop(0)
            if not processes.start_alone(job, locks / f"{job.log.stem}.lock"):
                outcome.stopped.append(job.name)
                report(f"{job.name}: another process is working on it; skipped here")
        yield from processes.ended()


def reason_of(ended: Ended) -> str:
    """Return why a job failed: the last line of its output."""
    return (last_lines(ended.job.log, 1) or ["no output"])[0]

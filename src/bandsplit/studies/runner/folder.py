"""The folder of a study: its runs, their output, its scores, and a journal of what was done, line by line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bandsplit.core.errors import RunError
from bandsplit.core.files import Journal
from bandsplit.runs.config import RunConfig
from bandsplit.runs.records import RunRecord, RunState, Stage, read_run
from bandsplit.studies.plans import PlannedRun

Event = dict[str, Any]


@dataclass(frozen=True)
class StudyRun:
    """A planned run and its state in the folder."""

    planned: PlannedRun
    config: RunConfig
    folder: Path
    """Folder of the run, which may not exist yet."""
    record: RunRecord | None
    """Record read from the folder; None before it has begun."""
    event: Event | None
    """Last event of the study for this run; None before any event."""

    @property
    def name(self) -> str:
        """Readable name; with dashes, also for files."""
        return run_name(self.planned)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.record is not None and self.record.finished

    @property
    def failure(self) -> str | None:
        """Why its last attempt failed; None if it did not fail."""
        if self.finished or self.running:
            return None
        if self.event is not None and self.event["event"] == "failed":
            return self.event["reason"]
        if self.record is not None and self.record.state.stage is Stage.FAILED:
            return self.record.state.reason
        return None

    @property
    def running(self) -> bool:
        """Whether a process trains it."""
        return self.record is not None and self.record.state.stage is Stage.RUNNING

    @property
    def state(self) -> RunState:
        """State of its record; failed, see `failure`; submitted, with the job; or not begun."""
        if self.failure is not None:
            return RunState(Stage.FAILED)
        if self.record is not None:
            return self.record.state
        if self.event is not None and self.event["event"] == "submitted":
            return RunState(Stage.SUBMITTED, self.event["job"])
        return RunState(Stage.NOT_BEGUN)


class StudyFolder:
    """Names the files of a study's folder, keeps its journal, and looks runs up."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is written yet."""
        self.path = path
        self.runs = path / "runs"
        self.logs = path / "logs"
        self.locks = path / "locks"
        self.jobs = path / "jobs"
        self.parts = path / "scores"
        self.scores = path / "scores.jsonl"
        self.costs = path / "costs.jsonl"
        self.journal = path / "study.jsonl"

    def append(self, event: str, **values: Any) -> None:
        """Append a line to the journal; several processes may do so.

        Raises:
            RunError: it cannot be written.
        """
        line = json.dumps({"event": event, "unix_time_s": round(time.time(), 3), **values})
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            Journal(self.journal).append(line)
        except OSError as error:
            raise RunError(
                f"{self.journal}: cannot be written ({error.strerror}); fix that, or choose another --folder"
            ) from None

    def events(self) -> list[Event]:
        """Read the journal; a line that a kill cut short is left out."""
        lines = Journal(self.journal).read().lines if self.journal.exists() else []
        return [line.value for line in lines if isinstance(line.value, dict) and "event" in line.value]

    def look(self, runs: Iterable[PlannedRun]) -> list[StudyRun]:
        """Look up the state of planned runs."""
        last = {event["run"]: event for event in self.events() if "run" in event}
        return [self._look(run, last.get(run_name(run))) for run in runs]

    def _look(self, planned: PlannedRun, event: Event | None) -> StudyRun:
        config = planned.config
        folder = config.folder_in(self.runs)
        record = read_run(folder) if folder.is_dir() else None
        return StudyRun(planned, config, folder, record, event)


def run_name(run: PlannedRun) -> str:
    """Return a readable name of a run."""
    return f"{run.recipe} {'+'.join(run.targets)} seed {run.seed}" + (f" {run.budget.price}" if run.budget else "")

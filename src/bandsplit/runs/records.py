"""Records of runs, read from their folders without torch: configuration, progress, scores and costs."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from bandsplit.core.errors import RunError
from bandsplit.core.files import Journal
from bandsplit.core.rows import first_problem
from bandsplit.core.targets import TARGETS
from bandsplit.runs.budgets import Budget
from bandsplit.runs.schema import (
    ERROR,
    Description,
    LoggedStart,
    LoggedStop,
    LoggedValidation,
    LogRow,
    SongsDescription,
)

_FOLDER_NAME = re.compile(r"seed-(\d+)-[0-9a-f]{8}")


class _Targets(BaseModel):
    targets: tuple[str, ...]


class _Training(BaseModel):
    budget: Budget | None = None
    max_epochs: int
    patience: int | None = None
    monitor: Literal["usdr", "loss"]
    monitor_over: str = "songs"
    validate_max_s: float | None = None
    chunks: dict[str, Any] = {}


class _Run(BaseModel):
    """The part of a run's configuration that is read here; other keys, which may be of another version, are ignored."""

    recipe: str
    changes: dict[str, Any] = {}
    seed: int
    model: _Targets
    training: _Training


class _Environment(BaseModel):
    bandsplit: str


_ROWS: TypeAdapter[LogRow] = TypeAdapter(Annotated[LogRow, Field(discriminator="kind")])


class _Total(BaseModel):
    kwh: float
    wall_s: float


class _Energy(BaseModel):
    total: _Total


_Model = TypeVar("_Model", bound=BaseModel)


class Stage(Enum):
    """State of a run; the values are for people to read."""

    RUNNING = "running"
    FINISHED = "finished"
    """The training is complete."""
    STOPPED = "stopped"
    """Stopped by a signal or the time limit; it can continue."""
    FAILED = "failed"
    """Ended by an error."""
    INTERRUPTED = "interrupted"
    """Killed before it could log why."""
    SUBMITTED = "submitted"
    """Submitted as a job of a study."""
    NOT_BEGUN = "not begun"
    """Planned in a study."""


class RunState(NamedTuple):
    """State of a run, and its reason."""

    stage: Stage
    reason: str = ""
    """``patience``, what stopped it, the error, or the job; empty if the stage says everything."""

    @classmethod
    def after(cls, stop: LoggedStop | None) -> RunState:
        """Return the state after the last row of a log."""
        if stop is None:
            return cls(Stage.INTERRUPTED)
        if stop.reason in ("finished", "patience"):
            return cls(Stage.FINISHED, stop.reason if stop.reason == "patience" else "")
        if stop.reason.startswith(ERROR):
            return cls(Stage.FAILED, stop.reason.removeprefix(ERROR))
        return cls(Stage.STOPPED, stop.reason)

    def __str__(self) -> str:
        """Return stage and reason, as in ``finished (patience)``, ``stopped (error: loss is nan)``."""
        if self.stage is Stage.FAILED and self.reason:
            return f"{Stage.STOPPED.value} ({ERROR}{self.reason})"
        return f"{self.stage.value} ({self.reason})" if self.reason else self.stage.value


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """Contents of a run's folder; a value that the folder lacks is None."""

    folder: Path
    recipe: str
    targets: tuple[str, ...]
    seed: int | None
    changes: dict[str, Any]
    """Settings changed by hand; a run with any is not a row of a table."""
    budget: str | None
    """Price at which it stops; None: it stops as its recipe does."""
    monitor: Literal["usdr", "loss"]
    max_epochs: int | None
    patience: int | None
    data: str
    """Name of the data set; empty if it is not recorded."""
    fingerprints: dict[str, str]
    """Fingerprints of the songs for training and validation, by split."""
    benchmark: str | None
    """``MUSDB18-HQ`` if the songs are those of that set."""
    mixture: str | None
    """Source of the mixtures: ``file``, ``sum``, or both, joined by a plus."""
    validated: str
    """Separation and scoring of songs in validation, in words."""
    version: str | None
    """Version of this package when the run began."""
    state: RunState
    attempts: int
    epochs: int
    """Epochs done."""
    validations: tuple[LoggedValidation, ...]
    hours: float | None
    """Hours of all attempts."""
    kwh: float | None
    """Energy of all attempts."""
    problems: tuple[str, ...]
    """Damaged or missing files, each with what is wrong with it."""

    @property
    def finished(self) -> bool:
        """Whether the training is complete."""
        return self.state.stage is Stage.FINISHED

    @property
    def best(self) -> LoggedValidation | None:
        """The validation whose weights are kept."""
        return next((row for row in reversed(self.validations) if row.best), None)

    @property
    def label(self) -> str:
        """Name of the recipe, marked where settings were changed by hand, and the budget."""
        return self.recipe + ("*" if self.changes else "") + (f" {self.budget}" if self.budget else "")

    def as_json(self) -> dict[str, Any]:
        """Return plain data: every field, the best epoch, and the curve as pairs of epoch and uSDR in dB."""
        best = self.best
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return own | {
            "folder": str(self.folder),
            "state": str(self.state),
            "validations": [[row.epoch, row.validation_usdr_db, row.validation_loss] for row in self.validations],
            "best_epoch": best and best.epoch,
            "best_usdr_db": best and best.validation_usdr_db,
            "best_loss": best and best.validation_loss,
        }


def read_runs(root: Path, recipes: Iterable[str] = ()) -> list[RunRecord]:
    """Read every run below a folder, damaged ones included.

    Returns:
        Records in the order of the recipes, then of the targets, then of the seeds.

    Raises:
        RunError: there is no such folder.
    """
    if not root.is_dir():
        raise RunError(f"{root}: no such folder; name the one that `bandsplit train` got as --runs (default: runs)")
    return sorted(map(read_run, _find_folders(root)), key=lambda run: _order(run, recipes))


def read_run(folder: Path) -> RunRecord:
    """Read the folder of one run; whatever is missing or damaged is named in ``problems``."""
    problems: list[str] = []
    description = _read(folder / "config.json", Description[_Run], problems, "missing: not the folder of a run?")
    rows = _read_log(folder / "log.jsonl", problems)
    energy, environment = None, None
    if (folder / "environment.json").exists():
        environment = _read(folder / "environment.json", _Environment, problems)
    if (folder / "energy.json").exists():
        energy = _read(folder / "energy.json", _Energy, problems)
    run = description.run if description else None
    data = description.data if description else SongsDescription()
    # A killed attempt may have validated an epoch without saving its state; it is then trained and validated again.
    validations = {row.epoch: row for row in rows if isinstance(row, LoggedValidation)}
    costs = [row for row in validations.values() if row.wall_s is not None]
    kwh = [row.energy_kwh for row in costs if row.energy_kwh is not None] + ([energy.total.kwh] if energy else [])
    wall_s = [row.wall_s for row in costs if row.wall_s is not None] + ([energy.total.wall_s] if energy else [])
    done = [*validations, *(row.epoch for row in rows if isinstance(row, LoggedStop) and row.epoch is not None)]
    name = _FOLDER_NAME.fullmatch(folder.name)
    parts = folder.absolute().parts
    return RunRecord(
        folder=folder,
        recipe=run.recipe if run else parts[-3] if name and len(parts) > 3 else folder.name,
        targets=run.model.targets if run else tuple(parts[-2].split("+")) if name and len(parts) > 3 else (),
        seed=run.seed if run else int(name[1]) if name else None,
        changes=run.changes if run else {},
        budget=str(run.training.budget) if run and run.training.budget else None,
        monitor=run.training.monitor if run else "usdr",
        max_epochs=run.training.max_epochs if run else None,
        patience=run.training.patience if run else None,
        data=data.names,
        fingerprints=data.all_fingerprints,
        benchmark=data.benchmark,
        mixture="+".join(data.mixture) or None,
        validated=_describe_validation(run.training) if run else "",
        version=environment.bandsplit if environment else None,
        state=RunState(Stage.RUNNING) if _is_locked(folder / ".lock", problems) else _last_state(rows),
        attempts=max((row.attempt for row in rows if isinstance(row, LoggedStart)), default=0),
        epochs=max(done, default=0),
        validations=tuple(validations[epoch] for epoch in sorted(validations)),
        hours=max(wall_s) / 3600 if wall_s else None,
        kwh=max(kwh) if kwh else None,
        problems=tuple(problems),
    )


def _find_folders(root: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(root, followlinks=True):
        folder = Path(here)
        above = folder.parents[: len(folder.parts) - len(root.parts)]
        if os.path.realpath(here) in map(os.path.realpath, above):
            folders.clear()  # a link leads back to a folder above it
        elif "config.json" in files or "log.jsonl" in files or _FOLDER_NAME.fullmatch(folder.name):
            folders.clear()
            yield folder


def _order(run: RunRecord, recipes: Iterable[str]) -> tuple[Any, ...]:
    places = {name: number for number, name in enumerate(recipes)}
    ranks = {name: number for number, name in enumerate(TARGETS)}
    targets = [(ranks.get(name, len(ranks)), name) for name in run.targets]
    seed = -1 if run.seed is None else run.seed
    return places.get(run.recipe, len(places)), run.recipe, bool(run.changes), targets, seed, str(run.folder)


def _describe_validation(training: _Training) -> str:
    chunks = ", ".join(f"{value}" if key == "kind" else f"{key} {value}" for key, value in training.chunks.items())
    longest = "whole songs" if training.validate_max_s is None else f"{training.validate_max_s:g} s of each song"
    over = "" if training.monitor_over == "songs" else ", median over chunks"
    return f"{longest}{over}; {chunks}" if chunks else f"{longest}{over}"


def _last_state(rows: list[LogRow]) -> RunState:
    last = next((row for row in reversed(rows) if isinstance(row, LoggedStart | LoggedStop)), None)
    return RunState.after(last if isinstance(last, LoggedStop) else None)


def _is_locked(file: Path, problems: list[str]) -> bool:
    """Return whether a process holds the lock; a missing lock file is not created."""
    if not file.exists():
        return False
    from filelock import FileLock, Timeout

    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True
    except OSError as error:
        problems.append(f"{file.name}: cannot find out whether the run is in progress ({error.strerror})")
        return False


def _read(file: Path, model: type[_Model], problems: list[str], missing: str = "missing") -> _Model | None:
    try:
        return model.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        problems.append(f"{file.name}: {missing}")
    except OSError as error:
        problems.append(f"{file.name}: cannot be read ({error.strerror})")
    except ValidationError as error:
        problems.append(f"{file.name}: {first_problem(error)}")
    return None


def _read_log(file: Path, problems: list[str]) -> list[LogRow]:
    """Read the rows; a row that a kill cut short is skipped silently, since the next attempt repeats it."""
    try:
        content = Journal(file).read()
    except FileNotFoundError:
        problems.append(f"{file.name}: missing, nothing was trained")
        return []
    except OSError as error:
        problems.append(f"{file.name}: cannot be read ({error.strerror})")
        return []
    problems += [f"{file.name}, line {line.number}: not JSON" for line in content.foreign]
    rows: list[LogRow] = []
    for line in content.lines:
        try:
            rows.append(_ROWS.validate_python(line.value))
        except ValidationError as error:
            problems.append(f"{file.name}, line {line.number}: {first_problem(error)}")
    return rows

"""The folder of a run: its description, its log, and states from which it continues exactly where it stopped."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout
from pydantic import ValidationError

from bandsplit.core.errors import ConfigError, RunError
from bandsplit.core.files import Journal, write_atomically
from bandsplit.core.machine import environment
from bandsplit.core.rows import first_problem
from bandsplit.data.songs.tracks import Dataset
from bandsplit.runs.config import RunConfig
from bandsplit.runs.schema import (
    BEST_FILE,
    Description,
    LogRow,
    OtherSongs,
    SongsDescription,
    UnlabelledSongs,
)

LOCK_WAIT_S = 10.0
"""Seconds to wait for another process to leave the folder: loader workers outlive a killed one by about five."""
KEPT = 2
"""States kept: the newest, and the one before it in case the newest is damaged."""


_Stored = Description[dict[str, Any]]


@dataclasses.dataclass
class TrainingPosition:
    """Position in a run. Together with weights, optimiser and random state it determines everything that follows."""

    epoch: int = 0
    """Epoch under way, from 0."""
    examples: int = 0
    """Examples of this epoch already used, over all processes."""
    loss_sum: float = 0.0
    """Sum of the losses of this epoch's batches, those of this process."""
    batches: int = 0
    """Batches in ``loss_sum``."""
    best_score: float | None = None
    """Best validation score so far; larger is better (a loss is stored negated)."""
    best_epoch: int = 0
    """Epochs trained when it was reached."""
    best_at: float | None = None
    """The same, in epochs of the schedule, which a budget stretches; None in states of earlier versions."""
    decays: int = 0
    """Decays of the learning rate on a plateau so far."""
    decayed_epoch: float = 0
    """Epochs of the schedule when the last of them happened."""
    spent: float = 0.0
    """Seconds or kWh of all attempts, where the budget is one of time or energy."""
    finished: str = ""
    """Why the run is over: ``finished`` (all epochs, or the budget is spent) or ``patience``; empty until then."""

    @property
    def mean_loss(self) -> float:
        """Mean over this epoch's batches so far; NaN before the first."""
        return self.loss_sum / self.batches if self.batches else math.nan

    def plateau(self, epochs: float) -> float:
        """Return for how many epochs of the schedule the score was not beaten and the learning rate did not decay."""
        best = self.best_epoch if self.best_at is None else self.best_at
        return round(epochs - max(best, self.decayed_epoch), 6)  # under a budget, epochs are rounded


def _in_current_form(run: Any) -> Any:
    """Return a stored configuration as this version would store it: a setting that was added since has its default."""
    try:
        return RunConfig.parse(run).model_dump(mode="json")
    except ConfigError:
        return run  # it is compared as stored


def _describe_songs(dataset: Dataset) -> SongsDescription:
    def names(songs: Dataset, split: str) -> list[str]:
        return [track.name for track in songs.tracks if track.split == split]

    def mixtures(songs: Dataset, splits: Sequence[str]) -> list[Literal["file", "sum"]]:
        return sorted({track.mixture_from for track in songs.tracks if track.split in splits})

    used = ("train", "valid")
    return SongsDescription(
        name=dataset.name,
        fingerprints={split: dataset.fingerprints[split] for split in used if split in dataset.fingerprints},
        benchmark=None if dataset.others else dataset.benchmark,
        mixture=mixtures(dataset, used),
        train=names(dataset, "train"),
        valid=names(dataset, "valid"),
        errata=dataset.errata,
        others=tuple(
            OtherSongs(
                name=other.name,
                fingerprint=other.fingerprints.get("train"),
                mixture=mixtures(other, ["train"]),
                train=names(other, "train"),
            )
            for other in dataset.others
        ),
        unlabelled=None
        if dataset.unlabelled is None
        else UnlabelledSongs(
            name=dataset.unlabelled.name,
            fingerprint=dataset.unlabelled.fingerprints.get("train"),
            songs=names(dataset.unlabelled, "train"),
        ),
    )


class RunFolder:
    """The folder of one run: opened to begin or continue it, never overwritten."""

    def __init__(self, root: Path, config: RunConfig) -> None:
        """Name the folder ``root/<recipe>/<targets>/seed-<k>-<hash8>``; nothing is written yet."""
        self.path = config.folder_in(root)
        self.config = config
        self._journal = Journal(self.path / "log.jsonl")
        self._lock = FileLock(self.path / ".lock", timeout=LOCK_WAIT_S)

    @property
    def best(self) -> Path:
        """The model of the best validation score."""
        return self.path / BEST_FILE

    @property
    def states(self) -> list[Path]:
        """The saved states, newest first."""
        return sorted(self.path.glob("state-*.pt"), reverse=True)

    def open(self, dataset: Dataset, *, resume: bool) -> None:
        """Make the folder, or check that an existing run can continue, and lock other processes out.

        Raises:
            RunError: the run exists and ``resume`` is false, or it was trained with another configuration or on other
                songs, or another process trains it, or the folder cannot be written.
        """
        description = _Stored(run=self.config.model_dump(mode="json"), data=_describe_songs(dataset))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise RunError(f"{self.path}: another process is training this run; wait until it has stopped") from None
        except OSError as error:
            raise self._refusal(error) from None
        try:
            self._begin(description, resume)
        except BaseException:
            self.close()
            raise

    def _begin(self, description: _Stored, resume: bool) -> None:
        """Check an existing run, or describe a new one. The caller holds the lock, so nothing changes meanwhile."""
        if self.states or self.best.exists():  # a folder without either holds nothing that could be lost
            if not resume:
                raise RunError(f"{self.path}: this run exists; add --resume to continue it, or choose another --seed")
            self._compare(self._read_description(), description)
        else:
            self.write("environment.json", environment())
            self.write("config.json", description.model_dump())
        for leftover in self.path.rglob(".bandsplit-*.part"):  # of a process that was killed
            leftover.unlink(missing_ok=True)

    def _read_description(self) -> _Stored:
        file = self.path / "config.json"
        try:
            return _Stored.model_validate_json(file.read_bytes())
        except (OSError, ValidationError) as error:
            problem = first_problem(error) if isinstance(error, ValidationError) else error
            raise RunError(
                f"{file}: cannot be read ({problem}), so it is unknown which run this is; choose another --runs"
            ) from None

    def write(self, name: str, content: Mapping[str, Any]) -> Path:
        """Write a JSON file into the folder and return its path.

        Raises:
            RunError: it cannot be written.
        """
        try:
            write_atomically(self.path / name, json.dumps(content, indent=1).encode())
        except OSError as error:
            raise self._refusal(error) from None
        return self.path / name

    def _refusal(self, error: OSError) -> RunError:
        return RunError(
            f"{error.filename or self.path}: cannot be written ({error.strerror or error}); fix that, or choose "
            f"another --runs"
        )

    def close(self) -> None:
        """Release the lock, so that other processes can continue the run."""
        self._lock.release()

    def _compare(self, before: _Stored, now: _Stored) -> None:
        changed = differing_keys(_in_current_form(before.run), now.run)
        if changed:
            raise RunError(
                f"{self.path}: holds a run with another configuration ({'; '.join(changed)}); choose another --runs"
            )
        # Fields that are derived from the others may be missing in runs of earlier versions.
        given = [key for key in SongsDescription.model_fields if key not in ("benchmark", "mixture")]
        changed = [key for key in given if getattr(before.data, key) != getattr(now.data, key)]
        if changed:
            raise RunError(
                f"{self.path}: was trained on other data (different: {', '.join(changed)}); give the data set "
                f"{before.data.name!r} as it was, or choose another --seed for a new run"
            )

    def save(self, state: Mapping[str, Any], progress: TrainingPosition, updates: int) -> None:
        """Write the state after ``updates`` updates, and keep the last two.

        Raises:
            RunError: it cannot be written; the earlier states are kept.
        """
        content = {**state, "progress": dataclasses.asdict(progress), "random": torch.get_rng_state()}
        try:
            write_atomically(self.path / f"state-{updates:09d}.pt", lambda file: torch.save(content, file))
            for old in self.states[KEPT:]:
                old.unlink()
        except OSError as error:
            raise self._refusal(error) from None

    def load(self, note: Callable[[str], None]) -> tuple[dict[str, Any], TrainingPosition] | None:
        """Read the newest undamaged state and restore torch's random state; return None if none was saved.

        Args:
            note: called with a text about damaged lines of the log and about each damaged state, which are skipped.

        Raises:
            RunError: all states are damaged.
        """
        if self._journal.path.exists() and (damage := self._journal.read().damage):
            note(damage)
        damaged = []
        for path in self.states:
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
                progress = TrainingPosition(**state.pop("progress"))
            except Exception as error:
                damaged.append(f"{path} is damaged ({str(error).splitlines()[0]})")
                continue
            for reason in damaged:
                note(f"{reason}; continuing from {path.name}, the one before it")
            torch.set_rng_state(state.pop("random"))
            return state, progress
        if damaged:
            raise RunError(f"{'; '.join(damaged)}; remove the folder to start the run again")
        return None

    def log(self, row: LogRow) -> None:
        """Append a row to ``log.jsonl``, with the time.

        Raises:
            RunError: it cannot be written.
        """
        now = {"kind": row.kind, "unix_time_s": round(time.time(), 3)}
        try:
            self._journal.append(json.dumps(now | row.model_dump(exclude={"kind"})))
        except OSError as error:
            raise self._refusal(error) from None

    def wall_s(self) -> float:
        """Return the time that all attempts have taken, each to its last row in the log."""
        total_s, began_s, last_s = 0.0, 0.0, 0.0
        for row in self.rows():
            if row["kind"] == "start":
                total_s, began_s = total_s + last_s - began_s, row["unix_time_s"]
            last_s = row["unix_time_s"]
        return total_s + last_s - began_s

    def rows(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Read the rows of one kind, or all; a line that was cut short is skipped."""
        lines = self._journal.read().lines if self._journal.path.exists() else []
        return [line.value for line in lines if kind in (None, line.value["kind"])]


def differing_keys(before: Any, now: Any, path: str = "") -> list[str]:
    """List where two configurations differ, as ``path: stored value, new value``."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*before, *now])
        return [
            difference
            for key in keys
            for difference in differing_keys(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))
        ]
    return [] if before == now else [f"{path}: stored {before!r}, now {now!r}"]

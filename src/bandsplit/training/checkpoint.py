"""The folder of a run: its description, its log, and a state from which it goes on exactly where it stopped."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bandsplit import __version__
from bandsplit.config import RunConfig
from bandsplit.data.tracks import Dataset
from bandsplit.errors import RunError

STATE = "state.pt"
BEST = "best.safetensors"


@dataclasses.dataclass
class Progress:
    """How far a run is. Together with weights, optimiser and random state it decides everything that follows."""

    epoch: int = 0
    """Epoch under way, from 0."""
    examples: int = 0
    """Examples of this epoch already used, over all processes."""
    loss_sum: float = 0.0
    """Sum of the losses of this epoch's batches."""
    batches: int = 0
    """Batches in ``loss_sum``."""
    best_score: float | None = None
    """Best validation score so far; larger is better (a loss is stored negated)."""
    best_epoch: int = 0
    """Epochs trained when it was reached."""
    finished: bool = False
    """Nothing is left to do."""

    @property
    def mean_loss(self) -> float:
        """Mean over this epoch's batches so far; NaN before the first."""
        return self.loss_sum / self.batches if self.batches else math.nan


class RunFolder:
    """One run, one folder: opened to begin or to go on, never overwritten."""

    def __init__(self, root: Path, config: RunConfig) -> None:
        """Name the folder ``root/<recipe>/<targets>/seed-<k>-<hash8>``; nothing is written yet."""
        targets = "+".join(config.model.targets)
        self.path = root / config.recipe / targets / f"seed-{config.seed}-{config.hash8()}"
        self.config = config

    @property
    def best(self) -> Path:
        """The model of the best validation score."""
        return self.path / BEST

    def open(self, dataset: Dataset, *, resume: bool) -> bool:
        """Make the folder, or check that an existing one can go on; return whether there is a state to go on from.

        Raises:
            RunError: the run exists and ``resume`` is false, or it was trained on other songs, or the folder cannot be
                written.
        """
        songs = {split: [t.name for t in dataset.tracks if t.split == split] for split in ("train", "valid")}
        prints = {split: dataset.fingerprints[split] for split in songs if split in dataset.fingerprints}
        description = {
            "run": self.config.model_dump(mode="json"),
            "data": {"name": dataset.name, "fingerprints": prints, **songs},
        }
        file = self.path / "config.json"
        if not file.exists():
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                write_atomically(file, json.dumps(description, indent=1).encode())
                write_atomically(self.path / "environment.json", json.dumps(environment(), indent=1).encode())
            except OSError as error:
                raise RunError(f"{self.path}: cannot be written ({error.strerror}); choose another --runs") from None
            return False
        if not resume:
            raise RunError(f"{self.path}: this run exists; add --resume to go on with it, or choose another --seed")
        before = json.loads(file.read_text())["data"]
        changed = [key for key, value in description["data"].items() if before.get(key) != value]
        if changed:
            raise RunError(
                f"{self.path}: was trained on other data (different: {', '.join(changed)}); give the data set "
                f"{before.get('name')!r} as it was, or choose another --seed to start anew"
            )
        return (self.path / STATE).exists()

    def save(self, state: Mapping[str, Any], progress: Progress) -> None:
        """Write the state under a temporary name, then rename it."""
        temporary = self.path / (STATE + ".part")
        torch.save({**state, "progress": dataclasses.asdict(progress), "random": torch.get_rng_state()}, temporary)
        os.replace(temporary, self.path / STATE)

    def load(self) -> tuple[dict[str, Any], Progress]:
        """Read the state back and restore torch's random state.

        Raises:
            RunError: the state is damaged.
        """
        path = self.path / STATE
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise RunError(f"{path}: is damaged ({reason}); remove the folder to start the run anew") from None
        torch.set_rng_state(state.pop("random"))
        return state, Progress(**state.pop("progress"))

    def log(self, **values: Any) -> None:
        """Append one line to ``log.jsonl``."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or nothing."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _cpu_name() -> str:
    """Name the processor; Python itself leaves it empty on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def environment() -> dict[str, Any]:
    """Describe the software and the machine."""
    return {
        "bandsplit": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }

"""Folders of runs for tests, written as a training run leaves them, without the package's own code."""

import json
from pathlib import Path
from typing import Any

import numpy as np


def curve_db(seed: int, epochs: int, top_db: float = 7.5) -> list[float]:
    """Return made-up validation uSDR, in dB: a rise that flattens, with the noise of real curves."""
    random = np.random.default_rng(seed)
    rise = top_db - 5 * np.exp(-np.arange(1, epochs + 1) / 12)
    return [float(value) for value in rise + random.normal(0, 0.12, epochs)]


def stop_early(values: list[float], patience: int) -> list[float]:
    """Cut a curve where early stopping would."""
    for epoch in range(1, len(values) + 1):
        if epoch - 1 - int(np.argmax(values[:epoch])) >= patience:
            return values[:epoch]
    return values


def write_run(
    root: Path,
    values_db: list[float],
    recipe: str = "base",
    target: str = "vocals",
    seed: int = 0,
    stop: str | None = "patience",
    changes: dict[str, Any] | None = None,
    max_epochs: int = 200,
    monitor: str = "usdr",
    name: str = "0123abcd",
    budget: dict[str, Any] | None = None,
) -> Path:
    """Write one run of a single attempt: an epoch takes 0.5 h and 0.25 kWh; ``stop`` None: it was killed."""
    folder = root / recipe / target / f"seed-{seed}-{name}"
    folder.mkdir(parents=True)
    config = {
        "recipe": recipe, "changes": changes or {}, "seed": seed, "model": {"targets": target.split("+")},
        "training": {"max_epochs": max_epochs, "patience": 10, "monitor": monitor, "budget": budget},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"run": config, "data": {"name": "musdb"}}))
    rows: list[dict[str, Any]] = [{"kind": "start", "attempt": 1, "update": 0}]
    best = -np.inf
    for epoch, value in enumerate(values_db, start=1):
        rows.append(
            {
                "kind": "validation", "epoch": epoch, "loss": 0.5, "validation_usdr_db": value,
                "validation_loss": 1 - value / 10, "learning_rate": 1e-3, "best": value > best, "examples_per_s": 30.0,
                "wall_s": 1800.0 * epoch, "energy_kwh": 0.25 * epoch, "songs": [],
            }
        )  # fmt: skip
        best = max(best, value)
    if stop is not None:
        rows.append({"kind": "stop", "attempt": 1, "reason": stop, "epoch": len(values_db)})
    (folder / "log.jsonl").write_text("".join(json.dumps({**row, "unix_time_s": 0.0}) + "\n" for row in rows))
    return folder

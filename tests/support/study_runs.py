"""Made-up runs and scores of a study, for tests of its tables and figures."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bandsplit.core.targets import TARGETS
from bandsplit.evaluation.results import Score
from run_folders import write_run

MUSDB = {"name": "musdb18hq", "fingerprints": {"train": "a1", "valid": "b1"}, "benchmark": "MUSDB18-HQ"}
TOY = {"name": "toy", "fingerprints": {"train": "c2", "valid": "d2"}, "benchmark": None}


def write_study_run(
    root: Path,
    recipe: str,
    seed: int,
    best_db: float,
    target: str = "vocals",
    data: dict[str, Any] = MUSDB,
    songs: int = 14,
    stop: str | None = "patience",
    patience: int = 10,
    version: str = "1.0",
    changes: dict[str, Any] | None = None,
) -> Path:
    """Write a run of three epochs, the second of which is best, with a score for each song.

    Songs differ by 2 dB, and each run's songs by 0.1 dB more; their mean is ``best_db``. A run takes 0.75 kWh.
    """
    targets = target.split("+")
    digest = zlib.crc32(f"{recipe} {seed} {target} {data} {version} {changes}".encode())
    curve_db = [best_db - 1, best_db, best_db - 0.5]
    folder = write_run(root, curve_db, recipe, target, seed, stop, changes, name=f"{digest:08x}")
    config = json.loads((folder / "config.json").read_text())
    config["run"]["training"] |= {"patience": patience, "chunks": {"kind": "crossfade", "chunk_s": 10.0}}
    config["data"] = {**data, "mixture": ["file"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "environment.json").write_text(json.dumps({"bandsplit": version}))
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    own = np.random.default_rng(zlib.crc32(f"{recipe} {seed}".encode())).normal(0, 0.1, songs)
    values = np.random.default_rng(1).normal(0, 2, songs) + own
    values += best_db - values.mean()
    for row in rows:
        if row["kind"] == "validation" and row["epoch"] == 2:
            # Targets of a shared model: each 1 dB above the next, around the mean.
            shifts = (len(targets) - 1) / 2 - np.arange(len(targets))
            row["songs"] = [
                {"track": f"song {n}", "usdr_db": dict(zip(targets, (value + shifts).tolist(), strict=True)), "loss": 1}
                for n, value in enumerate(values)
            ]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def make_scores(
    recipe: str | None,
    metric: Any,
    values: Sequence[float],
    system: str = "tool",
    seed: int | None = 1,
    inference: str = "crossfade (authors geometry, nominal chunk 10 s, overlap 10%)",
    **fields: Any,
) -> list[Score]:
    """Make test scores: the same values, one for each song, for all four targets."""
    facts: dict[str, Any] = {"data": "musdb18hq", "fingerprint": "e1", "benchmark": "MUSDB18-HQ", "version": "1.0"}
    return [
        Score(
            system=recipe or system, recipe=recipe, seed=seed, split="test", track=f"song {n}", target=target,
            metric=metric, value=value, mixture="file", inference=inference, scored_with=TARGETS, **(facts | fields),
        )
        for target in TARGETS
        for n, value in enumerate(values)
    ]  # fmt: skip

"""Semi-supervised fine-tuning on synthetic songs, a third of them labelled: does it help? Prints Markdown.

``.venv/bin/python benchmarks/semi_supervised.py OUT [--seeds 0 1 2]`` keeps songs, runs and scores in OUT, and
continues there after an interruption. For each seed, `mini-base` learns from the labelled third: the teacher. It is
fine-tuned three times by `mini-semi-supervised`, with as many updates and the same schedule: with the other songs
unlabelled, without them (a share of 0), and without them but with the stems of all songs, the upper bound.
"""

import argparse
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np

from bandsplit.core.machine import environment
from bandsplit.data.songs.check import check_dataset, require_sound
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.evaluation.comparison import compare_pair, contenders
from bandsplit.evaluation.evaluate import evaluate
from bandsplit.evaluation.results import Metric, Score, append_scores, read_scores
from bandsplit.evaluation.systems import ModelSystem
from bandsplit.models.card import read_card
from bandsplit.runs.schema import BEST_FILE

SONGS = ("--songs", "36", "--valid", "6", "--test", "24", "--minutes", "0.2", "--sample-rate", "16000")
LABELLED = 12
METRIC: Metric = "usdr_db"
TEACHER, LABELS, UNLABELLED, ALL = SYSTEMS = ("teacher", "labelled only", "with unlabelled", "all labelled")
RESAMPLES = 10_000


def bandsplit(*words: object) -> None:
    """Run a command."""
    subprocess.run([sys.executable, "-m", "bandsplit", *map(str, words)], check=True)


def share_songs(out: Path) -> None:
    """Make the songs, and folders of links: a third of the songs for training with stems, the others' mixtures."""
    bandsplit("data", "synth", out / "songs", *SONGS)
    for split in ("train", "valid", "test"):
        for number, song in enumerate(sorted((out / "songs" / split).iterdir())):
            labelled = split != "train" or number < LABELLED
            folder = out / "third" / split / song.name if labelled else out / "rest" / song.name
            folder.mkdir(parents=True, exist_ok=True)
            for file in sorted(song.glob("*.wav" if labelled else "mixture.wav")):
                if not (folder / file.name).exists():
                    (folder / file.name).symlink_to(file.resolve())


def train(out: Path, system: str, seed: int, teacher: Path | None) -> Path:
    """Train one system, and return its best model; all but the teacher start from ``teacher``."""
    runs = out / "runs" / system.replace(" ", "-")
    options: list[object] = ["--data", out / ("songs" if system == ALL else "third"), "--seed", seed, "--runs", runs]
    recipe = "mini-base"
    if teacher is not None:
        recipe = "mini-semi-supervised"
        options += ["--init", teacher, "--unlabelled", out / "rest"]
    if system in (LABELS, ALL):
        options += ["--set", "training.unlabelled.share=0"]
    bandsplit("train", recipe, "-t", "vocals", *options, "--device", "cpu", "--no-energy", "--resume")
    (model,) = runs.glob(f"{recipe}/vocals/seed-{seed}-*/{BEST_FILE}")
    return model


def score(out: Path, system: str, seed: int, model: Path) -> list[Score]:
    """Score a model on the test songs, once; the system takes the place of the recipe, which several share."""
    path = out / "scores" / f"{system.replace(' ', '-')}-{seed}.jsonl"
    if not path.exists():
        dataset = require_sound(check_dataset(index_dataset(out / "songs"), ("test",)))
        systems = {system: ModelSystem.load([model], "cpu", None)}
        rows = [row for song in evaluate(systems, dataset, "test") for row in song]
        append_scores(path, (row.model_copy(update={"recipe": system, "seed": seed}) for row in rows))
    return read_scores(path)


def paired_interval(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the mean difference of arrays ``seed song``; seeds and songs are drawn in pairs."""
    random = np.random.default_rng(0)
    seeds, songs = (random.integers(count, size=(RESAMPLES, count)) for count in a.shape)
    means = (a - b)[seeds[:, :, None], songs[:, None, :]].mean(axis=(1, 2))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    """Train and score everything, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    share_songs(given.out)
    rows: list[Score] = []
    replaced: dict[str, list[int]] = {system: [] for system in SYSTEMS}
    for seed in given.seeds:
        teacher = None
        for system in SYSTEMS:
            model = train(given.out, system, seed, teacher)
            teacher = teacher or model
            semi_supervision = read_card(model)[1].semi_supervision
            replaced[system].append(semi_supervision.replacements if semi_supervision else 0)
            rows += score(given.out, system, seed, model)
    facts = environment()
    print(f"\n{facts['cpu']}, Python {facts['python']}, torch {facts['torch']}\n")
    print_tables(rows, replaced)


def print_tables(rows: list[Score], replaced: dict[str, list[int]]) -> None:
    """Print the score of each system and seed, and the difference of each pair."""
    found = {one.system: one for one in contenders(rows, METRIC)}
    values = {
        name: np.array([list(songs["vocals"].values()) for songs in one.values.values()], float)
        for name, one in found.items()
    }
    print(f"| system | mean | {' | '.join(f'seed {seed}' for seed in found[TEACHER].values)} | replaced before |")
    print("|---|" + "---:|" * (2 + len(found[TEACHER].values)))
    for name, table in values.items():
        seeds = " | ".join(f"{value:.2f}" for value in table.mean(axis=1))
        print(f"| {name} | {table.mean():.2f} | {seeds} | {', '.join(map(str, replaced[name]))} |")
    print("\n| difference, dB | | pairs of one teacher | seeds independent |\n|---|---:|---|---|")
    for b, a in combinations(values, 2):
        one = compare_pair(found[a], found[b])
        low, high = paired_interval(values[a], values[b])
        print(f"| {a} - {b} | {one.difference:+.2f} | {low:+.2f} to {high:+.2f} | {one.low:+.2f} to {one.high:+.2f} |")


if __name__ == "__main__":
    main()

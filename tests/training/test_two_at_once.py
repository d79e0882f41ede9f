"""Two processes that train into one folder at the same moment, on different songs."""

import json
import multiprocessing
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import torch

from bandsplit.core.errors import RunError
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.models.card import read_card
from bandsplit.runs import folder as checkpoint
from bandsplit.runs.config import RunConfig
from bandsplit.training.execution import Execution
from bandsplit.training.loop import train
from bandsplit.training.reporters.events import report_to
from songs import write_dataset
from tiny_models import TINY

OFFSETS_S = (0.0, 0.0, 0.03, 0.2)
"""By how much the second process starts later: before, while and after the first one describes its run."""


def _config() -> RunConfig:
    return RunConfig.parse(
        {
            "recipe": "test",
            "model": TINY | {"targets": ["vocals"]},
            "training": {
                "examples_per_epoch": 16, "global_batch": 2, "excerpt_s": 0.1, "max_epochs": 2,
                "mixing": {"activity": None},
            },
        }
    )  # fmt: skip


def _train(root: Path, name: str, resume: bool, offset_s: float, both: Barrier) -> None:
    torch.set_num_threads(1)
    checkpoint.LOCK_WAIT_S = 100.0  # however slow the machine is
    config, dataset = _config(), index_dataset(root.parent / name)
    torch.manual_seed(config.seed)
    both.wait(timeout=100)
    time.sleep(offset_s)
    try:
        train(config, dataset, root / "runs", report_to(), execution=Execution("cpu"), resume=resume)
        outcome = ""
    except RunError as error:
        outcome = str(error)
    (root / name).write_text(outcome)


@pytest.mark.slow
@pytest.mark.parametrize("resume", [False, True])
def test_one_runs_and_the_other_is_refused_and_the_folder_describes_the_songs_of_the_one(tmp_path: Path, resume: bool):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "bandsplit.training.loop"])
    names = ["first", "second"]
    for number, name in enumerate(names):
        write_dataset(tmp_path / name, train=2 + number, test=1, samples=6000)
    for attempt, offset_s in enumerate(OFFSETS_S):
        root, both = tmp_path / f"try-{attempt}", context.Barrier(2)
        root.mkdir()
        processes = [
            context.Process(target=_train, args=(root, name, resume, delay_s, both))
            for name, delay_s in zip(names, (0.0, offset_s), strict=True)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
        outcomes = {name: (root / name).read_text() for name in names}
        (winner,) = [name for name, outcome in outcomes.items() if not outcome]
        (refusal,) = filter(None, outcomes.values())
        assert ("was trained on other data" if resume else "this run exists; add --resume") in refusal
        (folder,) = (root / "runs").glob("test/vocals/*")
        described = json.loads((folder / "config.json").read_text())["data"]
        assert described["name"] == winner and len(described["train"]) == {"first": 1, "second": 2}[winner]
        assert read_card(folder / "best.safetensors")[1].training_data.startswith(f"{winner}: ")
        rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        assert [row["attempt"] for row in rows if row["kind"] == "start"] == [1]


def test_the_second_goes_on_with_the_run_of_the_first_if_the_songs_are_the_same(tmp_path: Path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "bandsplit.training.loop"])
    write_dataset(tmp_path / "songs", train=2, test=1, samples=6000)
    root, both = tmp_path / "try", context.Barrier(2)
    root.mkdir()
    processes = [context.Process(target=_train, args=(root, "songs", True, 0.0, both)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert (root / "songs").read_text() == ""
    (folder,) = (root / "runs").glob("test/vocals/*")
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["attempt"] for row in rows if row["kind"] == "start"] == [1, 2]
    assert [row["epoch"] for row in rows if row["kind"] == "validation"] == [1, 2], "nothing is trained twice"

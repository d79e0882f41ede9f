"""Runs in real processes: killed and resumed, and several that train together."""

import json
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from bandsplit.cli.main import app
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.runs.config import RunConfig
from bandsplit.runs.folder import RunFolder
from bandsplit.training.execution import Execution
from bandsplit.training.loop import train
from bandsplit.training.reporters.events import Event, Step
from songs import write_dataset
from tiny_models import TINY, TINY_CHANGES

KILLS = int(os.environ.get("BANDSPLIT_KILLS", "5"))
MOST_UPDATES = 10
"""Of an attempt that will be killed: then it waits for that, so that no machine finishes the run before."""


def _config() -> RunConfig:
    return RunConfig.parse(
        {
            "recipe": "test",
            "model": TINY | {"targets": ["vocals", "bass"]},
            "training": {
                "examples_per_epoch": 40, "global_batch": 2, "excerpt_s": 0.1,
                "max_epochs": 2 + KILLS * MOST_UPDATES // 20,
                "decay": {"kind": "plateau", "patience": 1},
                "average": {"kind": "competing", "update_decays": [0.9], "epoch_decays": [0.5]},
                "mixing": {"activity": None, "pairing": "epoch"},
            },
        }
    )  # fmt: skip


def _train(root: Path, updates: "Synchronized[int]", most: float = math.inf) -> None:
    """Train with states after nearly every update; runs in a process of its own."""
    torch.set_num_threads(1)
    config = _config()
    torch.manual_seed(config.seed)
    execution = Execution("cpu", save_every_s=0.02)

    def count(event: Event) -> None:
        if isinstance(event, Step):
            updates.value += 1
            while updates.value >= most:
                time.sleep(1)

    train(config, index_dataset(root / "data"), root / "runs", count, execution=execution, resume=True)


def _rows(folder: RunFolder) -> list[dict[str, Any]]:
    """The validations, the last one of each epoch, without what the clock decides."""
    rows = {row["epoch"]: row for row in folder.rows("validation")}
    return [
        {key: value for key, value in row.items() if not key.endswith("_s") and key != "waiting"}
        for row in rows.values()
    ]


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_if_it_never_was(tmp_path: Path):
    # The server imports torch once and never computes with it, so that its children start at once and in a clean state.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "bandsplit.training.loop"])
    moments = random.Random(0)
    roots = {name: tmp_path / name for name in ("whole", "killed")}
    for root in roots.values():
        write_dataset(root / "data", train=3, test=1, samples=6000)
    counts = context.Value("i", 0)
    whole = context.Process(target=_train, args=(roots["whole"], counts))
    whole.start()

    log = []
    for kill in range(KILLS):
        updates = context.Value("i", 0)
        process = context.Process(target=_train, args=(roots["killed"], updates, MOST_UPDATES))
        process.start()
        wanted = moments.randint(1, MOST_UPDATES - 2)
        while updates.value < wanted and process.is_alive():  # to the millisecond; the net of the suite has a deadline
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.03))
        assert process.is_alive(), "the run ended by itself"
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        folder = RunFolder(roots["killed"] / "runs", _config())
        log.append((kill + 1, updates.value, [path.name for path in folder.states]))
    last = context.Process(target=_train, args=(roots["killed"], counts))
    last.start()
    for process in (last, whole):
        process.join()
        assert process.exitcode == 0
    print("\nkill, updates of the attempt, states left")
    for row in log:
        print(*row)

    folders = [RunFolder(root / "runs", _config()) for root in roots.values()]
    states = [torch.load(folder.states[0], weights_only=True) for folder in folders]
    assert states[0].pop("progress") == states[1].pop("progress")
    _assert_equal(states[0], states[1])
    best = [load_file(folder.best) for folder in folders]
    _assert_equal(best[0], best[1])
    assert _rows(folders[0]) == _rows(folders[1])
    assert len(folders[1].rows("start")) == KILLS + 1
    assert len(folders[1].rows("stop")) == 1
    assert not list(folders[1].path.glob("*.part"))


def _assert_equal(left: Any, right: Any) -> None:
    """Compare nested dictionaries of tensors bit for bit."""
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            _assert_equal(left[key], right[key])
    else:
        assert left == right


# --- several processes -----------------------------------------------------------------------------------------------

SMALL = [
    *TINY_CHANGES, "training.examples_per_epoch=32", "training.excerpt_s=0.2", "training.max_epochs=2",
    "training.mixing.activity=null", "training.global_batch=4",
]  # fmt: skip
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]


def _logged(root: Path, name: str, launcher: list[str], options: list[str], *changed: str) -> list[dict[str, Any]]:
    """Train, in this process unless several are asked for, and return the rows of the log."""
    changes = [part for change in (*SMALL, *changed) for part in ("--set", change)]
    arguments = ["train", "simo", "--data", str(root / "data"), *changes, "--runs", str(root / name), "--device", "cpu"]
    if launcher or "--devices" in options:
        command = [sys.executable, "-m", *launcher, "bandsplit", *arguments, *options]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    else:
        assert CliRunner().invoke(app, [*arguments, *options]).exit_code == 0
    (folder,) = (root / name).glob("simo/*/*")
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def _assert_alike(one: list[dict[str, Any]], two: list[dict[str, Any]], epochs: int) -> None:
    """Compare the log of one process to that of two with half the batch."""
    (start,) = [row for row in two if row["kind"] == "start"]
    assert (start["batch_size"], start["accumulate"], start["devices"]) == (2, 1, 2)
    one, two = ([row for row in rows if row["kind"] == "validation"] for rows in (one, two))
    assert [row["epoch"] for row in two] == [*range(1, epochs + 1)]
    for first, second in zip(one, two, strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-6)
        assert second["validation_loss"] == pytest.approx(first["validation_loss"], rel=1e-5)
        assert [song["track"] for song in second["songs"]] == [song["track"] for song in first["songs"]]


@pytest.mark.slow
def test_two_processes_of_torchrun_equal_one_with_twice_the_batch(tmp_path: Path):
    write_dataset(tmp_path / "data", train=4, test=0, samples=8000)
    one, two = _logged(tmp_path, "one", [], ["--batch", "4"]), _logged(tmp_path, "two", TORCHRUN, [])
    _assert_alike(one, two, epochs=2)


@pytest.mark.slow
def test_two_processes_of_fabric_begin_as_one_with_twice_the_batch(tmp_path: Path):
    write_dataset(tmp_path / "data", train=4, test=0, samples=8000)
    short = ("training.examples_per_epoch=4", "training.max_epochs=1")  # one update
    one = _logged(tmp_path, "one", [], ["--batch", "4"], *short)
    _assert_alike(one, _logged(tmp_path, "two", [], ["--devices", "2"], *short), epochs=1)

"""Time commands beside other programs: busy loops, a process that computes with two threads, and themselves.

    .venv/bin/python benchmarks/busy.py [--tries 20] [--only separate train ...]

Each command runs in a process that has loaded everything before, so that the start of Python dilutes nothing. Quiet
and busy tries take turns, so that slow minutes of the machine meet both. What counts is the slowest busy try over the
median of the quiet ones; where other programs want as much of the cores as the command does, 2 is its fair share.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

LOOP = "while True: pass"
THREADS = "import torch\nx = torch.randn(400, 400)\nwhile True: torch.mm(x, x).sigmoid_()"
LOADS = {"one busy loop": [LOOP], "two busy loops": [LOOP, LOOP], "a process of two threads": [THREADS]}

# {} stands for the number of the try.
COMMANDS = {
    "separate": "separate song.wav -n model.safetensors -o out-{}",
    "separate, small": "separate song.wav -n small.safetensors -o out-{}",
    "evaluate": "evaluate model.safetensors --data songs -o results-{}.jsonl",
    "train": "train base --target vocals --data songs --seed {} --set model.n_features=32 --set model.n_blocks=1 "
    "--set training.examples_per_epoch=2 --set training.global_batch=2 --set training.max_epochs=1 "
    "--set training.validate_max_s=3",
    "bench": "bench train mini-base --steps 1 --batch 1",
}


def prepare() -> None:
    """Make a song, a data set and a model of random weights in the working folder."""
    import numpy as np

    from bandsplit.audio import files as audio
    from bandsplit.models.card import ModelCard
    from bandsplit.models.files import save_model
    from bandsplit.models.network import build_model
    from bandsplit.recipes.catalogue import RECIPES

    def write(path: Path, signal: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.write(path, signal.astype(np.float32), 44100)

    noise = np.random.default_rng(0)
    card = ModelCard(name="m", training_data="none", licence="CC0")
    # The channels of the second one hear each other, so that threads cannot share those out.
    for name, recipe, n_features in (("model", "base", 32), ("small", "tac-prelu", 8)):
        config = RECIPES[recipe].run_config(["vocals"]).model
        config = config.model_copy(update={"n_blocks": 2, "n_features": n_features})
        save_model(f"{name}.safetensors", build_model(config), card)
    write(Path("song.wav"), noise.normal(0, 0.1, (2, 16 * 44100)))
    for split in ("train", "valid", "test"):
        stems = noise.normal(0, 0.1, (4, 2, 12 * 44100))
        for name, stem in zip(("vocals", "bass", "drums", "other", "mixture"), (*stems, stems.sum(0)), strict=True):
            write(Path("songs", split, f"{split} song", f"{name}.wav"), stem)


def serve(pipe: Connection) -> None:
    """Run the commands that come through the pipe, and answer with an error, or with nothing when one is done."""
    from bandsplit.cli.main import app

    while command := pipe.recv():
        talk, problem = io.StringIO(), ""
        try:
            with contextlib.redirect_stdout(talk), contextlib.redirect_stderr(talk):
                app(command.split(), standalone_mode=False)
        except Exception as error:
            problem = f"{error!r}\n{talk.getvalue()}"
        pipe.send(problem)


class Commands:
    """Processes that run commands at once."""

    def __init__(self, count: int) -> None:
        """Start them."""
        self._pipes, self._tries = [], 0
        for _ in range(count):
            here, there = multiprocessing.Pipe()
            multiprocessing.Process(target=serve, args=(there,), daemon=True).start()
            self._pipes.append(here)

    def time_s(self, name: str, at_once: int = 1) -> float:
        """Return the seconds until the last of ``at_once`` equal commands is done."""
        began = time.perf_counter()
        for pipe in self._pipes[:at_once]:
            self._tries += 1
            pipe.send(COMMANDS[name].format(self._tries))
        for pipe in self._pipes[:at_once]:
            if error := pipe.recv():
                sys.exit(f"{name}: {error}")
        return time.perf_counter() - began


@contextlib.contextmanager
def started(programs: Sequence[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start Python programs with what the user's environment says, and stop them until they are wanted."""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    running = [subprocess.Popen([sys.executable, "-c", program], env=environment) for program in programs]
    time.sleep(4 if THREADS in programs else 0.5)
    send(running, signal.SIGSTOP)
    try:
        yield running
    finally:
        send(running, signal.SIGKILL)


def send(programs: Sequence[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    """Send a signal to all."""
    for program in programs:
        program.send_signal(number)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time commands beside other programs.")
    parser.add_argument("--tries", type=int, default=20, help="of each line (20)")
    parser.add_argument("--only", nargs="*", default=list(COMMANDS), choices=list(COMMANDS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        maker = multiprocessing.Process(target=prepare)
        maker.start()
        maker.join()
        if maker.exitcode:
            sys.exit(maker.exitcode)
        commands = Commands(3)
        print("| command | beside | quiet, median, s | busy, median, s | median ratio | worst ratio |")
        print("|---|---|---:|---:|---:|---:|", flush=True)
        for name in options.only:
            commands.time_s(name, 3)  # loads everything
            measure(commands, name, options.tries)


def measure(commands: Commands, name: str, tries: int) -> None:
    """Print the lines of a command; in each round everything has its turn."""
    with contextlib.ExitStack() as stack:
        loads = {beside: (stack.enter_context(started(programs)), 1) for beside, programs in LOADS.items()}
        if name.startswith("separate"):
            loads |= {"itself": ([], 2), "itself twice": ([], 3)}
        quiet_s, busy_s = [], {beside: [] for beside in loads}
        for _ in range(tries):
            quiet_s.append(commands.time_s(name))
            for beside, (programs, at_once) in loads.items():
                send(programs, signal.SIGCONT)
                busy_s[beside].append(commands.time_s(name, at_once))
                send(programs, signal.SIGSTOP)
    quiet = statistics.median(quiet_s)
    for beside, times_s in busy_s.items():
        busy, worst = statistics.median(times_s), max(times_s)
        row = f"{quiet:.2f} | {busy:.2f} | {busy / quiet:.2f} | {worst / quiet:.2f}"
        print(f"| {name} | {beside} | {row} |", flush=True)


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main()

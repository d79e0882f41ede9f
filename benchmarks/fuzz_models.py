"""Hostile model files by the thousand: each is read or refused with one message, quickly and in little memory.

    python benchmarks/fuzz_models.py                      # 2000 files with sizes, types and containers that lie
    python benchmarks/fuzz_models.py --files 100 --seed 7
    python benchmarks/fuzz_models.py --bombs              # those that once hung or ate the memory, one a line

`fuzz.py` damages bytes; here the bytes are right and what they describe is not. Every file is read in a forked child
with a limited address space: an exception that is no `BandsplitError`, a crash, more than SECONDS of CPU or more than
MEGABYTES beyond what PyTorch takes counts as wrong; the file is kept. A file is a function of the seed and its number.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from hostile_files import (
    BOMBS,
    hostile_checkpoint,
    hostile_model,
)

from bandsplit.core.errors import BandsplitError
from bandsplit.models.files import load_model
from bandsplit.models.importing import import_checkpoint

SECONDS = 1.0
MEGABYTES = 200.0
HANG_S = 60
ADDRESS_SPACE_BYTES = 4 << 30
"""Beyond what the process has before it reads."""


class Outcome(NamedTuple):
    """What came of a file: "read", "refused", or in a sentence what went wrong; what it took; and the message."""

    verdict: str
    cpu_s: float
    megabytes: float
    message: str


def read_model(path: Path) -> None:
    """Read a model file of any kind."""
    (import_checkpoint if path.suffix == ".ckpt" else load_model)(path)


def attempt(path: Path) -> tuple[str, str]:
    """Read a file: verdict and message."""
    try:
        read_model(path)
    except BandsplitError as error:
        message = str(error)
        if not message.startswith(str(path)):
            return f"a message without the file's name: {message[:200]}", message
        return ("refused" if len(message) < 3000 else f"a message of {len(message)} characters"), message
    except BaseException as error:  # MemoryError and RecursionError among them
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(where.filename).name}: {str(error)[:100]}", ""
    return "read", ""


def in_child(path: Path) -> Outcome:
    """Read a file in a forked child, limited in address space and time."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _child(path, writing)
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        ready = select.select([pipe], [], [], HANG_S)[0]
        told = b"".join(iter(lambda: pipe.read(1 << 16), b"")) if ready else b""
    if not ready:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    if not told:
        cpu_s = usage.ru_utime + usage.ru_stime
        return Outcome("hang" if not ready else f"crash, status {status}", cpu_s, usage.ru_maxrss / 1024, "")
    return Outcome(*json.loads(told))


def judge(outcome: Outcome) -> Outcome:
    """Count what was slow or took much memory as wrong."""
    if outcome.verdict in ("read", "refused") and outcome.cpu_s > SECONDS:
        return outcome._replace(verdict=f"{outcome.verdict}, but too slow: {outcome.cpu_s:.1f} s")
    if outcome.verdict in ("read", "refused") and outcome.megabytes > MEGABYTES:
        return outcome._replace(verdict=f"{outcome.verdict}, but took {outcome.megabytes:.0f} MB")
    return outcome


def _child(path: Path, writing: int) -> None:
    limit = _status_kb("VmSize") * 1024 + ADDRESS_SPACE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before, began = _status_kb("VmRSS"), resource.getrusage(resource.RUSAGE_SELF)
    verdict, message = attempt(path)
    ended, peak = resource.getrusage(resource.RUSAGE_SELF), _status_kb("VmHWM")
    cpu_s = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    os.write(writing, json.dumps([verdict, cpu_s, (peak - before) / 1024, message[:3000]]).encode())
    os._exit(0)


def _status_kb(fact: str) -> int:
    return int(Path("/proc/self/status").read_text().partition(f"{fact}:")[2].split()[0])


def hostile_file(number: int, seed: int, folder: Path) -> Path:
    """Write file ``number`` of a campaign, by turns a model and a checkpoint."""
    generator = np.random.default_rng([seed, number])
    if number % 2:
        return hostile_checkpoint(folder / "hostile.ckpt", generator)
    return hostile_model(folder / "hostile.safetensors", generator)


def campaign(files: int, seed: int, keep: Path, say: Callable[[str], None]) -> tuple[Counter[str], float, float]:
    """Read ``files`` hostile files and keep the wrong ones: counts, most CPU seconds, most memory in MB."""
    counts: Counter[str] = Counter()
    slowest_s, most_mb = 0.0, 0.0
    for number in range(files):
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            path = hostile_file(number, seed, Path(folder))
            outcome = judge(in_child(path))
            slowest_s, most_mb = max(slowest_s, outcome.cpu_s), max(most_mb, outcome.megabytes)
            right = outcome.verdict in ("read", "refused")
            counts[outcome.verdict if right else "wrong"] += 1
            if not right:
                keep.mkdir(parents=True, exist_ok=True)
                kept = keep / f"model-{seed}-{number}{path.suffix}"
                shutil.copy(path, kept)
                say(f"wrong: {kept}: {outcome.verdict}")
    return counts, slowest_s, most_mb


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-wrong"), help="folder of the files that went wrong")
    parser.add_argument("--bombs", action="store_true", help="read the named bombs, and print what is said of each")
    options = parser.parse_args()
    torch.set_num_threads(1)  # threads do not survive a fork
    if options.bombs:
        print("| file | size, kB | verdict | CPU, s | memory, MB | message |\n|---|---:|---|---:|---:|---|")
        for name, make in BOMBS.items():
            with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
                path = Path(folder) / name
                make(path)
                size = path.stat().st_size / 1000
                outcome = judge(in_child(path))
            message = outcome.message.replace(f"{path}: ", "").replace("\n", " ")[:150]
            figures = f"{size:.1f} | {outcome.verdict} | {outcome.cpu_s:.2f} | {outcome.megabytes:.0f}"
            print(f"| {name} | {figures} | {message} |", flush=True)
        return
    counts, slowest_s, most_mb = campaign(
        options.files, options.seed, options.keep, lambda text: print(text, flush=True)
    )
    print("| files | refused | read | wrong | slowest, s of CPU | most memory, MB |\n|---:|---:|---:|---:|---:|---:|")
    shares = " | ".join(str(counts[what]) for what in ("refused", "read", "wrong"))
    print(f"| {sum(counts.values())} | {shares} | {slowest_s:.2f} | {most_mb:.0f} |")
    sys.exit(1 if counts["wrong"] else 0)


if __name__ == "__main__":
    main()

"""A short run of the soak: real signals at random moments of real commands leave nothing half done."""

import subprocess
import sys

import pytest

from places import ROOT

SCRIPT = ROOT / "benchmarks" / "soak.py"


@pytest.mark.slow
def test_signals_and_kills_leave_nothing_half_done():
    arguments = ["separate", "fetch", "pack", "bench", "--signals", "2", "--kills", "1"]
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split(" (")[0] for line in done.stdout.splitlines()]
    assert lines == [
        "separate: 2 signals", "separate: 1 kills", "fetch: 2 signals", "fetch: 1 kills", "pack: 2 signals",
        "pack: 1 kills", "bench: 2 signals",
    ]  # fmt: skip
    assert done.stdout.count(" 0 wrong") == len(lines)

"""A short run of the soak: real signals at random moments of real commands leave nothing half done."""

import os
import subprocess
import sys

import pytest

from places import ROOT

SCRIPT = ROOT / "benchmarks" / "soak.py"


@pytest.mark.parametrize(
    ("command", "signals", "kills"), [("separate", 8, 2), ("fetch", 5, 1), ("pack", 7, 2), ("bench", 2, 0)]
)
def test_signals_and_kills_leave_nothing_half_done(command: str, signals: int, kills: int):
    arguments = [command, "--signals", str(signals), "--kills", str(kills), "--seed", str(os.getpid())]
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" 0 wrong") == 1 + bool(kills)

"""A short run of the soak: real signals at random moments of real commands leave nothing half done."""

import subprocess
import sys

import pytest

from places import ROOT


def run(script: str, *arguments: str) -> list[str]:
    """The lines that a script of `benchmarks/` printed."""
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_signals_and_kills_leave_nothing_half_done():
    printed = run("soak.py", "separate", "fetch", "pack", "bench", "--signals", "2", "--kills", "1")
    lines = [line.split(" (")[0] for line in printed]
    assert lines == [
        "separate: 2 signals", "separate: 1 kills", "fetch: 2 signals", "fetch: 1 kills", "pack: 2 signals",
        "pack: 1 kills", "bench: 2 signals",
    ]  # fmt: skip
    assert all(" 0 wrong" in line for line in printed)


@pytest.mark.slow
def test_a_killed_server_offers_no_half_stem_and_finishes_its_songs():
    pytest.importorskip("uvicorn")
    assert run("soak_serve.py", "--kills", "2")[-1].startswith("2 kills: 3 of 3 songs done")

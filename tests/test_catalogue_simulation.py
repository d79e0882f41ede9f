"""A small run of the simulation of catalogues: every song ends, and the columns are what their titles say."""

import subprocess
import sys

from places import ROOT


def test_a_small_simulation_ends_every_song_and_copies_only_where_it_may():
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "catalogue_simulation.py"),
        "--songs",
        "600",
        "--workers",
        "60",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    title, *table = done.stdout.splitlines()
    assert title.startswith("600 songs, ") and title.endswith(" hours of music, 60 workers")
    names, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table)
    runs = [dict(zip(names, row, strict=True)) for row in rows]
    assert [run["life of a worker"] for run in runs] == [
        life for life in ("endless", "24 h", "4 h", "1 h") for _ in "abc"
    ]
    assert all(int(run["songs done"]) + int(run["failed"]) == 600 for run in runs)
    assert all(float(run["of the ideal"]) > 1 for run in runs)
    lost = [float(run["work lost"].rstrip("%")) for run in runs]
    assert not any(lost[:3]) and all(lost[-3:])  # by workers that never die, and those that live an hour
    assert [float(run["for copies"].rstrip("%")) > 0 for run in runs] == [True, False, False] * 4

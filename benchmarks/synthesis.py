"""Speed and memory of the song generator: eight songs of three minutes on one core. Prints Markdown.

Run it on a quiet machine: ``.venv/bin/python benchmarks/synthesis.py``. Each song is made once in this process, which
uses one core; the peak of memory is that of a fresh process that makes one song.
"""

import multiprocessing
import resource
import sys
import time

from bandsplit.core.machine import environment
from bandsplit.data.synth.songs import song_title, synthesise_song

SEEDS = (1, 3, 5, 8, 12, 100, 101, 102)
DURATION_S = 180.0


def peak_mb(duration_s: float) -> float:
    """Peak memory of a process that has made one song."""
    synthesise_song(SEEDS[1], duration_s)
    unit = 1e6 if sys.platform == "darwin" else 1e3  # Bytes there, kilobytes elsewhere.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    """Measure everything and print the table."""
    facts = environment()
    # First of all: a process on Linux starts with the peak of the one that starts it.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        least, most = pool.apply(peak_mb, (1.0,)), pool.apply(peak_mb, (DURATION_S,))
    print(f"{facts['cpu']}, one core, Python {facts['python']}\n")
    synthesise_song(0, 3.0)
    print("| seed | song | times real time, wall | CPU |")
    print("|---|---|---:|---:|")
    for seed in SEEDS:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        synthesise_song(seed, DURATION_S)
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        title = song_title(seed, DURATION_S)
        print(f"| {seed} | {title} | {DURATION_S / wall_s:.1f} | {DURATION_S / cpu_s:.1f} |", flush=True)
    print(
        f"\nPeak memory of a process that makes one song: {most:.0f} MB, {most - least:.0f} MB of them for its length."
    )


if __name__ == "__main__":
    main()

"""Simulate catalogues: drawn songs, workers that die, a store with latency, and the schedule that `separate` uses.

Nothing is separated: the clock is simulated, `bandsplit.separation.schedule` is real. Prints a table for
benchmarks/README.md.
"""

import argparse
import heapq
import math
import random
from dataclasses import dataclass

from bandsplit.separation.schedule import End, Schedule

LOAD_S = 60.0
"""Until a worker that died has been started again and has loaded its models."""
SPEED = 20.0
"""Seconds of music that a worker separates in a second."""
LATENCY_S, BYTES_PER_S = 0.08, 100e6
REQUESTS = 8
"""Of a song to the store: its facts, the song itself, four stems, the record, one more."""
MP3_BYTES_PER_S, STEMS_BYTES_PER_S = 24_000, 4 * 110_000
STALLS, STALL_S = 1e-4, 1800.0
"""Share of attempts that stall, at a lost connection or a busy machine, and for how long."""
POLL_S = 5.0


@dataclass
class Result:
    """Sums of a simulated run."""

    songs: int
    failed: int
    wall_s: float
    ideal_s: float
    useful_s: float
    lost_s: float
    copies_s: float


def draw_songs(count: int, draw: random.Random) -> list[float]:
    """Draw lengths: most are songs, one in 500 is a mix of about an hour."""
    return [
        draw.lognormvariate(math.log(3600), 0.3) if draw.random() < 0.002 else draw.lognormvariate(math.log(215), 0.4)
        for _ in range(count)
    ]


def simulate(
    lengths_s: list[float], workers: int, life_h: float, *, seed: int, sort: bool = True, copies: bool = True
) -> Result:
    """Work off songs, of which one in 2000 is broken; one worker in 50 is three times as slow as the others."""
    draw = random.Random(seed)
    broken = [draw.random() < 0.0005 for _ in lengths_s]
    speeds = [SPEED / 3 if worker % 50 == 0 else SPEED for worker in range(workers)]

    def cost_s(song: int, speed: float) -> float:
        traffic = lengths_s[song] * (MP3_BYTES_PER_S + STEMS_BYTES_PER_S) / BYTES_PER_S
        return lengths_s[song] / speed + traffic + sum(draw.expovariate(1 / LATENCY_S) for _ in range(REQUESTS))

    schedule = Schedule(lengths_s if sort else [1.0] * len(lengths_s), attempts=5, copies=copies)
    useful_s = lost_s = copies_s = now = 0.0
    failed = 0
    idle: list[int] = list(range(workers))
    running: dict[int, tuple[int, float]] = {}
    events: list[tuple[float, int, bool]] = []  # when, which worker, and whether it dies then

    while not schedule.finished:
        waiting, idle = idle, []
        for worker in waiting:
            song = schedule.take(worker, now)
            if song is None:
                idle.append(worker)
                continue
            ends = now + (1.0 if broken[song] else cost_s(song, speeds[worker]))
            ends += STALL_S * (draw.random() < STALLS)
            dies = now + (draw.expovariate(1 / (3600 * life_h)) if life_h else math.inf)
            running[worker] = song, now
            heapq.heappush(events, (min(ends, dies), worker, dies < ends))
        if idle and running and events[0][0] > now + POLL_S:
            now += POLL_S
            continue
        now, worker, died = heapq.heappop(events)
        if worker not in running:
            idle.append(worker)  # it has loaded its models
            continue
        song, began = running.pop(worker)
        end = schedule.end(worker, now, done=not (died or broken[song]), lost=died)
        if end is End.DONE:
            useful_s += now - began
        elif end is End.SETTLED:
            copies_s += now - began
        else:
            lost_s += now - began
            failed += end is End.FAILED
        if died:
            heapq.heappush(events, (now + LOAD_S, worker, False))
        else:
            idle.append(worker)
    copies_s += sum(now - began for _, began in running.values())
    rate = sum(speeds)
    ideal_s = sum(cost_s(song, SPEED) for song in range(len(lengths_s)) if not broken[song]) * SPEED / rate
    return Result(len(lengths_s) - failed, failed, now, ideal_s, useful_s, lost_s, copies_s)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=200)
    options = parser.parse_args()
    lengths_s = draw_songs(options.songs, random.Random(0))
    print(f"{options.songs} songs, {sum(lengths_s) / 3600:.0f} hours of music, {options.workers} workers")
    print("| life of a worker | order, copies | songs done | failed | hours | of the ideal | work lost | for copies |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for life_h in (0, 24, 4, 1):
        for sort, copies in ((True, True), (True, False), (False, False)):
            found = simulate(lengths_s, options.workers, life_h, seed=1, sort=sort, copies=copies)
            total = found.useful_s + found.lost_s + found.copies_s
            order = f"{'longest first' if sort else 'as listed'}, {'copies' if copies else 'none'}"
            print(
                f"| {f'{life_h} h' if life_h else 'endless'} | {order} | {found.songs} | {found.failed} "
                f"| {found.wall_s / 3600:.2f} | {found.wall_s / found.ideal_s:.3f} | {found.lost_s / total:.2%} "
                f"| {found.copies_s / total:.3%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

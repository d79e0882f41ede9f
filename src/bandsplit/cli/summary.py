"""Summary of a catalogue: songs, hours, speed, energy, and failures by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

_REASONS = {
    "song": "damaged, or not audio that can be read",
    "fetch": "could not be fetched",
    "room": "had no room in the temporary folder of their machine",
    "output": "results could not be written",
    "time": "took longer than the time limit",
    "worker": "their worker ended",
}


class Summary:
    """Sums over the songs of one command."""

    def __init__(self, skipped: int) -> None:
        """Begin with the number of songs that had been done before."""
        self.skipped, self.done, self.audio_s = skipped, 0, 0.0
        self.kwh: float | None = 0.0
        self.failures: Counter[str] = Counter()

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a song that is done, by its record."""
        self.done += 1
        self.audio_s += record["audio_s"]
        kwh = _kwh(record["wall_s"], record["machine"])
        self.kwh = None if kwh is None or self.kwh is None else self.kwh + kwh

    def as_json(self, wall_s: float) -> dict[str, Any]:
        """Return all sums, for a command that took ``wall_s``."""
        return {
            "status": "summary", "done": self.done, "skipped": self.skipped, "failed": self.failures.total(),
            "audio_h": round(self.audio_s / 3600, 4), "wall_h": round(wall_s / 3600, 4),
            "songs_per_hour": round(self.done * 3600 / wall_s, 1), "kwh_estimated": self.kwh,
            "failures": dict(self.failures),
        }  # fmt: skip

    def lines(self, wall_s: float) -> list[str]:
        """Write the sums for users."""
        energy = "a GPU is not in the table" if self.kwh is None else f"about {self.kwh:.3g} kWh (estimated)"
        lines = [
            f"{self.done} song(s) done, {self.skipped} had been done before, {self.failures.total()} failed",
            f"{self.audio_s / 3600:.2f} hours of music in {wall_s / 3600:.2f} hours: {self.done * 3600 / wall_s:.0f} "
            f"songs per hour; energy: {energy}",
        ]
        return lines + [f"failed: {count} {_REASONS[reason]}" for reason, count in self.failures.most_common()]


def _kwh(wall_s: float, machine: Mapping[str, Any]) -> float | None:
    """Estimate the energy of a song from its time and the share of the machine that computed it.

    Source: Green Algorithms, equation (1).
    """
    from bandsplit.runs.energy.facts import ANY_CORE_W, CORE_POWER, GPU_TDP, find_watts, green_algorithms_kwh

    core, gpu = find_watts(CORE_POWER, machine["cpu"]), find_watts(GPU_TDP, machine["gpu"] or "")
    if machine["gpu"] and gpu is None:
        return None
    return green_algorithms_kwh(
        wall_s / 3600, cores=machine["threads"], core_w=core.watts if core else ANY_CORE_W,
        gpus_w=gpu.watts if gpu else 0.0, memory_gb=machine["memory_gb"] * machine["threads"] / machine["cores"],
    )  # fmt: skip

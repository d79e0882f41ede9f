"""Names of targets and their order in tables."""

from __future__ import annotations

from collections.abc import Iterable

TARGETS = ("vocals", "bass", "drums", "other")
"""The targets of MUSDB18-HQ, in the order of all tables."""


def order_targets(targets: Iterable[str]) -> list[str]:
    """Sort target names: vocals, bass, drums, other, then the rest by name."""
    rank = {name: number for number, name in enumerate(TARGETS)}
    return sorted(set(targets), key=lambda name: (rank.get(name, len(rank)), name))

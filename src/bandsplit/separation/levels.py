"""Normalisation of songs, and averages over altered songs, around the networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

NORMALISED = frozenset({"mono", "joint"})
"""Kinds of normalisation, for which a song is read once before."""

_LEAST = 1e-8
"""Added to the standard deviation, so that silence can be divided by it."""

Estimate = Callable[[np.ndarray], np.ndarray]


class Level(NamedTuple):
    """Mean and scale that a song is normalised by; those of the default change nothing."""

    mean: float = 0.0
    scale: float = 1.0

    def apply(self, signal: np.ndarray) -> np.ndarray:
        """Normalise samples, float32."""
        return signal if self == Level() else ((signal - self.mean) / self.scale).astype(np.float32)

    def undo(self, signal: np.ndarray) -> np.ndarray:
        """Return samples or estimates at the level of the song, float32."""
        return signal if self == Level() else (signal * self.scale + self.mean).astype(np.float32)

    @property
    def silence(self) -> float:
        """The value of digital silence after `apply`."""
        return float(self.apply(np.zeros(1, np.float32))[0])


def measure_level(blocks: Iterable[np.ndarray], kind: str | None) -> Level:
    """Measure the mean and the unbiased standard deviation of a song in blocks ``channels samples``.

    Args:
        blocks: the song.
        kind: of the mean of its channels ("mono"), or of all its samples ("joint").

    Source: docs/numerics.md#inference.
    """
    count, total, squares = 0, 0.0, 0.0
    for block in blocks:
        values = block.mean(axis=0, dtype=np.float64) if kind == "mono" else block.astype(np.float64)
        count += values.size
        total += float(values.sum())
        squares += float(np.square(values).sum())
    variance = (squares - total**2 / count) / (count - 1) if count > 1 else 0.0
    return Level(total / count, max(variance, 0.0) ** 0.5 + _LEAST)


def averaged(estimate: Estimate, tta: Iterable[str]) -> Estimate:
    """Average the estimates of chunks and of altered chunks, whose estimates are altered back.

    Args:
        estimate: turns a batch of chunks ``b c samples`` into estimates ``b s c samples``.
        tta: the alterations: "channels" (in reverse order) and "polarity" (negated).
    """
    alter: list[Estimate] = [{"channels": _reverse_channels, "polarity": np.negative}[name] for name in tta]
    if not alter:
        return estimate

    def mean(batch: np.ndarray) -> np.ndarray:
        total = estimate(batch)
        for change in alter:
            total = total + change(estimate(change(batch)))
        return total / np.float32(1 + len(alter))

    return mean


def _reverse_channels(signal: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(signal[..., ::-1, :])

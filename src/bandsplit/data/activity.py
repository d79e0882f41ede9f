"""Activity detection: which segments of a stem hold sound.

Source: NUMERICS "Activity detection"; BSRNN paper, section IV-A. What the text leaves open is an option here.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from bandsplit.data.musdb import Audio
from bandsplit.strict import Config


class ActivityConfig(Config):
    """How activity is detected. The defaults read the text as other replications do."""

    segment_s: PositiveFloat = 6.0
    """Length of a segment in seconds."""
    overlap: float = Field(default=0.5, ge=0, lt=1)
    """Shared part of consecutive segments, as a fraction."""
    pieces: PositiveInt = 10
    """Equal pieces of a segment whose levels are compared."""
    level: Literal["rms", "mean-square"] = "rms"
    """Level of a piece."""
    quantile: float = Field(default=0.15, ge=0, le=1)
    """Quantile of the levels that is the threshold."""
    quantile_over: Literal["track", "segment"] = "track"
    """Levels that the quantile is taken over; over each segment, as the authors do, it is nearly without effect."""
    floor: PositiveFloat = 1e-3
    """The threshold is never lower."""
    silence: PositiveFloat = 1e-5
    """Level that stands for zero."""
    share: float = Field(default=0.5, ge=0, lt=1)
    """A segment is active when more than this share of its pieces is above the threshold."""
    channels: Literal["any", "all"] = "any"
    """Channels that must be active; ``all``, as the authors have it, loses sources panned to one side."""


AUTHORS = ActivityConfig(quantile_over="segment", channels="all")
"""The authors' released code."""


def active_segments(signal: Audio, sample_rate_hz: int, config: ActivityConfig | None = None) -> NDArray[np.int64]:
    """Return the first sample of every active segment of a stem ``c samples``; all segments lie inside the stem."""
    config = config or ActivityConfig()
    length = round(config.segment_s * sample_rate_hz)
    hop = max(1, round(length * (1 - config.overlap)))
    starts = np.arange(0, signal.shape[-1] - length + 1, hop)
    levels = np.array([_levels(signal[:, start : start + length], config) for start in starts])
    if not len(starts):
        return starts
    axes = (2,) if config.quantile_over == "segment" else (0, 2)
    threshold = np.maximum(np.quantile(levels, config.quantile, axis=axes, keepdims=True), config.floor)
    active = (levels > threshold).mean(axis=2) > config.share
    return starts[active.all(axis=1) if config.channels == "all" else active.any(axis=1)]


def _levels(segment: Audio, config: ActivityConfig) -> NDArray[np.float64]:
    """Levels ``c pieces``."""
    piece = segment.shape[-1] // config.pieces
    pieces = segment[:, : piece * config.pieces].reshape(len(segment), config.pieces, piece)
    power = np.mean(np.square(pieces, dtype=np.float64), axis=-1)
    level = np.sqrt(power) if config.level == "rms" else power
    return np.where(level > 0, level, config.silence)

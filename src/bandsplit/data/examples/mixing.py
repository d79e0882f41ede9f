"""Configuration of how training examples are made from stems, with the paper's policies by name.

Source: docs/numerics.md#training-examples; docs/numerics.md#activity-detection; paper, section IV-A; paper, Table II.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from bandsplit.core.config import Config

Probability = Annotated[float, Field(ge=0, le=1)]


class ActivityConfig(Config):
    """Activity detection. The defaults interpret the text as other replications do."""

    segment_s: PositiveFloat = 6.0
    """Length of a segment in seconds."""
    overlap: float = Field(default=0.5, ge=0, lt=1)
    """Shared part of consecutive segments, as a fraction."""
    pieces: PositiveInt = 10
    """Equal pieces of a segment whose levels are compared."""
    level: Literal["rms", "mean-square"] = "rms"
    """Level of a piece."""
    quantile: Probability = 0.15
    """Quantile of the levels that is the threshold."""
    quantile_over: Literal["track", "segment"] = "track"
    """Levels that the quantile is taken over; over each segment, as the authors do, it has almost no effect."""
    floor: PositiveFloat = 1e-3
    """Lower limit of the threshold."""
    silence: PositiveFloat = 1e-5
    """Level that replaces zero."""
    share: float = Field(default=0.5, ge=0, lt=1)
    """A segment is active when more than this share of its pieces is above the threshold."""
    channels: Literal["any", "all"] = "any"
    """Channels that must be active; ``all``, the authors' choice, loses sources panned to one side."""


AUTHORS = ActivityConfig(quantile_over="segment", channels="all")
"""The authors' released code."""

ACTIVITY_MODES = {"default": ActivityConfig(), "authors": AUTHORS}


class LinearGain(Config):
    """A factor drawn uniformly."""

    kind: Literal["linear"] = "linear"
    low: PositiveFloat = 0.25
    """Smallest factor."""
    high: PositiveFloat = 1.25
    """Largest factor."""


class DbGain(Config):
    """A level change in dB drawn uniformly."""

    kind: Literal["db"] = "db"
    low: float = -10.0
    """Lowest, in dB."""
    high: float = 10.0
    """Highest, in dB."""


# Lowest and highest value of each range of an augmentation.
_LIMITS = {"pitch_semitones": (-12, 12), "tempo_factor": (0.5, 2), "low_pass_hz": (20, 20_000), "mp3_kbps": (8, 320)}


class AugmentConfig(Config):
    """Augmentations of excerpts, with their probabilities and strengths; all are off by default."""

    polarity_probability: Probability = 0.0
    """Probability of inverting the polarity of a stem."""
    pitch_probability: Probability = 0.0
    """Probability of shifting the pitch of a stem; needs the extra ``augment``."""
    pitch_semitones: tuple[float, float] = (-2.0, 2.0)
    """Pitch shift, drawn uniformly; formants shift with it."""
    tempo_probability: Probability = 0.0
    """Probability of changing the tempo of a stem; needs the extra ``augment``."""
    tempo_factor: tuple[float, float] = (0.9, 1.1)
    """Tempo as a multiple of the original, drawn uniformly; above 1 is faster. The pitch stays."""
    retune_probability: Probability = 0.0
    """Probability of changing both pitch, by an integer number of semitones in ``pitch_semitones``, and tempo, by a
    factor from a normal distribution around 1 with a deviation of 0.05, kept within ``tempo_factor``; needs the extra
    ``augment``. The two changes above are then left out."""
    low_pass_probability: Probability = 0.0
    """Probability of a low-pass filter (Butterworth, 24 dB per octave) on a stem; needs the extra ``augment``."""
    low_pass_hz: tuple[float, float] = (2000.0, 16000.0)
    """Cutoff (-3 dB), drawn log-uniformly; one above half the sample rate changes nothing."""
    mp3_probability: Probability = 0.0
    """Probability of encoding the mixture as MP3 and decoding it. The targets stay clean: models learn to undo it."""
    mp3_kbps: tuple[float, float] = (64.0, 320.0)
    """Constant bit rate of all channels together in kbit/s, drawn log-uniformly and rounded to the nearest one that MP3
    supports at the sample rate: at most 160 below 32 kHz, 64 below 16 kHz."""

    @field_validator(*_LIMITS)
    @classmethod
    def _in_order(cls, value: tuple[float, float], info: ValidationInfo) -> tuple[float, float]:
        lowest, highest = _LIMITS[str(info.field_name)]
        if not lowest <= value[0] <= value[1] <= highest:
            raise ValueError(f"must be (low, high), with {lowest} <= low <= high <= {highest}")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.retune_probability and not self.integer_semitones:
            raise ValueError(f"pitch_semitones: {self.pitch_semitones} has no integer for retune_probability")
        return self

    @property
    def integer_semitones(self) -> range:
        """Integer numbers of semitones that a pitch may be shifted by."""
        return range(math.ceil(self.pitch_semitones[0]), math.floor(self.pitch_semitones[1]) + 1)


class MixingConfig(Config):
    """Policy for mixing stems to examples. The defaults are row 1 of Table II as the authors ran it."""

    activity: ActivityConfig | None = AUTHORS
    """Draw from active segments only; null draws from entire songs."""
    pairing: Literal["once", "epoch", "free", "groups"] = "once"
    """Combination of stems: by one shuffle for the entire run, by one per epoch, drawn for every example, or by
    exchanging the stems of four places in songs between four examples, with up to a second between those of a place."""
    gain: Annotated[LinearGain | DbGain, Field(discriminator="kind")] = DbGain()
    """Level of each stem."""
    swap_probability: Probability = 0.0
    """Probability of reversing the channels of each stem."""
    drop: Literal["all", "target", "none"] = "all"
    """Stems that may be dropped: all, only the targets, or none."""
    drop_probability: Probability = 0.1
    """Probability of dropping each of them."""
    peak_normalise: bool = True
    """Divide mixture and targets by their common peak."""
    same_song_probability: Probability = 0.0
    """Probability that all stems of an example come from one place in one song; the paper always mixes songs."""
    augment: AugmentConfig = AugmentConfig()
    """Further augmentations; the paper uses none."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.gain.low > self.gain.high:
            raise ValueError(f"gain: low {self.gain.low:g} is above high {self.gain.high:g}; give the smaller first")
        if self.pairing == "groups" and self.activity:
            raise ValueError("activity: stems of a place are not chosen by activity; pairing 'groups' needs null")
        return self


class UnlabelledConfig(Config):
    """Use of unlabelled songs, which a teacher separates. The publication states the rule and its threshold only.

    Source: BSRNN paper.
    """

    share: Probability = 0.5
    """Probability that the target of an example, and likewise its residual, comes from an unlabelled song."""
    threshold_db: PositiveFloat = 30.0
    """A segment is a clean residual if its mixture has this much more energy than the estimated target, and a clean
    target if it has this much more than the estimated residual."""
    quietest_db: float | None = -60.0
    """Level (RMS, of full scale) below which a segment is not used, as activity detection does for stems; null uses
    all."""
    segment_s: PositiveFloat = 6.0
    """Length of the segments of a song that are separated and judged. Examples are drawn inside them."""
    context_s: NonNegativeFloat = 1.0
    """Seconds before and after a segment that the teacher sees, too."""
    same_segment_probability: Probability = 0.0
    """Probability that target and residual come from one place in one segment, as in the song; otherwise each is drawn
    by itself."""
    gain: bool = True
    """Draw a level for pseudo-stems as for stems, by ``mixing.gain``."""
    drop: bool = True
    """Drop pseudo-stems as ``mixing.drop`` says; a residual counts as one stem."""


UMX_LIKE: dict[str, object] = {
    "drop": "none",
    "pairing": "free",
    "peak_normalise": False,
    "activity": None,
    "gain": {"kind": "linear", "low": 0.25, "high": 1.25},
    "swap_probability": 0.5,
}
"""All changes from row 1 to row 19, in the order of the ladder between them."""

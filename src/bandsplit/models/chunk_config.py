"""Configurations of the methods that cut songs into chunks."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

from bandsplit.core.config import Config, Grown


class _Plan(Config, Grown):
    """Settings that every method has."""

    ADDED: ClassVar = ("normalise", "tta")

    normalise: Literal["none", "mono", "joint"] | None = None
    """Normalisation of the song, undone afterwards: by mean and standard deviation of the mean of its channels
    (``mono``, Demucs), or of all its samples (``joint``, KUIELab-MDX-Net). Null: as the model's authors did."""
    tta: tuple[Literal["channels", "polarity"], ...] = ()
    """Test-time averaging: mean with the estimates of the song with its channels exchanged, and of the song negated."""

    @model_validator(mode="after")
    def _check_tta(self) -> Self:
        if len(set(self.tta)) < len(self.tta):
            raise ValueError(f"tta: {', '.join(self.tta)} names one twice; name each once")
        return self

    @property
    def times(self) -> int:
        """The work, as a multiple of that without averages."""
        return 1 + len(self.tta)


class CrossfadeConfig(_Plan):
    """Chunks that share an overlap with linear fades (paper, section IV-E)."""

    kind: Literal["crossfade"] = "crossfade"
    chunk_s: PositiveFloat = 10.0
    """Nominal chunk length in seconds."""
    overlap: float = Field(default=0.1, gt=0, lt=0.5)
    """Shared part, as a fraction of the chunk length."""
    geometry: Literal["authors", "even"] = "authors"
    """``authors``: their overlap lies outside the chunk (11 s, then 12 s). ``even``: all chunks have one length."""


class OverlapAddConfig(_Plan):
    """Rectangular windows at a fixed hop, divided by the sum of weights (paper, section IV-E)."""

    kind: Literal["overlap-add"] = "overlap-add"
    chunk_s: PositiveFloat = 3.0
    """Chunk length in seconds."""
    hop_s: PositiveFloat = 0.5
    """Hop in seconds, at most the chunk length."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hop_s > self.chunk_s:
            raise ValueError(f"hop_s {self.hop_s:g} leaves gaps between chunks of chunk_s {self.chunk_s:g}")
        return self


class FadedConfig(_Plan):
    """Chunks with linear fades, divided by the sum of weights: ``demix`` of ZFTurbo's training software (MSST)."""

    kind: Literal["faded"] = "faded"
    chunk_s: PositiveFloat = 8.0
    """Chunk length in seconds; a tenth of it fades in, a tenth out."""
    overlaps: int = Field(default=2, ge=1, le=1000)
    """Chunks over each sample: the hop is this fraction of the chunk."""
    exact_batch: PositiveInt | None = None
    """Compute what the original computes with this batch size: there, all chunks of the last batch end without a fade,
    and the first chunk fades in unless it is alone in its batch. Null: only the first chunk begins and the last ends
    without a fade, whatever the batch."""


class FoldedConfig(_Plan):
    """Rectangular chunks at a fraction of their length, averaged (KUIELab's TFC-TDF, UVR)."""

    kind: Literal["folded"] = "folded"
    chunk_s: PositiveFloat
    """Chunk length in seconds."""
    overlaps: int = Field(default=8, ge=1, le=1000)
    """Chunks over each sample."""


class HammingConfig(_Plan):
    """Chunks under a Hamming window, divided by the sum of weights (python-audio-separator)."""

    kind: Literal["hamming"] = "hamming"
    chunk_s: PositiveFloat = 8.0
    """Chunk length in seconds."""
    hop_s: PositiveFloat = 8.0
    """Hop in seconds; chunks do not overlap if it is not less than the chunk length."""


class _WithContext(_Plan):
    """Neighbouring chunks whose ends are only context."""

    chunk_s: PositiveFloat
    """Chunk length in seconds, context included."""
    trim_s: PositiveFloat
    """Context at each end in seconds, less than half the chunk."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.trim_s * 2 >= self.chunk_s:
            raise ValueError(f"trim_s {self.trim_s:g} leaves nothing of chunks of chunk_s {self.chunk_s:g}")
        return self


class TrimmedConfig(_WithContext):
    """Neighbouring chunks whose ends are only context, zeros around the song included (DTTNet, KUIELab-MDX-Net)."""

    kind: Literal["trimmed"] = "trimmed"


class BoundedConfig(_WithContext):
    """Neighbouring chunks with context from the song alone: the first and the last are shorter (CWS-PResUNet)."""

    kind: Literal["bounded"] = "bounded"


class JoinedConfig(_Plan):
    """Chunks that overlap by half, joined with triangular crossfades as by ffmpeg (DTTNet, "overlap-add")."""

    kind: Literal["joined"] = "joined"
    chunk_s: PositiveFloat
    """Chunk length in seconds."""
    sixteen_bits: bool = False
    """Round and clip the estimates of chunks to 16 bits before they are joined, and the song after it, as the original
    does."""


class TriangleConfig(_Plan):
    """Chunks under a triangle, in the middle of longer pieces of the song, divided by the sum of weights (Demucs)."""

    kind: Literal["triangle"] = "triangle"
    chunk_s: PositiveFloat = 7.8
    """Chunk length in seconds."""
    overlap: float = Field(default=0.25, ge=0, lt=1)
    """Shared part of neighbouring chunks, as a fraction of the chunk length."""
    power: PositiveFloat = 1.0
    """Power of the triangle."""
    multiple_samples: NonNegativeInt = 1
    """The network sees pieces of the song whose lengths plus ``less_samples`` are multiples of this, with the chunk in
    the middle. 0: all pieces are as long as a complete chunk, the last one, too."""
    less_samples: NonNegativeInt = 0
    """Samples by which the pieces fall short of a multiple."""
    shifts: int = Field(default=1, ge=1, le=100)
    """Separations whose mean is the result: their chunks begin with the song, or before it by multiples of an equal
    part of 0.5 s."""

    @property
    def times(self) -> int:
        """The work, as a multiple of that without averages."""
        return super().times * self.shifts


ChunkConfig = Annotated[
    CrossfadeConfig
    | OverlapAddConfig
    | FadedConfig
    | FoldedConfig
    | HammingConfig
    | TrimmedConfig
    | BoundedConfig
    | JoinedConfig
    | TriangleConfig,
    Field(discriminator="kind"),
]

"""Configurations of the methods that cut songs into chunks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator
from typing_extensions import Self

from bandsplit.core.config import Config


class CrossfadeConfig(Config):
    """Chunks that share an overlap with linear fades (paper, section IV-E)."""

    kind: Literal["crossfade"] = "crossfade"
    chunk_s: PositiveFloat = 10.0
    """Nominal chunk length in seconds."""
    overlap: float = Field(default=0.1, gt=0, lt=0.5)
    """Shared part, as a fraction of the chunk length."""
    geometry: Literal["authors", "even"] = "authors"
    """``authors``: their overlap lies outside the chunk (11 s, then 12 s). ``even``: all chunks have one length."""


class OverlapAddConfig(Config):
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


ChunkConfig = Annotated[CrossfadeConfig | OverlapAddConfig, Field(discriminator="kind")]

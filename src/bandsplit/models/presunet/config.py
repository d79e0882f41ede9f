"""Models of the family as data: frozen, strict (an unknown key is an error), documented under each field.

Source: docs/presunet.md#forward-pass; CWS-PResUNet paper.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from bandsplit.audio.stft_config import StftConfig
from bandsplit.core.config import Size
from bandsplit.models.chunk_config import BoundedConfig, ChunkConfig
from bandsplit.models.contract import Geometry, ModelConfig

SUBBANDS = 4
"""Bands of the filter bank, each at this fraction of the sample rate."""
TAPS = 64
"""Length of its filters in samples at the full rate."""
PARTS = 4
"""Images that a head estimates: logits of the mask, real and imaginary part of the rotation, residual magnitude."""
HEAD_BLOCKS = 4
"""Residual blocks of a head."""
BOTTLENECK = 4
"""Groups of residual blocks at the coarsest level."""


class PresunetConfig(ModelConfig):
    """A residual U-Net on the magnitudes of subbands; each target has a head of its own."""

    family: Literal["presunet"] = "presunet"
    """Kind of network."""
    stft: StftConfig = StftConfig(n_fft=512, hop_samples=110)
    """Transform of each subband, in samples of a subband."""
    widths: Annotated[tuple[Size, ...], Field(min_length=1, max_length=10)] = (32, 64, 128, 256, 384, 384)
    """Features of each level, the finest first; behind each, frames and bins are halved."""
    n_blocks: int = Field(default=8, ge=1, le=100)
    """Residual blocks of a group: 8 in the published model of vocals, 4 in that of the other targets."""
    plan: ChunkConfig = BoundedConfig(chunk_s=13.0, trim_s=1.5)
    """Published way to cut songs."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        step = 2 ** len(self.widths)
        if self.bins % step:
            raise ValueError(
                f"widths: {len(self.widths)} levels need half of stft.n_fft to be a multiple of {step}, is "
                f"{self.bins}; use fewer levels or another n_fft"
            )
        return self

    @property
    def bins(self) -> int:
        """Bins of a subband that the network estimates: all but the highest."""
        return self.stft.n_fft // 2

    @property
    def image_channels(self) -> int:
        """Subbands of all channels."""
        return SUBBANDS * self.channels

    @property
    def geometry(self) -> Geometry:
        """All lengths whose subbands are long enough to be reflected; the authors' plan."""
        best_s = self.plan.chunk_s
        return Geometry(self.plan, best_s=best_s, least_samples=SUBBANDS * (self.stft.n_fft // 2 + 1))

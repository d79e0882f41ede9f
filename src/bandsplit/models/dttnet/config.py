"""Models of the family as data: frozen, strict (an unknown key is an error), documented under each field.

Source: docs/dttnet.md#forward-pass; DTTNet paper.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bandsplit.core.config import Config, Size
from bandsplit.models.chunk_config import ChunkConfig, TrimmedConfig
from bandsplit.models.layers.tfc_tdf_v2_config import UnetConfig
from bandsplit.models.layers.unet_model_config import UnetModelConfig

FEATURES_OF_A_GROUP = 16
"""Of the normalisation in front of the recurrent layers."""


class DualPathConfig(Config):
    """Recurrent layers at the bottleneck: along the frames of each bin, then along the bins of each frame."""

    rnn: Literal["lstm", "gru"] = "lstm"
    """Kind of the recurrent layers."""
    bidirectional: bool = True
    """Whether they run in both directions."""
    layers: int = Field(default=4, ge=1, le=100)
    """Pairs of layers."""
    heads: Size = 2
    """Groups into which the features are split, with shared weights; divides the features of the bottleneck."""


class DttnetConfig(UnetModelConfig):
    """One U-Net from the spectrogram of the mixture to that of one target, with a dual path at its bottleneck."""

    family: Literal["dttnet"] = "dttnet"
    """Kind of network."""
    unet: UnetConfig = UnetConfig()
    """The U-Net."""
    dual_path: DualPathConfig = DualPathConfig()
    """Recurrent layers at its bottleneck."""
    plan: ChunkConfig = TrimmedConfig(chunk_s=261_120 / 44_100, trim_s=3072 / 44_100)
    """Published way to cut songs."""

    def _problem(self) -> str | None:
        return super()._problem() or self._heads_problem()

    def _heads_problem(self) -> str | None:
        all_features, heads = self.unet.features_at(self.unet.levels), self.dual_path.heads
        per_head = all_features // heads
        if all_features % heads:
            legal = ", ".join(str(n) for n in range(1, all_features + 1) if all_features % n == 0)
            return f"dual_path.heads: {heads} does not divide the {all_features} features; legal: {legal}"
        if per_head < FEATURES_OF_A_GROUP or per_head % (per_head // FEATURES_OF_A_GROUP):
            return (
                f"dual_path.heads: {heads} of {per_head} features cannot be normalised: a head needs at least "
                f"{FEATURES_OF_A_GROUP}, in groups of {FEATURES_OF_A_GROUP}; change heads or unet.n_features"
            )
        return None

    @property
    def head_features(self) -> int:
        """Features of a head of the recurrent layers."""
        return self.unet.features_at(self.unet.levels) // self.dual_path.heads

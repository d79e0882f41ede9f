"""Models of the family as data: frozen, strict (an unknown key is an error), documented under each field.

Source: docs/dttnet.md#forward-pass; DTTNet paper.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from bandsplit.audio.stft_config import StftConfig
from bandsplit.core.config import Config, Size
from bandsplit.models.chunk_config import ChunkConfig, TrimmedConfig
from bandsplit.models.contract import Geometry, ModelConfig
from bandsplit.models.layers.tfc_tdf_v2_config import UnetConfig

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


class DttnetConfig(ModelConfig):
    """One U-Net from the spectrogram of the mixture to that of one target."""

    family: Literal["dttnet"] = "dttnet"
    """Kind of network."""
    stft: StftConfig = StftConfig(n_fft=6144, hop_samples=1024)
    """Time-frequency representation."""
    bins: Size = 2048
    """Lowest bins, which the network sees and estimates; the others are zero in the estimate."""
    unet: UnetConfig = UnetConfig()
    """The U-Net."""
    dual_path: DualPathConfig = DualPathConfig()
    """Recurrent layers at its bottleneck."""
    plan: ChunkConfig = TrimmedConfig(chunk_s=261_120 / 44_100, trim_s=3072 / 44_100)
    """Published way to cut songs."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for problem in (self._target_problem(), self._bins_problem(), self._heads_problem()):
            if problem:
                raise ValueError(problem)
        return self

    def _target_problem(self) -> str | None:
        if len(self.targets) > 1:
            return f"targets: {', '.join(self.targets)} are {len(self.targets)}, and a model estimates 1; name one"
        return None

    def _bins_problem(self) -> str | None:
        most = self.stft.n_fft // 2 + 1
        if self.bins > most:
            return f"bins: {self.bins} are more than the {most} of n_fft {self.stft.n_fft}; legal: 1 to {most}"
        return self.unet.bins_problem(self.bins)

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

    @property
    def image_channels(self) -> int:
        """Real and imaginary parts of all channels."""
        return 2 * self.channels

    @property
    def geometry(self) -> Geometry:
        """Lengths whose frames can be halved at each level; the authors' plan, whose chunks have the best length."""
        hop = self.stft.hop_samples
        return Geometry(
            self.plan,
            best_s=self.plan.chunk_s,
            least_samples=self.stft.n_fft // 2 + 1,  # so that there is enough to reflect
            multiple_samples=hop * 2**self.unet.levels,
            less_samples=hop,
        )

    @property
    def loss_stft(self) -> StftConfig:
        """Transform of the estimates."""
        return self.stft

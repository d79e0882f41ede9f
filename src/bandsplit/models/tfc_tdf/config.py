"""TFC-TDF UNets as data: frozen, strict (an unknown key is an error), documented under each field.

Source: docs/tfc-tdf.md#configuration.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator
from typing_extensions import Self

from bandsplit.audio.stft_config import StftConfig
from bandsplit.core.config import Config, Size
from bandsplit.models.chunk_config import ChunkConfig, FoldedConfig
from bandsplit.models.contract import Geometry, ModelConfig

# --- normalisation ---------------------------------------------------------------------------------------------------


class InstanceNorm(Config):
    """Each feature of an item over frames and bins, at inference too: estimates depend on the length of chunks."""

    kind: Literal["instance"] = "instance"


class BatchNorm(Config):
    """Each feature over items, frames and bins in training; running statistics at inference."""

    kind: Literal["batch"] = "batch"


class GroupNorm(Config):
    """Each group of features of an item over frames and bins."""

    kind: Literal["group"] = "group"
    groups: Size
    """Number of groups; divides ``n_features`` and ``growth``."""


NormConfig = Annotated[InstanceNorm | BatchNorm | GroupNorm, Field(discriminator="kind")]

# --- activation ------------------------------------------------------------------------------------------------------


class Gelu(Config):
    """Exact GELU."""

    kind: Literal["gelu"] = "gelu"


class Relu(Config):
    """Rectified linear unit."""

    kind: Literal["relu"] = "relu"


class Elu(Config):
    """Exponential linear unit."""

    kind: Literal["elu"] = "elu"
    alpha: PositiveFloat = 1.0
    """Minus its lowest value."""


ActivationConfig = Annotated[Gelu | Relu | Elu, Field(discriminator="kind")]

# --- the model -------------------------------------------------------------------------------------------------------


class TfcTdfConfig(ModelConfig):
    """A U-Net that maps the spectrogram of the mixture to those of all targets (TFC-TDF-UNet v3 report)."""

    family: Literal["tfc_tdf"] = "tfc_tdf"
    stft: StftConfig = StftConfig(n_fft=8192, hop_samples=1024)
    """Transform of the mixture and of the estimates."""
    n_bins: Size = 4096
    """Lowest bins that the network sees and estimates; the others are zero in the estimates."""
    n_subbands: Size = 4
    """Equal ranges of bins, which become channels; divides ``n_bins``."""
    n_features: Size = 128
    """Features at the finest scale."""
    growth: int = Field(default=128, ge=0, le=1_000_000)
    """Features that each coarser scale has more."""
    n_scales: int = Field(default=5, ge=1, le=16)
    """Scales above the coarsest one."""
    scale_frames: int = Field(default=2, ge=1, le=1000)
    """Factor between the frames of neighbouring scales."""
    scale_bins: int = Field(default=2, ge=1, le=1000)
    """Factor between the bins of neighbouring scales."""
    n_blocks: int = Field(default=2, ge=1, le=100)
    """TFC-TDF blocks in a row, at each scale of encoder and decoder and at the coarsest."""
    bottleneck_factor: Size = 4
    """Factor by which the two linear layers along frequency are narrower between them."""
    norm: NormConfig | None = InstanceNorm()
    """Normalisation in front of each layer; null: none."""
    activation: ActivationConfig = Gelu()
    """Activation in front of each layer."""
    plan: ChunkConfig = FoldedConfig(chunk_s=255 * 1024 / 44100, overlaps=8)
    """Plan that its authors separated with: chunks of (frames - 1) hops."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        most = self.stft.n_fft // 2 + 1
        if self.n_bins > most:
            raise ValueError(f"n_bins: {self.n_bins} is more than n_fft {self.stft.n_fft} has; legal: 1 to {most}")
        factor = self.n_subbands * self.scale_bins**self.n_scales
        if self.n_bins % factor:
            near = self.n_bins // factor * factor
            legal = " and ".join(str(bins) for bins in (near, near + factor) if 1 <= bins <= most)
            raise ValueError(
                f"n_bins: {self.n_bins} is not a multiple of {factor}, which is n_subbands {self.n_subbands} times "
                f"scale_bins {self.scale_bins} to the power of n_scales {self.n_scales}; the nearest: {legal or 'none'}"
            )
        coarsest = self.bins_at(self.n_scales)
        if self.bottleneck_factor > coarsest:
            raise ValueError(
                f"bottleneck_factor: {self.bottleneck_factor} leaves nothing of the {coarsest} bins of the coarsest "
                f"scale; legal: 1 to {coarsest}"
            )
        return self

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        if isinstance(self.norm, GroupNorm):
            for name, features in (("n_features", self.n_features), ("growth", self.growth)):
                if features % self.norm.groups:
                    raise ValueError(f"norm.groups: {self.norm.groups} does not divide {name} {features}")
        return self

    @property
    def image_channels(self) -> int:
        """Channels of the network's input: real and imaginary parts of the subbands of all channels."""
        return 2 * self.channels * self.n_subbands

    def features_at(self, scale: int) -> int:
        """Return the number of features at a scale, 0 being the finest."""
        return self.n_features + scale * self.growth

    def bins_at(self, scale: int) -> int:
        """Return the number of bins of a subband at a scale, 0 being the finest."""
        return self.n_bins // self.n_subbands // self.scale_bins**scale

    @property
    def geometry(self) -> Geometry:
        """Lengths whose frames the scales divide, one frame more than hops; long enough for reflect padding."""
        hop = self.stft.hop_samples
        multiple = hop * self.scale_frames**self.n_scales
        least = self.stft.n_fft // 2 + 1
        if self.bins_at(self.n_scales) // self.bottleneck_factor == 1:
            least = max(least, multiple - hop + 1)  # two frames at the coarsest scale: one number has no variance
        return Geometry(
            self.plan,
            best_s=self.plan.chunk_s,
            least_samples=least,
            multiple_samples=multiple,
            less_samples=hop,
        )

    @property
    def loss_stft(self) -> StftConfig:
        """Transform of the estimated spectrograms."""
        return self.stft

"""RoFormers as data: band layout, sizes of the transformers, masks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self, assert_never

from bandsplit.audio.stft_config import StftConfig
from bandsplit.core.config import Config, Size
from bandsplit.core.errors import ConfigError
from bandsplit.models.bs_roformer.bands import PUBLISHED_WIDTHS, mel_runs, tiled_runs
from bandsplit.models.chunk_config import ChunkConfig, FadedConfig
from bandsplit.models.contract import Geometry, ModelConfig
from bandsplit.models.layers.bands import BandRun

Depth = Annotated[int, Field(ge=1, le=1000)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


class BinBands(Config):
    """Adjacent bands (BS-RoFormer)."""

    kind: Literal["bins"] = "bins"
    widths: tuple[Size, ...] = Field(default=PUBLISHED_WIDTHS, min_length=1, max_length=1000)
    """Bins of each band, low to high; they sum to ``n_fft / 2 + 1``."""


class MelBands(Config):
    """Bands that overlap by half, from a mel filter bank (Mel-Band RoFormer). A bin gets the mean of their masks."""

    kind: Literal["mel"] = "mel"
    n_bands: int = Field(default=60, ge=1, le=1000)
    """Number of bands."""


class MaskConfig(Config):
    """The multi-layer perceptron that turns a band's features into its mask."""

    hidden_factor: Size = 4
    """Hidden size, as a multiple of the feature dimension."""
    hidden_layers: int = Field(default=1, ge=0, le=100)
    """Hidden layers: 1 in published BS-RoFormers, 2 in Mel-Band RoFormers. Both call it a depth of 2: the first counts
    linear layers, the second hidden ones."""


class BsRoformerConfig(ModelConfig):
    """One BS-RoFormer or Mel-Band RoFormer. The defaults are the BS-RoFormer paper's sizes for MUSDB18."""

    family: Literal["bs_roformer"] = "bs_roformer"
    """Kind of network."""
    bands: Annotated[BinBands | MelBands, Field(discriminator="kind")] = BinBands()
    """Band layout."""
    stft: StftConfig = StftConfig(n_fft=2048, hop_samples=441)
    """Time-frequency representation."""
    n_features: Size = 384
    """Feature dimension of every band."""
    n_blocks: Depth = 6
    """Number of blocks."""
    heads: Size = 8
    """Heads of the attention."""
    head_features: int = Field(default=48, ge=2, le=1_000_000, multiple_of=2)
    """Features of a head; even, since they rotate in pairs. ``heads * head_features`` need not be ``n_features``."""
    linear_layers: int = Field(default=0, ge=0, le=1000)
    """Layers of linear attention over all frames and bands at the start of each block."""
    time_layers: Depth = 1
    """Layers of attention along the frames in each block."""
    band_layers: Depth = 1
    """Layers of attention along the bands in each block."""
    norm: Literal["final", "each"] = "final"
    """Where outputs are normalised. ``final``: once after all blocks (BS-RoFormer). ``each``: at the end of each
    transformer (Mel-Band RoFormer)."""
    skip_connections: bool = False
    """Add the outputs of all previous blocks to the input of each block."""
    attention_dropout: Dropout = 0.0
    """Dropout of the attention in training."""
    feed_forward_dropout: Dropout = 0.0
    """Dropout of the feed-forward networks in training."""
    mask: MaskConfig = MaskConfig()
    """Mask estimators."""
    zero_dc: bool = True
    """Set the lowest bin of all estimates to zero."""
    plan: ChunkConfig = FadedConfig()
    """Plan that its authors separated with."""

    @model_validator(mode="after")
    def _check_bands(self) -> Self:
        try:
            self.band_runs()
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def geometry(self) -> Geometry:
        """Any length; chunks as long as the plan's, since attention was trained on such lengths."""
        return Geometry(self.plan, best_s=self.plan.chunk_s)

    @property
    def n_bins(self) -> int:
        """Number of bins of a spectrogram."""
        return self.stft.n_fft // 2 + 1

    @property
    def n_bands(self) -> int:
        """Number K of bands."""
        return sum(run.count for run in self.band_runs())

    def band_runs(self) -> list[BandRun]:
        """Return the bands as runs of equal width."""
        match self.bands:
            case BinBands():
                return tiled_runs(self.bands.widths, self.n_bins)
            case MelBands():
                return mel_runs(self.bands.n_bands, self.stft.n_fft, self.sample_rate_hz)
            case _:
                assert_never(self.bands)

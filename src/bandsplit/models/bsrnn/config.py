"""Band-split models as data: frozen, strict (an unknown key is an error), documented under each field.

Variants are unions tagged by ``kind``; `bandsplit.models.bsrnn.build` turns each case into a module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, WrapValidator, field_validator, model_validator
from typing_extensions import Self

from bandsplit.audio.stft_config import StftConfig
from bandsplit.core.config import Config, Size
from bandsplit.core.errors import ConfigError
from bandsplit.models.bsrnn.bands import SCHEMES, Scheme, band_runs
from bandsplit.models.chunk_config import CrossfadeConfig
from bandsplit.models.contract import Geometry, ModelConfig
from bandsplit.models.layers.bands import BandRun, range_runs

# --- sequence layers -------------------------------------------------------------------------------------------------


class LstmConfig(Config):
    """One bidirectional LSTM layer between a group normalisation and a linear layer (paper, section III-A)."""

    kind: Literal["lstm"] = "lstm"
    hidden_factor: Size = 2
    """Hidden size per direction, as a multiple of the feature dimension."""


class GruConfig(Config):
    """One bidirectional GRU layer instead of the LSTM (paper, section III-B2)."""

    kind: Literal["gru"] = "gru"
    hidden_factor: Size = 2
    """Hidden size per direction, as a multiple of the feature dimension."""


class ConvConfig(Config):
    """One plain convolution instead of the LSTM (paper, section III-B2)."""

    kind: Literal["conv"] = "conv"
    hidden_factor: Size = 4
    """Channels of the convolution, as a multiple of the feature dimension."""
    kernel: Size = 3
    """Kernel length in positions; odd, so that the padding is symmetric."""

    _odd = field_validator("kernel")(lambda value: _check_odd(value))


class DilatedConfig(Config):
    """A stack of dilated convolutions with recurrent fusion: BSCNN (paper, section III-B2 and Fig. 1-E)."""

    kind: Literal["dilated"] = "dilated"
    depth: int = Field(default=3, ge=1, le=16)
    """Number of dilated convolutions; the l-th has dilation 2**l."""
    kernel: Size = 3
    """Kernel length in positions; odd, so that the padding is symmetric."""
    hidden_factor: Size = 1
    """Channels of the stack, as a multiple of the feature dimension."""

    _odd = field_validator("kernel")(lambda value: _check_odd(value))


def _check_odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"must be odd; {value - 1} and {value + 1} are legal")
    return value


LayerConfig = Annotated[LstmConfig | GruConfig | ConvConfig | DilatedConfig, Field(discriminator="kind")]

# --- stereo ----------------------------------------------------------------------------------------------------------


class IndependentStereo(Config):
    """Every channel is a batch item of its own: any number of channels (paper, section III-A)."""

    kind: Literal["independent"] = "independent"


class MergedStereo(Config):
    """The paper's "naive" stereo: the channels of a band are projected together (section III-B1)."""

    kind: Literal["merged"] = "merged"


class TacStereo(Config):
    """Transform-average-concatenate after each block's sequence layers (section III-B1)."""

    kind: Literal["tac"] = "tac"
    activation: Literal["tanh", "prelu"] = "prelu"
    """One PReLU slope is shared by the three linear layers."""
    hidden_factor: Size = 3
    """Hidden size, as a multiple of the feature dimension."""
    norm: bool = False
    """Group normalisation in front, as in the SIMO-BSRNN lineage; the paper's model has none."""


StereoConfig = Annotated[IndependentStereo | MergedStereo | TacStereo, Field(discriminator="kind")]

# --- the model -------------------------------------------------------------------------------------------------------


class AttentionConfig(Config):
    """Self-attention over frames at the end of each block (paper, section III-B3)."""

    heads: Size = 1
    """Number of heads; divides ``n_features``."""
    encoding_dim: Size = 8
    """Features per band of queries and keys."""


class MaskConfig(Config):
    """The multi-layer perceptron that turns a band's features into its mask (paper, section III-A)."""

    hidden_factor: Size = 4
    """Hidden size as a multiple of the feature dimension: the paper's mu."""
    hidden_layers: int = Field(default=2, ge=1, le=100)
    """Hidden layers. The BSRNN text reads as one; two reproduce the published sizes."""
    context: int = Field(default=0, ge=0, le=1000)
    """Neighbouring bins of the full-band mixture on either side that each estimated bin may draw from."""


def _divisors(n: int) -> str:
    return ", ".join(str(divisor) for divisor in range(1, n + 1) if n % divisor == 0)


class BinBands(Config):
    """Bands as ranges of bins. A bin of several bands gets the mean of their masks."""

    kind: Literal["bins"] = "bins"
    ranges: tuple[tuple[int, int], ...] = Field(min_length=1, max_length=1000)
    """(first bin, first bin after it) of each band; every bin of the transform is in at least one."""


_SCHEME = TypeAdapter(Annotated[Scheme, Field(max_length=1000)])


def _read_bands(value: Any, _: Any) -> Scheme | BinBands:
    """Parse only the kind that is meant, so that a mistake is reported once."""
    if isinstance(value, dict | BinBands):
        return BinBands.model_validate(value)
    return _SCHEME.validate_python(value)


Bands = Annotated[Scheme | BinBands, WrapValidator(_read_bands)]


class BsrnnConfig(ModelConfig):
    """One band-split model: its bands, layers and masks."""

    family: Literal["bsrnn"] = "bsrnn"
    """Kind of network."""
    bands: Bands
    """(width in Hz, count) pairs; the rest up to Nyquist is one more band. The name of a scheme is accepted and
    expanded; by default, a model of one target has the scheme of that name. Or ranges of bins, which may overlap."""
    stft: StftConfig = StftConfig()
    """Time-frequency representation."""
    n_features: Size = 64
    """Feature dimension N of every band."""
    n_blocks: int = Field(default=8, ge=1, le=1000)
    """Number R of blocks."""
    time: LayerConfig | None = LstmConfig()
    """Layer along the frames; null for none."""
    band: LayerConfig | None = LstmConfig()
    """Layer along the bands; null for none."""
    norm_groups: Size = 1
    """Groups of the normalisation in front of recurrent and plain convolution layers."""
    heads: Size = 1
    """Groups H into which the features are split before the sequence layers, with shared weights (section III-B4)."""
    attention: AttentionConfig | None = None
    """Self-attention over frames; null for none."""
    stereo: StereoConfig = IndependentStereo()
    """Treatment of channels."""
    mask: MaskConfig = MaskConfig()
    """Mask decoder."""
    residual: str | None = None
    """A target that is estimated as the mixture minus all others, without a decoder of its own."""
    mixture_consistency: bool = False
    """Spread the mixture's remainder evenly over the targets, so that they sum to it (SIMO-BSRNN lineage)."""

    @model_validator(mode="before")
    @classmethod
    def _choose_scheme(cls, data: Any) -> Any:
        targets = data.get("targets") if isinstance(data, dict) and "bands" not in data else None
        if not isinstance(targets, list | tuple) or len(targets) != 1:
            return data
        if targets[0] not in SCHEMES:
            raise ValueError(
                f"bands: target {targets[0]!r} has no band scheme of its own; legal: {', '.join(SCHEMES)}, or a list "
                f"of (width in Hz, count) pairs"
            )
        return {**data, "bands": targets[0]}

    @field_validator("bands", mode="before")
    @classmethod
    def _expand_scheme(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value not in SCHEMES:
                raise ValueError(f"no band scheme is named {value!r}; legal: {', '.join(SCHEMES)}, or a list of pairs")
            return SCHEMES[value]
        return value

    @field_validator("bands")
    @classmethod
    def _positive_bands(cls, value: Scheme | BinBands) -> Scheme | BinBands:
        if isinstance(value, BinBands):
            return value
        if not value or not all(0 < width_hz <= 1e6 and 1 <= count <= 1_000_000 for width_hz, count in value):
            raise ValueError("must be a list of (width in Hz > 0, count >= 1) pairs, at least one, none over a million")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        for problem in (
            self._features_problem(),
            self._stereo_problem(),
            self._sum_problem(),
            self._bands_problem(),
        ):
            if problem:
                raise ValueError(problem)
        return self

    def _features_problem(self) -> str | None:
        n, per_head = self.n_features, self.n_features // self.heads
        if n % self.heads:
            return f"heads: {self.heads} does not divide n_features {n}; legal: {_divisors(n)}"
        if per_head % self.norm_groups:
            return f"norm_groups: {self.norm_groups} does not divide n_features / heads = {per_head}"
        if self.attention and n % self.attention.heads:
            return f"attention.heads: {self.attention.heads} does not divide n_features {n}; legal: {_divisors(n)}"
        return None

    def _stereo_problem(self) -> str | None:
        if self.channels == 1 and self.stereo.kind != "independent":
            return (
                f"stereo: kind {self.stereo.kind!r} needs at least 2 channels, and channels is 1; legal: 'independent'"
            )
        return None

    def _sum_problem(self) -> str | None:
        if self.residual is not None and self.residual not in self.targets:
            return f"residual: {self.residual!r} is not a target; legal: {', '.join(self.targets)}, or null"
        if self.residual is not None and len(self.targets) < 2:
            return "residual: needs at least 2 targets, else the estimate is the mixture itself; use null"
        if self.mixture_consistency and len(self.targets) < 2:
            return "mixture_consistency: needs at least 2 targets, else the estimate is the mixture itself; use false"
        if self.mixture_consistency and self.residual is not None:
            return f"mixture_consistency: with residual {self.residual!r} targets sum to the mixture already; use false"
        return None

    def _bands_problem(self) -> str | None:
        try:
            self.band_runs()
        except ConfigError as error:
            return str(error)
        return None

    @property
    def any_channels(self) -> bool:
        """Whether channels are independent of each other."""
        return self.stereo.kind == "independent"

    @property
    def merged_channels(self) -> int:
        """Channels that the coders project together."""
        return self.channels if self.stereo.kind == "merged" else 1

    def narrowed(self, targets: Sequence[str]) -> Self:
        """Leave out other targets, unless estimates depend on all of them."""
        if self.residual is not None or self.mixture_consistency:
            return self
        return self.model_copy(update={"targets": tuple(target for target in self.targets if target in targets)})

    @property
    def geometry(self) -> Geometry:
        """Any length; the authors' crossfade of 10 s (paper, section IV-E)."""
        return Geometry(CrossfadeConfig())

    @property
    def loss_stft(self) -> StftConfig:
        """Transform of the estimates."""
        return self.stft

    @property
    def n_bins(self) -> int:
        """Number of bins of a spectrogram."""
        return self.stft.n_fft // 2 + 1

    @property
    def n_bands(self) -> int:
        """Number K of bands, the remainder included."""
        return sum(run.count for run in self.band_runs())

    def band_runs(self) -> list[BandRun]:
        """Return the bands as runs of equal width, see `bandsplit.models.bsrnn.bands`."""
        if isinstance(self.bands, BinBands):
            return range_runs(self.bands.ranges, self.n_bins)
        return band_runs(self.bands, self.stft.n_fft, self.sample_rate_hz)


# --- inference -------------------------------------------------------------------------------------------------------

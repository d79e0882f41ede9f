"""Configurations of the two-branch families, HT Demucs and Hybrid Demucs: frozen, strict, documented under each field.

A U-Net on the spectrogram and one on the waveform share their depth and widths, which double from level to level.
`bandsplit.models.demucs.levels` derives the sizes of all layers.
"""

from __future__ import annotations

import itertools
from typing import Literal

from pydantic import Field, PositiveFloat, model_validator
from typing_extensions import Self

from bandsplit.core.config import Config, Size
from bandsplit.models.chunk_config import TriangleConfig
from bandsplit.models.contract import Geometry, ModelConfig

STRIDE = 4
"""Bins or samples of a level for each of the next deeper."""
KERNEL = 8
"""Length of the convolutions between levels, along bins or samples."""
MERGED_KERNEL, MERGED_STRIDE = 4, 2
"""The same where a single branch is left."""


class DConvConfig(Config):
    """Residual branches of dilated convolutions along time, narrow inside, in each layer of the U-Nets (DConv)."""

    encoder: bool = True
    """Whether encoder layers have one."""
    decoder: bool = False
    """Whether decoder layers have one."""
    depth: int = Field(default=2, ge=1, le=16)
    """Number of branches in a row; the l-th has dilation 2**l."""
    compression: Size = 4
    """Features of a layer for each feature inside its branches."""
    lstm_from: int | None = Field(default=None, ge=0)
    """First level, from 0, whose branches have a bidirectional LSTM; null for none."""
    attention_from: int | None = Field(default=None, ge=0)
    """First level, from 0, whose branches have local attention; null for none."""

    def problem(self, n_features: int, depth: int) -> str | None:
        """Return what does not fit a U-Net of ``depth`` levels that begins with ``n_features``, if anything."""
        if n_features < self.compression:
            return f"dconv.compression: {self.compression} is more than the {n_features} features of the first level"
        if self.attention_from is not None and self.attention_from < depth:
            hidden = n_features * 2**self.attention_from // self.compression
            if hidden % 4:
                return (
                    f"dconv.attention_from: level {self.attention_from} has {hidden} features inside its branches, "
                    f"which its 4 heads do not share evenly; choose another compression or level"
                )
        return None


class TwoBranchConfig(ModelConfig):
    """The fields that HT Demucs and Hybrid Demucs share."""

    n_features: Size = 48
    """Features of the first level; each deeper one has twice as many."""
    depth: int = Field(default=6, ge=1, le=12)
    """Number of levels."""
    n_fft: Size = 4096
    """Window of the spectrogram in samples; its hop is a quarter."""
    norm_from: int = Field(default=4, ge=0)
    """First level, from 0, whose layers have a group normalisation."""
    norm_groups: Size = 4
    """Groups of these normalisations."""
    dconv: DConvConfig = DConvConfig()
    """Residual branches."""

    @property
    def bins(self) -> int:
        """Bins of a spectrogram, without the highest."""
        return self.n_fft // 2

    @property
    def hop_samples(self) -> int:
        """Hop of the spectrogram."""
        return self.n_fft // 4

    @property
    def image_channels(self) -> int:
        """Channels of a spectrogram of the mixture, or of one target."""
        return 2 * self.channels

    def features(self, level: int) -> int:
        """Return the features of a level."""
        return self.n_features * 2**level

    @model_validator(mode="after")
    def _check(self) -> Self:
        if problem := self._norm_problem() or self.dconv.problem(self.n_features, self.depth) or self._depth_problem():
            raise ValueError(problem)
        return self

    def _norm_problem(self) -> str | None:
        if self.norm_from < self.depth and self.features(self.norm_from) % self.norm_groups:
            return f"norm_groups: {self.norm_groups} does not divide {self.features(self.norm_from)} features"
        return None

    def _depth_problem(self) -> str | None:
        raise NotImplementedError


class HtDemucsConfig(TwoBranchConfig):
    """HT Demucs: two U-Nets whose deepest levels exchange information in a cross-domain transformer."""

    family: Literal["htdemucs"] = "htdemucs"
    """Kind of network."""
    depth: int = Field(default=4, ge=1, le=12)
    """Number of levels of each branch."""
    dconv: DConvConfig = DConvConfig(decoder=True, compression=8)
    """Residual branches."""
    bottleneck: Size | None = 512
    """Features of the transformer; null: those of the deepest level, without linear layers in between."""
    layers: int = Field(default=5, ge=1, le=1000)
    """Layers of the transformer in each branch; the first, third, ... attend to their own branch, others to the other
    branch."""
    heads: Size = 8
    """Heads of its attention."""
    hidden_factor: Size = 4
    """Hidden size of its feed-forward parts, as a multiple of its features."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropout in the transformer while training."""
    segment_samples: Size = 343_980
    """Length of its training examples, 7.8 s."""
    fixed_length: bool = True
    """Whether it separates at the length of its training examples only, filled up with zeros."""

    @property
    def transformer_features(self) -> int:
        """Features of the transformer."""
        return self.bottleneck or self.features(self.depth - 1)

    @property
    def geometry(self) -> Geometry:
        """The training length, or any; published with chunks of the training length."""
        segment_s = self.segment_samples / self.sample_rate_hz
        plan = TriangleConfig(chunk_s=segment_s, multiple_samples=0, normalise="mono")
        return Geometry(plan, best_s=segment_s, fixed_samples=self.segment_samples if self.fixed_length else None)

    def _depth_problem(self) -> str | None:
        if self.bins % STRIDE**self.depth or self.bins <= KERNEL * STRIDE ** (self.depth - 1):
            return (
                f"n_fft: {self.n_fft} with depth {self.depth}; half of it must be a multiple of {STRIDE**self.depth} "
                f"and more than {KERNEL * STRIDE ** (self.depth - 1)}, so that {STRIDE} bins or more are left"
            )
        width = self.transformer_features
        if width % self.heads or width % 4:
            return f"heads: {self.heads} must divide the transformer's {width} features, and 4 must, too"
        return None


class HybridDemucsConfig(TwoBranchConfig):
    """Hybrid Demucs: two U-Nets that become one where 8 bins are left."""

    family: Literal["hdemucs"] = "hdemucs"
    """Kind of network."""
    dconv: DConvConfig = DConvConfig(lstm_from=4, attention_from=4)
    """Residual branches."""
    spectrum: Literal["complex", "magnitude"] = "complex"
    """``complex``: the spectrogram's real and imaginary parts go in and come out. ``magnitude``: only magnitudes, and
    estimates take the mixture's phase."""
    old_padding: bool = False
    """Zeros instead of reflection at the ends of the spectrogram, and its inverse 1.5 hops late, as two published
    models were trained."""
    regions: tuple[float, ...] = ()
    """Bounds of frequency regions, increasing fractions of the highest frequency; the outer levels have separate
    weights for each region. Empty: one region."""
    region_depth: int = Field(default=0, ge=0)
    """Number of outer levels that have regions."""
    chunk_s: PositiveFloat = 44.0
    """Length of the chunks that it is published with."""

    @property
    def image_channels(self) -> int:
        """Channels of a spectrogram of the mixture, or of one target."""
        return (2 if self.spectrum == "complex" else 1) * self.channels

    @property
    def merged_level(self) -> int:
        """Level at which both branches become one."""
        level, bins = 0, self.bins
        while bins > KERNEL:
            level, bins = level + 1, bins // STRIDE
        return level

    @property
    def geometry(self) -> Geometry:
        """Any length; published with chunks that overlap by a quarter."""
        return Geometry(TriangleConfig(chunk_s=self.chunk_s, normalise="mono"), best_s=self.chunk_s)

    def _depth_problem(self) -> str | None:
        if self.bins != KERNEL * STRIDE**self.merged_level:
            return f"n_fft: {self.n_fft} is not {2 * KERNEL} times a power of {STRIDE}; legal: 256, 1024, 4096, ..."
        if self.depth <= self.merged_level:
            return (
                f"depth: {self.depth} levels end before the branches merge; with n_fft {self.n_fft}, give at least "
                f"{self.merged_level + 1}"
            )
        bounds = (0.0, *self.regions, 1.0)
        if any(low >= high for low, high in itertools.pairwise(bounds)):
            return f"regions: {self.regions} must increase, between 0 and 1"
        if bool(self.regions) != bool(self.region_depth):
            return f"region_depth: {self.region_depth} with regions {self.regions}; give both or neither"
        if self.region_depth > min(self.merged_level, self.norm_from):
            return (
                f"region_depth: {self.region_depth} is more than the levels without normalisation before the branches "
                f"merge, {min(self.merged_level, self.norm_from)}"
            )
        narrowest = min(high - low for low, high in itertools.pairwise(bounds))
        if self.regions and narrowest * self.bins < KERNEL * STRIDE ** (self.region_depth - 1):
            return f"regions: {self.regions} has one with less than {KERNEL} bins at the deepest of its levels"
        return None

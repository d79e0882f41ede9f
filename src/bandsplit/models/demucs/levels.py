"""Sizes of all layers of the two-branch families, for networks, tensor shapes and operation counts; without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bandsplit.models.demucs.config import DConvConfig, HtDemucsConfig, HybridDemucsConfig, TwoBranchConfig


@dataclass(frozen=True)
class DConvSizes:
    """Sizes of a layer's residual branches."""

    n_features: int
    """Features of the layer."""
    hidden: int
    """Features inside the branches."""
    depth: int
    """Number of branches."""
    lstm: bool
    attention: bool


@dataclass(frozen=True)
class Level:
    """One level: its encoder layers, and the decoder layers that mirror them."""

    kind: Literal["apart", "merging", "merged"]
    """``apart``: both branches have complete layers. ``merging``: the spectrogram's last 8 bins become one, to which
    the waveform's branch is added. ``merged``: one branch is left."""
    n_in: int
    """Features of the spectrogram that the encoder takes."""
    n_in_time: int
    """The same of the waveform."""
    n_features: int
    """Features that the encoder returns."""
    n_decoded: int
    """Features of the spectrogram that the decoder returns."""
    n_decoded_time: int
    """The same of the waveform."""
    bins: int
    """Bins that the encoder takes; 1 where branches are merged."""
    norm_groups: int | None
    """Groups of the normalisations; None without."""
    encoder_dconv: DConvSizes | None
    decoder_dconv: DConvSizes | None
    regions: int
    """Frequency regions with weights of their own; 1 if none."""


def list_levels(config: HtDemucsConfig | HybridDemucsConfig) -> list[Level]:
    """List the levels, from the outermost to the deepest."""
    regions = len(config.regions) + 1 if isinstance(config, HybridDemucsConfig) else 1
    region_depth = config.region_depth if isinstance(config, HybridDemucsConfig) else 0
    targets = len(config.targets)
    levels: list[Level] = []
    bins = config.bins
    for number in range(config.depth):
        kind = _kind(config, number)
        before = config.features(max(number - 1, 0))
        levels.append(
            Level(
                kind,
                n_in=before if number else config.image_channels,
                n_in_time=before if number else config.channels,
                n_features=config.features(number),
                n_decoded=before if number else targets * config.image_channels,
                n_decoded_time=before if number else targets * config.channels,
                bins=bins,
                norm_groups=config.norm_groups if number >= config.norm_from else None,
                encoder_dconv=dconv_sizes(config.dconv, config.features(number), number, config.dconv.encoder),
                decoder_dconv=dconv_sizes(config.dconv, config.features(number), number, config.dconv.decoder),
                regions=regions if number < region_depth else 1,
            )
        )
        bins = bins // 4 if kind == "apart" else 1
    return levels


def _kind(config: TwoBranchConfig, number: int) -> Literal["apart", "merging", "merged"]:
    if not isinstance(config, HybridDemucsConfig) or number < config.merged_level:
        return "apart"
    return "merging" if number == config.merged_level else "merged"


def dconv_sizes(config: DConvConfig, n_features: int, level: int, wanted: bool) -> DConvSizes | None:
    """Return the sizes of the branches of a layer with ``n_features`` at a level, if they are wanted."""
    if not wanted:
        return None
    lstm = config.lstm_from is not None and level >= config.lstm_from
    attention = config.attention_from is not None and level >= config.attention_from
    return DConvSizes(n_features, n_features // config.compression, config.depth, lstm, attention)

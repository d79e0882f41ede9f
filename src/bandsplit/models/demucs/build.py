"""Construction of the two-branch networks from configurations."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from bandsplit.models.demucs.config import (
    KERNEL,
    MERGED_KERNEL,
    MERGED_STRIDE,
    STRIDE,
    HtDemucsConfig,
    HybridDemucsConfig,
)
from bandsplit.models.demucs.layers import (
    BareDecoder,
    BareEncoder,
    DecoderLayer,
    EncoderLayer,
    RegionDecoder,
    RegionEncoder,
)
from bandsplit.models.demucs.levels import DConvSizes, Level, list_levels
from bandsplit.models.demucs.network import Branches, FrequencyEmbedding, HtDemucsNetwork, HybridDemucsNetwork
from bandsplit.models.demucs.transformer import CrossTransformer
from bandsplit.models.layers.convolutions import (
    PointwiseConv1d,
    PointwiseConv2d,
    StridedConv1d,
    StridedConv2d,
    TransposedConv1d,
    TransposedConv2d,
)
from bandsplit.models.layers.dconv import DConv

_EDGE = (KERNEL - STRIDE) // 2
_MERGED_EDGE = (MERGED_KERNEL - MERGED_STRIDE) // 2


def build_htdemucs(config: HtDemucsConfig) -> HtDemucsNetwork:
    """Build the HT Demucs that ``config`` describes, with random weights from torch's global generator."""
    branches = _build_branches(config)
    width = config.transformer_features
    transformer = CrossTransformer(width, config.heads, config.hidden_factor * width, config.layers, config.dropout)
    return HtDemucsNetwork(config, branches, transformer)


def build_hdemucs(config: HybridDemucsConfig) -> HybridDemucsNetwork:
    """Build the Hybrid Demucs that ``config`` describes, with random weights from torch's global generator."""
    return HybridDemucsNetwork(config, _build_branches(config))


def _build_branches(config: HtDemucsConfig | HybridDemucsConfig) -> Branches:
    levels = list_levels(config)
    bounds = config.regions if isinstance(config, HybridDemucsConfig) else ()
    with_wave = [level for level in levels if level.kind != "merged"]
    branches = Branches(
        nn.ModuleList(_encoder(level, bounds) for level in levels),
        nn.ModuleList(_decoder(level, bounds, last=level is levels[0]) for level in reversed(levels)),
        nn.ModuleList(_time_encoder(level) for level in with_wave),
        nn.ModuleList(_time_decoder(level, last=level is levels[0]) for level in reversed(with_wave)),
        FrequencyEmbedding(config.bins // STRIDE, config.n_features),
    )
    for layers in branches:
        rescale_convolutions(layers)
    return branches


def _encoder(level: Level, bounds: tuple[float, ...]) -> nn.Module:
    n_in, n = level.n_in, level.n_features
    if level.regions > 1:
        layers = [
            _encoder_layer(level, StridedConv2d(n_in, n, (KERNEL, 1), (STRIDE, 1)), PointwiseConv2d(n, 2 * n))
            for _ in range(level.regions)
        ]
        return RegionEncoder(layers, bounds)
    if level.kind == "merged":
        conv = StridedConv1d(n_in, n, MERGED_KERNEL, MERGED_STRIDE, _MERGED_EDGE)
        return _encoder_layer(level, conv, PointwiseConv1d(n, 2 * n))
    padding = (_EDGE if level.kind == "apart" else 0, 0)
    return _encoder_layer(level, StridedConv2d(n_in, n, (KERNEL, 1), (STRIDE, 1), padding), PointwiseConv2d(n, 2 * n))


def _encoder_layer(level: Level, conv: nn.Module, rewrite: nn.Module) -> EncoderLayer:
    n, groups = level.n_features, level.norm_groups
    return EncoderLayer(conv, _norm(n, groups), build_dconv(level.encoder_dconv), rewrite, _norm(2 * n, groups))


def _decoder(level: Level, bounds: tuple[float, ...], last: bool) -> nn.Module:
    n, n_out = level.n_features, level.n_decoded
    if level.regions > 1:
        layers = [
            _decoder_layer(
                level,
                nn.Conv2d(n, 2 * n, (1, 3), padding=(0, 1)),
                TransposedConv2d(n, n_out, STRIDE),
                0,
                last,
            )
            for _ in range(level.regions)
        ]
        return RegionDecoder(layers, bounds, last)
    if level.kind == "merged":
        conv_tr = TransposedConv1d(n, n_out, MERGED_STRIDE)
        return _decoder_layer(level, nn.Conv1d(n, 2 * n, 3, padding=1), conv_tr, _MERGED_EDGE, last)
    conv_tr = TransposedConv2d(n, n_out, STRIDE)
    crop = _EDGE if level.kind == "apart" else 0
    return _decoder_layer(level, nn.Conv2d(n, 2 * n, 3, padding=1), conv_tr, crop, last)


def _decoder_layer(level: Level, rewrite: nn.Module, conv_tr: nn.Module, crop: int, last: bool) -> DecoderLayer:
    n, n_out, groups = level.n_features, cast(int, conv_tr.out_channels), level.norm_groups
    return DecoderLayer(
        rewrite, _norm(2 * n, groups), build_dconv(level.decoder_dconv), conv_tr, _norm(n_out, groups), crop, last
    )


def _time_encoder(level: Level) -> nn.Module:
    n = level.n_features
    conv = StridedConv1d(level.n_in_time, n, KERNEL, STRIDE, _EDGE)
    if level.kind == "merging":
        return BareEncoder(conv)
    return _encoder_layer(level, conv, PointwiseConv1d(n, 2 * n))


def _time_decoder(level: Level, last: bool) -> nn.Module:
    n, n_out = level.n_features, level.n_decoded_time
    conv_tr = TransposedConv1d(n, n_out, STRIDE)
    if level.kind == "merging":
        return BareDecoder(conv_tr, _norm(n_out, level.norm_groups), _EDGE, last)
    return _decoder_layer(level, nn.Conv1d(n, 2 * n, 3, padding=1), conv_tr, _EDGE, last)


def _norm(n_features: int, groups: int | None) -> nn.Module:
    return nn.Identity() if groups is None else nn.GroupNorm(groups, n_features)


def build_dconv(sizes: DConvSizes | None) -> nn.Module | None:
    """Build residual branches, if there are any."""
    if sizes is None:
        return None
    return DConv(sizes.n_features, sizes.hidden, sizes.depth, sizes.lstm, sizes.attention)


def rescale_convolutions(module: nn.Module, reference: float = 0.1) -> None:
    """Move the spread of each convolution's initial weights halfway to ``reference``, on a logarithmic scale.

    Source: docs/demucs.md#start.
    """
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d):
                scale = (part.weight.std() / reference).sqrt()
                part.weight.div_(scale)
                if part.bias is not None:
                    part.bias.div_(scale)

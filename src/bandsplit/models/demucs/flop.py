"""Operations of the matrix products of the two-branch networks, counted from their configuration.

A multiplication and its addition are two operations. Normalisations, activations and Fourier transforms are not
counted.
"""

from __future__ import annotations

from bandsplit.models.contract import Flop
from bandsplit.models.demucs.config import (
    KERNEL,
    MERGED_KERNEL,
    MERGED_STRIDE,
    STRIDE,
    HtDemucsConfig,
    HybridDemucsConfig,
)
from bandsplit.models.demucs.levels import DConvSizes, Level, list_levels

_LSTM_FRAME, _LSTM_HOP = 200, 100


def count_flop(config: HtDemucsConfig | HybridDemucsConfig, samples: int) -> Flop:
    """Count the operations of one signal of ``samples`` with all its channels.

    The backward pass takes twice the forward pass, except that the input needs no gradient.
    """
    levels = list_levels(config)
    frames = -(-samples // config.hop_samples)
    forward = first = 0
    for level in levels:
        if level.kind == "merged":
            deeper = -(-frames // MERGED_STRIDE)
            forward += _encoder(level, deeper, MERGED_KERNEL, 1) + _decoder(level, deeper, MERGED_KERNEL, 3)
            frames = deeper
            continue
        deeper = -(-samples // STRIDE)
        bins = max(level.bins // STRIDE, 1) if level.kind == "apart" else 1
        forward += _spectrum(level, bins, frames) + _wave(level, deeper)
        if level is levels[0]:
            first = count_conv(level.n_in, level.n_features, KERNEL, bins * frames)
            first += count_conv(level.n_in_time, level.n_features, KERNEL, deeper)
        samples = deeper
    if isinstance(config, HtDemucsConfig):
        forward += _transformer(config, levels[-1].bins // STRIDE * frames, samples)
    return Flop(forward, 3 * forward - first)


def count_conv(n_in: int, n_out: int, kernel: int, positions: int) -> int:
    """Count a convolution; ``positions`` are those of the shorter one of input and output."""
    return 2 * n_in * n_out * kernel * positions


def _encoder(level: Level, length: int, kernel: int, bins: int) -> int:
    n = level.n_features
    convolutions = count_conv(level.n_in, n, kernel, bins * length) + count_conv(n, 2 * n, 1, bins * length)
    return convolutions + count_dconv(level.encoder_dconv, bins, length)


def _decoder(level: Level, length: int, kernel: int, gate: int, bins: int = 1) -> int:
    n = level.n_features
    convolutions = count_conv(n, 2 * n, gate, bins * length) + count_conv(n, level.n_decoded, kernel, bins * length)
    return convolutions + count_dconv(level.decoder_dconv, bins, length)


def _spectrum(level: Level, bins: int, frames: int) -> int:
    gate = 3 if level.regions > 1 else 9
    return _encoder(level, frames, KERNEL, bins) + _decoder(level, frames, KERNEL, gate, bins)


def _wave(level: Level, length: int) -> int:
    n = level.n_features
    between = count_conv(level.n_in_time + level.n_decoded_time, n, KERNEL, length)
    if level.kind == "merging":
        return between
    gates = count_conv(n, 2 * n, 1 + 3, length)
    return between + gates + count_dconv(level.encoder_dconv, 1, length) + count_dconv(level.decoder_dconv, 1, length)


def count_dconv(sizes: DConvSizes | None, sequences: int, length: int) -> int:
    """Count the residual branches on sequences of a length."""
    if sizes is None:
        return 0
    n, hidden, positions = sizes.n_features, sizes.hidden, sequences * length
    each = count_conv(n, hidden, 3, positions) + count_conv(hidden, 2 * n, 1, positions)
    if sizes.lstm:
        framed = length if length <= _LSTM_FRAME else -(-length // _LSTM_HOP) * _LSTM_FRAME
        each += sequences * framed * count_lstm(hidden)
    if sizes.attention:
        each += count_conv(hidden, 4 * hidden + 16, 1, positions) + count_conv(2 * hidden, length, 1, positions)
    return sizes.depth * each


def count_lstm(n: int) -> int:
    """Count two bidirectional LSTM layers and their linear layer on one position."""
    return 2 * (2 * 4 * n * (n + n) + 2 * 4 * n * (2 * n + n) + 2 * n * n)


def _transformer(config: HtDemucsConfig, tokens: int, tokens_t: int) -> int:
    n, width = config.transformer_features, config.features(config.depth - 1)
    each_token = 2 * 2 * n * width if config.bottleneck is not None else 0
    each_token += config.layers * 2 * (4 * n * n + 2 * config.hidden_factor * n * n)
    crossing = config.layers // 2
    pairs = (config.layers - crossing) * (tokens**2 + tokens_t**2) + crossing * 2 * tokens * tokens_t
    return (tokens + tokens_t) * each_token + pairs * 2 * 2 * n

"""Operations of a model's matrix products for a step or a chunk, counted from its configuration.

A multiplication and its addition are two operations. Normalisations, activations, Fourier transforms and the optimizer
are not counted, though they take time.
"""

from typing import NamedTuple

from typing_extensions import assert_never

from bandsplit.models.bsrnn.config import (
    BsrnnConfig,
    ConvConfig,
    DilatedConfig,
    GruConfig,
    LayerConfig,
    LstmConfig,
    TacStereo,
)
from bandsplit.models.contract import Flop


class _Forward(NamedTuple):
    """Operations of the parts, forward."""

    encoder: int
    blocks: int
    decoders: int


def count_flop(config: BsrnnConfig, samples: int) -> Flop:
    """Count the operations of one signal of ``samples`` with all its channels.

    The backward pass takes twice the forward pass: one product for the gradient of the input, one for that of the
    weights; the encoder's input needs none.
    """
    parts = _forward(config, samples)
    return Flop(sum(parts), 2 * parts.encoder + 3 * (parts.blocks + parts.decoders))


def _forward(config: BsrnnConfig, samples: int) -> _Forward:
    """Count one signal with all its channels."""
    frames = 1 + samples // config.stft.hop_samples
    merged = config.merged_channels
    sequences = config.channels // merged
    encoder = frames * 2 * (2 * merged * config.n_bins) * config.n_features
    decoders = (len(config.targets) - (config.residual is not None)) * frames * _decoder(config, merged)
    return _Forward(sequences * encoder, sequences * config.n_blocks * _block(config, frames), sequences * decoders)


def _block(config: BsrnnConfig, frames: int) -> int:
    """Count one block on one channel, forward."""
    n, positions = config.n_features, config.n_bands * frames
    layers = [layer for layer in (config.time, config.band) if layer is not None]
    flop = sum(positions * config.heads * _layer(layer, n // config.heads) for layer in layers)
    if isinstance(config.stereo, TacStereo):
        hidden = config.stereo.hidden_factor * n
        flop += positions * 2 * (n * hidden + hidden * n)
        flop += positions * 2 * (hidden * hidden + hidden * n) // config.channels  # on the mean of the channels
    if config.attention is not None:
        queries = config.attention.heads * config.attention.encoding_dim
        flop += positions * 2 * (2 * n * queries + 2 * n * n)  # queries, keys; values, projection
        flop += positions * frames * 2 * (queries + n)  # scores, weighted sums
    return flop


def _layer(layer: LayerConfig, n: int) -> int:
    """Count a sequence layer on one position of ``n`` features, forward."""
    hidden = layer.hidden_factor * n
    match layer:
        case LstmConfig() | GruConfig():
            gates = 4 if isinstance(layer, LstmConfig) else 3
            return 2 * (2 * gates * hidden * (n + hidden) + 2 * hidden * n)
        case ConvConfig():
            return 2 * (layer.kernel * n * hidden + hidden * n)
        case DilatedConfig():
            fused = sum(len(range(layer.depth)[max(i - 1, 0) : i + 2]) for i in range(layer.depth))
            return 2 * layer.kernel * ((1 + layer.depth) * n * hidden + (layer.depth + fused) * hidden**2)
        case _:
            assert_never(layer)


def _decoder(config: BsrnnConfig, merged: int) -> int:
    """Count a mask decoder on one frame, forward."""
    mask, n = config.mask, config.n_features
    hidden, taps = mask.hidden_factor * n, 2 * mask.context + 1
    inner = config.n_bands * (n * hidden + (mask.hidden_layers - 1) * hidden**2)
    return 2 * (inner + hidden * 4 * merged * taps * config.n_bins)

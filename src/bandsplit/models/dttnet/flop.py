"""Operations of a network's matrix products, counted from its configuration.

A multiplication and its addition are two operations. Normalisations, activations and Fourier transforms are not
counted, though they take time.
"""

from bandsplit.models.contract import Flop
from bandsplit.models.dttnet.config import DttnetConfig
from bandsplit.models.layers.tfc_tdf_v2_config import unet_flop


def count_flop(config: DttnetConfig, samples: int) -> Flop:
    """Count the operations of one signal of ``samples`` with all its channels.

    The backward pass takes twice the forward pass: one product for the gradient of the input, one for that of the
    weights; the first layer's input needs none.
    """
    frames, levels = 1 + samples // config.stft.hop_samples, config.unet.levels
    first, others = unet_flop(config.unet, config.image_channels, config.bins, frames)
    others += (frames >> levels) * (config.bins >> levels) * _dual_path(config)
    return Flop(first + others, 2 * first + 3 * others)


def _dual_path(config: DttnetConfig) -> int:
    """Count all layers on one position."""
    path, n, hidden = config.dual_path, config.head_features, 2 * config.head_features
    gates, directions = 4 if path.rnn == "lstm" else 3, 1 + path.bidirectional
    one = 2 * directions * (gates * hidden * (n + hidden) + hidden * n)
    return path.layers * 2 * path.heads * one

"""Operations of a network's convolutions and linear layers, counted from its configuration.

A multiplication and its addition are two operations. Normalisations, activations and Fourier transforms are not
counted, though they take time.
"""

from bandsplit.models.contract import Flop
from bandsplit.models.tfc_tdf.config import TfcTdfConfig


def count_flop(config: TfcTdfConfig, samples: int) -> Flop:
    """Count the operations of one signal of ``samples`` with all its channels.

    The backward pass takes twice the forward pass: one product for the gradient of the input, one for that of the
    weights; the first layer's input needs none.
    """
    frames, last = 1 + samples // config.stft.hop_samples, config.n_scales
    enter = 2 * frames * config.bins_at(0) * config.image_channels * config.n_features
    leave = config.n_features + config.image_channels * (1 + len(config.targets))
    others = 2 * frames * config.bins_at(0) * config.n_features * leave
    others += _blocks(config, frames, last, config.features_at(last))
    for at in range(last):
        n = config.features_at(at)
        others += _blocks(config, frames, at, n) + _blocks(config, frames, at, 2 * n)
        # Each pixel of the finer image enters one product of each pair of features, on the way down and up.
        others += 2 * 2 * _pixels(config, frames, at) * n * config.features_at(at + 1)
    return Flop(enter + others, 2 * enter + 3 * others)


def _pixels(config: TfcTdfConfig, frames: int, at: int) -> int:
    return frames // config.scale_frames**at * config.bins_at(at)


def _blocks(config: TfcTdfConfig, frames: int, at: int, n_in: int) -> int:
    n_out, bins = config.features_at(at), config.bins_at(at)
    flop = 0
    for _ in range(config.n_blocks):
        flop += n_in * n_out + 9 * n_in * n_out + 9 * n_out * n_out + 2 * n_out * (bins // config.bottleneck_factor)
        n_in = n_out
    return 2 * _pixels(config, frames, at) * flop

"""Operations of a network's matrix products, counted from its configuration.

A multiplication and its addition are two operations. Normalisations, activations and Fourier transforms are not
counted, though they take time.
"""

from bandsplit.models.contract import Flop
from bandsplit.models.presunet.config import BOTTLENECK, HEAD_BLOCKS, PARTS, SUBBANDS, TAPS, PresunetConfig


def count_flop(config: PresunetConfig, samples: int) -> Flop:
    """Count the operations of one signal of ``samples`` with all its channels.

    The backward pass takes twice the forward pass: one product for the gradient of the input, one for that of the
    weights. The filters have no gradient, and only those that join subbands pass one on.
    """
    levels, n_blocks, targets = len(config.widths), config.n_blocks, len(config.targets)
    frames = 1 + samples // SUBBANDS // config.stft.hop_samples
    frames += -frames % 2**levels
    pixels = [(frames >> level) * (config.bins >> level) for level in range(levels + 1)]
    products = pixels[levels] * BOTTLENECK * _blocks(config.widths[-1], config.widths[-1], n_blocks)
    n_in = config.image_channels
    for level, n_out in enumerate(config.widths):
        coarser = config.widths[min(level + 1, levels - 1)]
        products += pixels[level] * _blocks(n_in, n_out, n_blocks)
        products += pixels[level] * _blocks(2 * n_out, n_out, n_blocks)
        products += pixels[level + 1] * 9 * coarser * n_out
        n_in = n_out
    head = _blocks(config.widths[0], config.widths[0], HEAD_BLOCKS) + PARTS * config.image_channels * config.widths[0]
    products += pixels[0] * targets * head
    bank = 2 * config.channels * (samples // SUBBANDS) * SUBBANDS * TAPS
    return Flop(2 * products + (1 + targets) * bank, 6 * products + (1 + 2 * targets) * bank)


def _blocks(n_in: int, n_out: int, n_blocks: int) -> int:
    """Count the products at one pixel of a group of residual blocks."""
    shortcut = n_in * n_out if n_in != n_out else 0
    return 9 * (n_in * n_out + (2 * n_blocks - 1) * n_out * n_out) + shortcut

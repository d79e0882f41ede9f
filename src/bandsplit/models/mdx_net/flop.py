"""Operations of a network's matrix products, counted from its configuration.

A multiplication and its addition are two operations. Normalisations, activations and Fourier transforms are not
counted, though they take time.
"""

from bandsplit.models.contract import Flop
from bandsplit.models.layers.tfc_tdf_v2_config import unet_flop
from bandsplit.models.mdx_net.config import MdxNetConfig


def count_flop(config: MdxNetConfig, samples: int) -> Flop:
    """Count the operations of one signal of ``samples`` with all its channels.

    The backward pass takes twice the forward pass: one product for the gradient of the input, one for that of the
    weights; the first layer's input needs none.
    """
    frames = 1 + samples // config.stft.hop_samples
    first, others = unet_flop(config.unet, config.image_channels, config.bins, frames)
    return Flop(first + others, 2 * first + 3 * others)

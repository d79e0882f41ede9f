"""Names and shapes of a network's tensors, computed from its configuration, to check files before reading them.

A test compares them with the state dict of `bandsplit.models.mdx_net.network.MdxNetwork`.
"""

from bandsplit.models.contract import Shapes
from bandsplit.models.layers.tfc_tdf_v2_config import unet_shapes
from bandsplit.models.mdx_net.config import MdxNetConfig


def tensor_shapes(config: MdxNetConfig) -> Shapes:
    """Yield name and shape of each tensor in the network's state dict, in its order."""
    for name, shape in unet_shapes(config.unet, config.image_channels, config.bins):
        yield f"unet.{name}", shape

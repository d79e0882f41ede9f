"""The network of the family: the spectrogram of a target from that of the mixture, by a U-Net.

Source: docs/mdx-net.md#forward-pass; KUIELab-MDX-Net paper.
"""

from torch import nn

from bandsplit.models.layers.unet_model import UnetModel
from bandsplit.models.mdx_net.config import MdxNetConfig


class MdxNetwork(UnetModel):
    """A separation model of one target that estimates its spectrogram directly, without a mask."""

    config: MdxNetConfig

    def __init__(self, config: MdxNetConfig) -> None:
        """Build the network that ``config`` describes, with random weights from torch's global generator."""
        super().__init__(config, nn.Sequential())

"""Models of the family as data: frozen, strict (an unknown key is an error), documented under each field.

Source: docs/mdx-net.md#forward-pass; KUIELab-MDX-Net paper.
"""

from __future__ import annotations

from typing import Literal

from bandsplit.models.chunk_config import ChunkConfig, TrimmedConfig
from bandsplit.models.layers.tfc_tdf_v2_config import UnetConfig
from bandsplit.models.layers.unet_model_config import UnetModelConfig


class MdxNetConfig(UnetModelConfig):
    """One U-Net from the spectrogram of the mixture to that of one target; the defaults are those of the vocals."""

    family: Literal["mdx_net"] = "mdx_net"
    """Kind of network."""
    unet: UnetConfig = UnetConfig(block="plain", levels=5)
    """The U-Net."""
    plan: ChunkConfig = TrimmedConfig(chunk_s=1024 * 511 / 44_100, trim_s=3072 / 44_100)
    """Published way to cut songs: 512 frames, twice as many as an example of the training has."""

"""The U-Net of residual blocks.

Images are ``b n t f``: features, frames, bins.

Source: docs/presunet.md#u-net; CWS-PResUNet paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.models.layers.batch_norm import BatchNorm
from bandsplit.models.network import RepeatedPart
from bandsplit.models.presunet.config import BOTTLENECK

SLOPE = 0.01
"""Slope of the leaky ReLU for negative numbers."""
MOMENTUM = 0.01
"""Share of a batch in the running statistics of every normalisation but those in front of transposed convolutions."""


class ResidualBlock(nn.Module):
    """Two convolutions 3 x 3 with normalisation and leaky ReLU in front, and a shortcut around them."""

    def __init__(self, n_in: int, n_out: int) -> None:
        """Map ``n_in`` features to ``n_out``; the shortcut is a convolution 1 x 1 if they differ."""
        super().__init__()
        self.norm1 = BatchNorm(n_in, MOMENTUM)
        self.conv1 = start(nn.Conv2d(n_in, n_out, 3, padding=1, bias=False))
        self.norm2 = BatchNorm(n_out, MOMENTUM)
        self.conv2 = start(nn.Conv2d(n_out, n_out, 3, padding=1, bias=False))
        self.shortcut = start(nn.Conv2d(n_in, n_out, 1)) if n_in != n_out else None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``b n t f`` to ``b n t f``."""
        y = self.conv1(F.leaky_relu(self.norm1(x), SLOPE, inplace=True))
        y = self.conv2(F.leaky_relu(self.norm2(y), SLOPE, inplace=True))
        return y + (x if self.shortcut is None else self.shortcut(x))


class Decoder(nn.Module):
    """A level on the way up: a transposed convolution that doubles frames and bins, then residual blocks."""

    def __init__(self, n_in: int, n_out: int, n_blocks: int) -> None:
        """Map ``n_in`` features of the coarser level to ``n_out``, which the finer level's image has too."""
        super().__init__()
        self.norm = BatchNorm(n_in)
        self.up = start(nn.ConvTranspose2d(n_in, n_out, 3, stride=2, bias=False))
        self.blocks = residual_blocks(2 * n_out, n_out, n_blocks)

    def forward(self, x: Tensor, finer: Tensor) -> Tensor:
        """Map the coarser image, with the ``finer`` one from the way down, to an image like that."""
        risen = self.up(self.norm(x).relu_())[..., :-1, :-1]
        return self.blocks(torch.cat([risen, finer], dim=1))


class Unet(nn.Module):
    """Residual blocks at each level, averages of 2 x 2 between levels, and the way up with what was kept."""

    def __init__(self, image: int, widths: Sequence[int], n_blocks: int) -> None:
        """Map ``image`` channels to the features of the first of ``widths``, in groups of ``n_blocks``."""
        super().__init__()
        self.encoder = nn.ModuleList(
            residual_blocks(n_in, n_out, n_blocks) for n_in, n_out in zip((image, *widths), widths, strict=False)
        )
        self.bottleneck = nn.Sequential(*(residual_blocks(widths[-1], widths[-1], n_blocks) for _ in range(BOTTLENECK)))
        coarser = (widths[-1], *widths[:0:-1])
        self.decoder = nn.ModuleList(
            Decoder(n_in, n_out, n_blocks) for n_in, n_out in zip(coarser, reversed(widths), strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map an image whose frames and bins can be halved as often as there are levels."""
        kept: list[Tensor] = []
        for blocks in self.encoder:
            x = blocks(x)
            kept.append(x)
            x = F.avg_pool2d(x, 2)
        x = self.bottleneck(x)
        for level in self.decoder:
            x = level(x, kept.pop())
        return x

    def repeated_parts(self) -> Iterable[RepeatedPart]:
        """Yield the groups of residual blocks."""
        yield from (part for part in self.modules() if isinstance(part, RepeatedPart))


def residual_blocks(n_in: int, n_out: int, n_blocks: int) -> RepeatedPart:
    """Make a group of residual blocks, of which the first maps ``n_in`` features to ``n_out``."""
    return RepeatedPart(*(ResidualBlock(n_out if number else n_in, n_out) for number in range(n_blocks)))


def start(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Conv2d | nn.ConvTranspose2d:
    """Draw the weights of a new layer as the authors do; biases are zero."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer

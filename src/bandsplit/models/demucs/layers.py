"""Encoder and decoder layers of the two-branch families, on spectrograms ``b n f t`` and waveforms ``b n l``."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.core.sizes import missing_to_multiple
from bandsplit.models.network import RepeatedPart


class EncoderLayer(RepeatedPart):
    """Convolution to the next deeper level, residual branches along time, gated 1 x 1 convolution."""

    def __init__(
        self, conv: nn.Module, norm1: nn.Module, dconv: nn.Module | None, rewrite: nn.Module, norm2: nn.Module
    ) -> None:
        """Take the parts."""
        super().__init__()
        self.conv, self.norm1, self.dconv, self.rewrite, self.norm2 = conv, norm1, dconv, rewrite, norm2

    def _apply_all(self, x: Tensor, inject: Tensor | None = None) -> Tensor:
        """Map a level to the next; ``inject``, of the other branch, is added behind the convolution."""
        y = convolve(self.conv, x)
        if inject is not None:
            y = y + (inject[:, :, None] if y.dim() == 4 else inject)
        y = F.gelu(self.norm1(y))
        if self.dconv is not None:
            y = self.dconv(y)
        return F.glu(self.norm2(self.rewrite(y)), dim=1)


class BareEncoder(RepeatedPart):
    """The waveform's encoder where branches merge: only the convolution."""

    def __init__(self, conv: nn.Module) -> None:
        """Take the convolution."""
        super().__init__()
        self.conv = conv

    def _apply_all(self, x: Tensor) -> Tensor:
        return convolve(self.conv, x)


class DecoderLayer(RepeatedPart):
    """Skip connection, gated convolution, residual branches along time, transposed convolution, crop."""

    def __init__(
        self,
        rewrite: nn.Module,
        norm1: nn.Module,
        dconv: nn.Module | None,
        conv_tr: nn.Module,
        norm2: nn.Module,
        crop: int,
        last: bool,
    ) -> None:
        """Take the parts.

        Args:
            rewrite: gated convolution.
            norm1: its normalisation.
            dconv: residual branches.
            conv_tr: transposed convolution.
            norm2: its normalisation.
            crop: bins that are dropped at either end of a spectrogram, or samples that are dropped in front of a
                waveform.
            last: whether the output is the estimate, which has no activation.
        """
        super().__init__()
        self.rewrite, self.norm1, self.dconv, self.conv_tr, self.norm2 = rewrite, norm1, dconv, conv_tr, norm2
        self.crop, self.last = crop, last

    def _apply_all(self, x: Tensor, skip: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Map a level to the one above, of ``length`` samples if it is a waveform.

        Returns:
            The output, and what the transposed convolution was computed from.
        """
        y = self.transform(x + skip)
        z = self.norm2(self.conv_tr(y))
        if z.dim() == 3:
            z = z[..., self.crop : self.crop + length]
        elif self.crop:
            z = z[:, :, self.crop : -self.crop]
        return (z if self.last else F.gelu(z)), y

    def transform(self, x: Tensor) -> Tensor:
        """Apply everything before the transposed convolution."""
        y = F.glu(self.norm1(self.rewrite(x)), dim=1)
        return y if self.dconv is None else self.dconv(y)


class BareDecoder(RepeatedPart):
    """The waveform's decoder where branches part: only the transposed convolution."""

    def __init__(self, conv_tr: nn.Module, norm2: nn.Module, crop: int, last: bool) -> None:
        """Take the parts, as `DecoderLayer`."""
        super().__init__()
        self.conv_tr, self.norm2, self.crop, self.last = conv_tr, norm2, crop, last

    def _apply_all(self, x: Tensor, length: int) -> Tensor:
        z = self.norm2(self.conv_tr(x))[..., self.crop : self.crop + length]
        return z if self.last else F.gelu(z)


class RegionEncoder(RepeatedPart):
    """An encoder layer with separate weights for frequency regions, which together see each bin as one layer would."""

    def __init__(self, layers: list[EncoderLayer], bounds: tuple[float, ...]) -> None:
        """Take a layer, without padding, for each region; ``bounds`` are fractions of the bins between regions."""
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.bounds = bounds

    def _apply_all(self, x: Tensor, inject: Tensor | None = None) -> Tensor:
        bins, kernel, stride = int(x.shape[2]), 8, 4
        edge = (kernel - stride) // 2
        found: list[Tensor] = []
        start = 0
        for layer, bound in zip(self.layers, (*self.bounds, None), strict=True):
            above = below = 0
            if not start:
                below = edge
            if bound is None:
                stop, above = bins, edge
            else:
                # Shortened so that complete kernels fit.
                count = round((round(bins * bound) - start + below - kernel) / stride + 1)
                stop = start + (count - 1) * stride + kernel - below
            found.append(layer(F.pad(x[:, :, start:stop], (0, 0, below, above))))
            start = stop - kernel + stride
        return torch.cat(found, dim=2)


class RegionDecoder(RepeatedPart):
    """A decoder layer with separate weights for frequency regions; the overlaps of their outputs are added."""

    def __init__(self, layers: list[DecoderLayer], bounds: tuple[float, ...], last: bool) -> None:
        """Take a layer for each region; their crops and activations are not used."""
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.bounds, self.last = bounds, last

    def _apply_all(self, x: Tensor, skip: Tensor, length: int) -> tuple[Tensor, None]:
        bins, overlap, crop = int(x.shape[2]), 4, 2
        bounds = [0, *(round(bins * bound) for bound in self.bounds), bins]
        joined: Tensor | None = None
        for layer, start, stop in zip(self.layers, bounds, bounds[1:], strict=False):
            layer = cast(DecoderLayer, layer)
            z = layer.conv_tr(layer.transform((x + skip)[:, :, start:stop]))
            if joined is not None:
                bias = cast(nn.ConvTranspose2d, layer.conv_tr).bias
                assert bias is not None
                both = joined[:, :, -overlap:] + z[:, :, :overlap] - bias[:, None, None]
                z = torch.cat([joined[:, :, :-overlap], both, z[:, :, overlap:]], dim=2)
            joined = z
        assert joined is not None
        joined = joined[:, :, crop:-crop]
        return (joined if self.last else F.gelu(joined)), None


def convolve(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a convolution; zeros fill a waveform up to a multiple of its stride."""
    if isinstance(conv, nn.Conv1d):
        x = F.pad(x, (0, missing_to_multiple(x.shape[-1], conv.stride[0])))
    return conv(x)

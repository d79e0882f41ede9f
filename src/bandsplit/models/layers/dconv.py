"""Residual branches of dilated convolutions, narrow inside, and the layers that may be inside them.

All map ``b n l`` to ``b n l``: features, positions in time. The branches take spectrograms ``b n f t``, too.

Source: docs/demucs.md#dconv.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.core.sizes import at_least, at_most
from bandsplit.models.layers.cpu_work import TwoPaths, lacks_bf16_lstm

BLOCK = 2**19
"""Numbers of a block's widest tensor, 2 MB, which stays in a core's second cache with its neighbours."""


class LayerScale(nn.Module):
    """A gain for each feature, small at first, so that a residual branch starts almost as nothing."""

    def __init__(self, n_features: int, start: float) -> None:
        """Make gains of ``start``."""
        super().__init__()
        self.scale = nn.Parameter(torch.full((n_features,), start))

    def forward(self, x: Tensor) -> Tensor:
        """Scale ``b n l``."""
        return self.scale[:, None] * x


class DConv(TwoPaths):
    """Residual branches in a row; the l-th has dilation 2**l.

    Without gradients, on a CPU, they are computed in blocks that stay in a core's cache.
    """

    def __init__(self, n_features: int, hidden: int, depth: int, lstm: bool = False, attention: bool = False) -> None:
        """Make ``depth`` branches with ``hidden`` features inside, with an LSTM and local attention if wanted."""
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(n_features, hidden, 3, dilation=2**number, padding=2**number),
                nn.GroupNorm(1, hidden),
                nn.GELU(),
                *([FramedLstm(hidden)] if lstm else []),
                *([LocalAttention(hidden)] if attention else []),
                nn.Conv1d(hidden, 2 * n_features, 1),
                nn.GroupNorm(1, 2 * n_features),
                nn.GLU(1),
                LayerScale(n_features, 1e-3),
            )
            for number in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``b n l`` to ``b n l``, or each bin of ``b n f t`` independently."""
        if self.infers_fast(x):
            return self._apply_in_blocks(x)
        for layer in self.layers:
            enter, *inner, gain = cast(nn.Sequential, layer)
            scale = cast(LayerScale, gain).scale
            if x.dim() == 3:
                x = torch.addcmul(x, scale[:, None], _apply_all(inner, enter(x)))
                continue
            # Only the narrow inside is copied to another order of axes.
            conv = cast(nn.Conv1d, enter)
            (dilation,) = conv.dilation
            y = F.conv2d(x, conv.weight[:, :, None], conv.bias, padding=(0, dilation), dilation=(1, dilation))
            y = _apply_all(inner, rearrange(y, "b h f t -> (b f) h t"))
            x = torch.addcmul(x, scale[:, None, None], y.unflatten(0, (-1, x.shape[2])).transpose(1, 2))
        return x

    @torch.autocast("cpu", enabled=False)  # these products are small, and their sums need single precision
    def _apply_in_blocks(self, x: Tensor) -> Tensor:
        """Map ``b n l`` to ``b n l``, or each bin of ``b n f t`` independently."""
        branches = [_FoldedBranch(cast(nn.Sequential, layer)) for layer in self.layers]
        spectrogram = x if x.dim() == 4 else x[:, :, None]
        found = torch.empty_like(spectrogram)
        bins = max(1, BLOCK // (2 * x.shape[1] * x.shape[-1]))
        for block, to in zip(spectrogram.split(bins, dim=2), found.split(bins, dim=2), strict=True):
            y = rearrange(block, "b n f t -> (b f) n t")
            y = y.to(torch.promote_types(y.dtype, torch.float32), copy=True, memory_format=torch.contiguous_format)
            for branch in branches:
                branch.add_to(y)
            to.copy_(rearrange(y, "(b f) n t -> b n f t", b=len(x)))
        return found.view_as(x)


class _FoldedBranch:
    """A residual branch whose last normalisation is folded into the convolution in front of it.

    That convolution's output is several times larger than its input, and its statistics follow from the input's means
    and covariances: they are known before it is computed, block by block.
    """

    def __init__(self, layer: nn.Sequential) -> None:
        """Take the modules, and compute what depends on weights alone."""
        enter, *self.inner, leave, norm, _, gain = layer
        enter, leave, norm = cast(nn.Conv1d, enter), cast(nn.Conv1d, leave), cast(nn.GroupNorm, norm)
        assert enter.bias is not None and leave.bias is not None
        (self.dilation,) = enter.dilation
        self.taps, self.bias = rearrange(enter.weight, "h n k -> (k h) n"), enter.bias[:, None]
        self.weight, self.eps = leave.weight[..., 0], norm.eps
        self.products = self.weight.mT @ self.weight / len(self.weight)
        self.centred_weight = self.weight - self.weight.mean(dim=0)
        self.centred_bias = (leave.bias - leave.bias.mean())[:, None]
        scale = cast(LayerScale, gain).scale
        gains = torch.cat([scale, torch.ones_like(scale)])[:, None]  # of the first half of a GLU
        self.gain, self.shift = norm.weight[:, None] * gains, norm.bias[:, None] * gains

    def add_to(self, x: Tensor) -> None:
        """Add the branch to ``b n l`` in place."""
        hidden = _apply_all(self.inner, self._enter(x))
        mean = hidden.mean(dim=-1, keepdim=True)
        hidden = hidden - mean
        # Both of each feature of the output: its mean less that of all features, and the gain of the normalisation.
        middle = self.centred_weight @ mean + self.centred_bias
        spread = (hidden @ hidden.mT * self.products).sum(dim=(1, 2), keepdim=True) / hidden.shape[-1]
        gain = (spread + middle.square().mean(dim=1, keepdim=True) + self.eps).rsqrt() * self.gain
        weight, bias = self.weight * gain, torch.addcmul(self.shift, middle, gain)
        length = max(1, BLOCK // (2 * x.shape[0] * x.shape[1]))
        for part, inside in zip(x.split(length, dim=-1), hidden.split(length, dim=-1), strict=True):
            value, gate = torch.baddbmm(bias, weight, inside).chunk(2, dim=1)
            part.addcmul_(value, gate.sigmoid_())

    def _enter(self, x: Tensor) -> Tensor:
        """Convolve by one product for all three taps, whose results are shifted and added."""
        dilation = self.dilation
        before, y, after = (self.taps @ x).chunk(3, dim=1)
        y = y + self.bias
        y[..., dilation:] += before[..., :-dilation]
        y[..., :-dilation] += after[..., dilation:]
        return y


def _apply_all(modules: Iterable[nn.Module], x: Tensor) -> Tensor:
    for module in modules:
        x = module(x)
    return x


class LinearLstm(nn.Module):
    """Two bidirectional LSTM layers, and a linear layer back to the features."""

    def __init__(self, n_features: int) -> None:
        """Make layers with ``n_features`` per direction."""
        super().__init__()
        self.lstm = nn.LSTM(n_features, n_features, num_layers=2, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(2 * n_features, n_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``b n l`` to ``b n l``."""
        if lacks_bf16_lstm(x):
            with torch.autocast("cpu", enabled=False):
                return LinearLstm.forward(self, x.float())
        return self.linear(self.lstm(x.mT)[0]).mT


class FramedLstm(LinearLstm):
    """The same as a residual, over overlapping frames of a long sequence, so that its memory of the past is bounded."""

    FRAME, HOP = 200, 100

    def forward(self, x: Tensor) -> Tensor:
        """Map ``b n l`` to ``b n l``."""
        length = x.shape[-1]
        if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
            return x + self._trace(x)
        if length <= self.FRAME:
            return x + super().forward(x)
        count = -(-length // self.HOP)
        missing = (count - 1) * self.HOP + self.FRAME - length
        frames = F.pad(x, (0, missing)).unfold(-1, self.FRAME, self.HOP)
        y = super().forward(rearrange(frames, "b n k l -> (b k) n l"))
        y = rearrange(y, "(b k) n l -> k b n l", k=count)
        edge = (self.FRAME - self.HOP) // 2
        kept = [y[0, ..., :-edge], *y[1:-1, ..., edge:-edge], y[-1, ..., edge:]]
        return x + torch.cat(kept, dim=-1)[..., :length]

    def _trace(self, x: Tensor) -> Tensor:
        """Do the same without branches, so that an exported graph takes any length: a short sequence is one frame."""
        length = x.shape[-1]
        size, more = at_most(length, self.FRAME), at_least(length - self.FRAME, 0)
        framed = at_most(more, 1)
        count = 1 + framed + (more + self.HOP - 1) // self.HOP
        frames = self.HOP * torch.arange(count)[:, None] + torch.arange(size)
        y = F.pad(x, (0, (count - 1) * self.HOP + size - length))[..., frames]
        y = super().forward(rearrange(y, "b n k l -> (b k) n l"))
        position = torch.arange(length)
        number = (position - (self.FRAME - self.HOP) // 2).clamp(min=0) // self.HOP * framed
        return y.unflatten(0, (-1, count)).transpose(1, 2).flatten(2)[..., number * (size - self.HOP) + position]


class LocalAttention(nn.Module):
    """Attention with a penalty on distance that each position chooses, as a residual."""

    HEADS, DECAYS = 4, 4

    def __init__(self, n_features: int) -> None:
        """Make a layer on ``n_features``, a multiple of the heads."""
        super().__init__()
        self.content = nn.Conv1d(n_features, n_features, 1)
        self.query = nn.Conv1d(n_features, n_features, 1)
        self.key = nn.Conv1d(n_features, n_features, 1)
        self.query_decay = nn.Conv1d(n_features, self.HEADS * self.DECAYS, 1)
        self.proj = nn.Conv1d(n_features, n_features, 1)
        with torch.no_grad():
            self.query_decay.weight.mul_(0.01)
            self.query_decay.bias.fill_(-2)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``b n l`` to ``b n l``."""
        query, key, content, decay = (
            rearrange(layer(x), "b (h n) l -> b h l n", h=self.HEADS)
            for layer in (self.query, self.key, self.content, self.query_decay)
        )
        steepness = torch.arange(1, self.DECAYS + 1, device=x.device, dtype=x.dtype)
        slope = torch.sigmoid(decay) @ steepness[:, None] / (2 * math.sqrt(self.DECAYS))  # b h l 1
        position = torch.arange(x.shape[-1], device=x.device)
        exact = torch.promote_types(x.dtype, torch.float32)  # half precision does not have all integers above 256
        distance = (position[:, None] - position).abs().to(exact)
        dots = query @ key.mT / math.sqrt(key.shape[-1]) - slope * distance
        weights = dots.masked_fill(distance == 0, -100.0).softmax(dim=-1)
        return x + self.proj(rearrange(weights @ content, "b h l n -> b (h n) l"))

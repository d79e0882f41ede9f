"""The cross-domain transformer of HT Demucs, between the deepest levels of both branches.

Source: docs/demucs.md#cross-domain-transformer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.models.layers.linear import Linear
from bandsplit.models.network import RepeatedPart


class FeatureScale(nn.Module):
    """A gain for each feature of tokens ``b l n``, small at first."""

    def __init__(self, n_features: int) -> None:
        """Make gains of 1e-4."""
        super().__init__()
        self.scale = nn.Parameter(torch.full((n_features,), 1e-4))

    def forward(self, x: Tensor) -> Tensor:
        """Scale ``b l n``."""
        return self.scale * x


class TokenNorm(nn.Module):
    """Normalisation over all tokens and features of an item, with a gain and bias per feature."""

    def __init__(self, n_features: int) -> None:
        """Start as the identity after normalisation."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_features))
        self.bias = nn.Parameter(torch.zeros(n_features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``b l n``."""
        return torch.addcmul(self.bias, F.layer_norm(x, x.shape[1:], eps=1e-5), self.weight)


class Attention(nn.Module):
    """Multi-head attention; queries may come from other tokens than keys and values."""

    def __init__(self, n_features: int, heads: int, dropout: float) -> None:
        """Start as `torch.nn.MultiheadAttention` does."""
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * n_features, n_features))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * n_features))
        self.out_proj = Linear(n_features, n_features)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)
        self.heads, self.dropout = heads, dropout

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Map queries of ``b l n`` to ``b l n``, with keys and values of ``b m n``."""
        n = x.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if other is x:
            query, key, value = F.linear(x, weight, bias).chunk(3, dim=-1)
        else:
            query = F.linear(x, weight[:n], bias[:n])
            key, value = F.linear(other, weight[n:], bias[n:]).chunk(2, dim=-1)
        query, key, value = (rearrange(part, "b l (h n) -> b h l n", h=self.heads) for part in (query, key, value))
        dropout = self.dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return self.out_proj(rearrange(found, "b h l n -> b l (h n)"))


class TransformerLayer(RepeatedPart):
    """Attention to the own branch or to the other, and a feed-forward part, both as scaled residuals."""

    def __init__(self, n_features: int, heads: int, hidden: int, dropout: float, cross: bool) -> None:
        """Make a layer; ``cross`` if it attends to the other branch."""
        super().__init__()
        attention = Attention(n_features, heads, dropout)
        if cross:
            self.cross_attn = attention
        else:
            self.self_attn = attention
        self.linear1 = Linear(n_features, hidden)
        self.linear2 = Linear(hidden, n_features)
        self.norm1 = nn.LayerNorm(n_features)
        self.norm2 = nn.LayerNorm(n_features)
        if cross:
            self.norm3 = nn.LayerNorm(n_features)
        self.norm_out = TokenNorm(n_features)
        self.gamma_1 = FeatureScale(n_features)
        self.gamma_2 = FeatureScale(n_features)
        self.cross, self.dropout = cross, dropout

    def _apply_all(self, x: Tensor, other: Tensor) -> Tensor:
        """Map tokens ``b l n`` to ``b l n``; ``other`` are the other branch's ``b m n``."""
        if self.cross:
            attended = self.cross_attn(self.norm1(x), self.norm2(other))
        else:
            own = self.norm1(x)
            attended = self.self_attn(own, own)
        x = x + self.gamma_1(self._drop(attended))
        y = (self.norm3 if self.cross else self.norm2)(x)
        y = self.linear2(self._drop(F.gelu(self.linear1(y))))
        return self.norm_out(x + self.gamma_2(self._drop(y)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class CrossTransformer(nn.Module):
    """A transformer for each branch; every second layer attends to the other one."""

    def __init__(self, n_features: int, heads: int, hidden: int, layers: int, dropout: float) -> None:
        """Make ``layers`` layers for each branch."""
        super().__init__()
        self.norm_in = nn.LayerNorm(n_features)
        self.norm_in_t = nn.LayerNorm(n_features)
        self.layers, self.layers_t = (
            nn.ModuleList(
                TransformerLayer(n_features, heads, hidden, dropout, cross=number % 2 == 1) for number in range(layers)
            )
            for _ in range(2)
        )

    def forward(self, spec: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Map a spectrogram ``b n f t`` and a waveform ``b n l`` to the same shapes."""
        (n,), (bins, frames) = self.norm_in.normalized_shape, spec.shape[2:]
        x = self.norm_in(rearrange(spec, "b n f t -> b (t f) n")) + encode_bins_and_frames(n, bins, frames, spec)
        y = self.norm_in_t(wave.mT) + encode_samples(n, wave.shape[-1], wave)
        for layer, layer_t in zip(self.layers, self.layers_t, strict=True):
            x, y = layer(x, y), layer_t(y, x)
        return rearrange(x, "b (t f) n -> b n f t", f=bins), y.mT

    def parts(self) -> Iterable[RepeatedPart]:
        """Return all layers."""
        return cast(Iterable[RepeatedPart], [*self.layers, *self.layers_t])


def encode_bins_and_frames(n_features: int, bins: int, frames: int, like: Tensor) -> Tensor:
    """Return encodings ``(t f) n`` of positions: the first half of the features knows the frame, the second the bin.

    In each half, sines and cosines alternate.
    """
    half = n_features // 2
    rates = torch.exp(-math.log(10000) * _range(half, like)[::2] / half)

    def encode(count: int) -> Tensor:
        angles = _range(count, like)[:, None] * rates
        return torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(count, -1)

    times = repeat(encode(frames), "t n -> (t f) n", f=bins)
    return torch.cat([times, repeat(encode(bins), "f n -> (t f) n", t=frames)], dim=1)


def encode_samples(n_features: int, length: int, like: Tensor) -> Tensor:
    """Return encodings ``l n`` of positions: the first half of the features are cosines, the second sines."""
    half = n_features // 2
    rates = 10000 ** (_range(half, like) / (half - 1))
    angles = _range(length, like)[:, None] / rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _range(count: int, like: Tensor) -> Tensor:
    exact = torch.promote_types(like.dtype, torch.float32)  # half precision does not have all integers above 256
    return torch.arange(count, device=like.device).to(exact)  # in an exported graph, only integers are sizes

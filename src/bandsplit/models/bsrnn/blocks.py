"""Block parts ``(b c k t n) -> (b c k t n)``, residual inside; a block is a sequence of parts.

Source: docs/numerics.md#block; paper, section III; paper, Fig. 1.
"""

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.models.layers.epsilon import EPS
from bandsplit.models.layers.kernel_frames import attended_frames
from bandsplit.models.layers.kernel_stack import mixed_channels


class Tac(nn.Module):
    """Transform-average-concatenate: the only part that mixes channels (paper, section III-B1)."""

    def __init__(self, n_features: int, hidden: int, activation: Literal["tanh", "prelu"], norm: bool) -> None:
        """Make three linear layers that share one activation; ``norm`` puts a group normalisation in front."""
        super().__init__()
        self.norm = nn.GroupNorm(1, n_features, eps=EPS) if norm else None
        self.transform = nn.Linear(n_features, hidden)
        self.average = nn.Linear(hidden, hidden)
        self.concatenate = nn.Linear(2 * hidden, n_features)
        self.activation = nn.PReLU() if activation == "prelu" else nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b c k t n)`` to ``(b c k t n)``."""
        if self.norm is None and (y := mixed_channels(self, x, self.average.in_features)) is not None:
            return y
        z = x if self.norm is None else self._normalise(x, self.norm)
        each = self.activation(self.transform(z))
        mean = self.activation(self.average(each.mean(dim=1, keepdim=True)))
        # The product of [each, mean] in two parts: this avoids a concatenated copy, and computes the mean's part once.
        from_each, from_mean = self.concatenate.weight.chunk(2, dim=1)
        both = F.linear(each, from_each) + F.linear(mean, from_mean, self.concatenate.bias)
        return x + self.activation(both)

    @staticmethod
    def _normalise(x: Tensor, norm: nn.GroupNorm) -> Tensor:
        normed = norm(rearrange(x, "b c k t n -> (b c) n k t"))
        return rearrange(normed, "(b c) n k t -> b c k t n", b=x.shape[0])


class HeadProjection(nn.Module):
    """Linear layer to ``heads`` groups of features, PReLU, normalisation over (feature, band): one of Q, K, V.

    Every head has its own slope and its own gain and bias per (feature, band).
    """

    def __init__(self, n_features: int, n_bands: int, heads: int, dim: int) -> None:
        """Make ``heads`` projections to ``dim`` features as one."""
        super().__init__()
        self.linear = nn.Linear(n_features, heads * dim)
        self.slope = nn.Parameter(torch.full((heads,), 0.25))
        self.weight = nn.Parameter(torch.ones(heads, n_bands, dim))
        self.bias = nn.Parameter(torch.zeros(heads, n_bands, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b t k n)`` to ``(b h t k n)`` with n = dim on the right."""
        y = rearrange(self.linear(x), "b t k (h n) -> b h t k n", h=len(self.weight))
        y = F.prelu(y, self.slope)  # the slopes run along axis 1, the heads
        normed = F.layer_norm(y, y.shape[-2:], eps=EPS)
        return torch.addcmul(self.bias.unsqueeze(1), normed, self.weight.unsqueeze(1))


class FrameAttention(nn.Module):
    """Self-attention over frames; a frame is described by all its bands at once (paper, section III-B3)."""

    def __init__(self, n_features: int, n_bands: int, heads: int, encoding_dim: int) -> None:
        """Make ``heads`` heads with ``encoding_dim`` features per band of queries and keys."""
        super().__init__()
        self.query = HeadProjection(n_features, n_bands, heads, encoding_dim)
        self.key = HeadProjection(n_features, n_bands, heads, encoding_dim)
        self.value = HeadProjection(n_features, n_bands, heads, n_features // heads)
        self.project = HeadProjection(n_features, n_bands, 1, n_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b c k t n)`` to ``(b c k t n)``."""
        if (found := attended_frames(self, x, EPS)) is not None:
            return found
        frames = rearrange(x, "b c k t n -> (b c) t k n")
        query, key, value = (part(frames).flatten(-2) for part in (self.query, self.key, self.value))
        # The default scale is 1 / sqrt(size of a query), a query being (encoding_dim, band) flattened.
        attended = F.scaled_dot_product_attention(query, key, value)
        joined = rearrange(attended, "b h t (k n) -> b t k (h n)", k=frames.shape[2])
        y = rearrange(self.project(joined), "(b c) 1 t k n -> b c k t n", b=x.shape[0])
        return x + y

"""Attention layers ``(b l n) -> (b l n)``, normalisation inside, the residual sum outside."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.models.layers.linear import Linear
from bandsplit.models.layers.rms_norm import RmsNorm
from bandsplit.models.layers.rotary import Rotary


class GatedAttention(nn.Module):
    """Softmax attention between positions with rotary embedding; a gate per head and position scales its output.

    Source: docs/bs-roformer.md#attention.
    """

    def __init__(self, n_features: int, heads: int, head_features: int, dropout: float = 0.0) -> None:
        """Make ``heads`` heads of an even number of features each; ``dropout`` acts on weights and output."""
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm = RmsNorm(n_features)
        self.rotary = Rotary(head_features)
        self.qkv = Linear(n_features, 3 * heads * head_features, bias=False)
        self.gate = Linear(n_features, heads)
        self.out = Linear(heads * head_features, n_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b l n)`` to ``(b l n)``."""
        x = self.norm(x)
        qkv = rearrange(self.qkv(x), "b l (g h n) -> g b h l n", g=3, h=self.heads)
        query, key = self.rotary(qkv[:2])
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, qkv[2], dropout_p=dropout)
        gated = attended.transpose(1, 2) * self.gate(x).sigmoid().unsqueeze(-1)
        return F.dropout(self.out(gated.flatten(-2)), dropout)


class CrossCovarianceAttention(nn.Module):
    """Attention between the features of a head, over all positions: its cost is linear in their number.

    Source: docs/bs-roformer.md#linear-attention.
    """

    def __init__(self, n_features: int, heads: int, head_features: int, dropout: float = 0.0) -> None:
        """Make ``heads`` heads; ``dropout`` acts on the weights."""
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm = RmsNorm(n_features)
        self.qkv = Linear(n_features, 3 * heads * head_features, bias=False)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.out = Linear(heads * head_features, n_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b l n)`` to ``(b l n)``."""
        qkv = rearrange(self.qkv(self.norm(x)), "b l (g h n) -> g b h n l", g=3, h=self.heads)
        query, key = F.normalize(qkv[:2].to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
        scores = 8 * (query * self.temperature.exp()) @ key.mT
        weights = F.dropout(scores.softmax(dim=-1), self.dropout, self.training)
        return self.out(rearrange(weights.to(qkv.dtype) @ qkv[2], "b h n l -> b l (h n)"))

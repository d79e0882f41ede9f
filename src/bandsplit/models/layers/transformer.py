"""Transformers ``(b l n) -> (b l n)``: layers of attention and a feed-forward network, each with a residual sum."""

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.models.layers.linear import Linear
from bandsplit.models.layers.rms_norm import RmsNorm


class FeedForward(nn.Module):
    """Two linear layers around a GELU, normalisation in front.

    Source: docs/bs-roformer.md#attention.
    """

    def __init__(self, n_features: int, hidden: int, dropout: float = 0.0) -> None:
        """Take the sizes; ``dropout`` follows the activation and the output."""
        super().__init__()
        self.dropout = dropout
        self.norm = RmsNorm(n_features)
        self.enter = Linear(n_features, hidden)
        self.leave = Linear(hidden, n_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b l n)`` to ``(b l n)``."""
        hidden = F.dropout(F.gelu(self.enter(self.norm(x))), self.dropout, self.training)
        return F.dropout(self.leave(hidden), self.dropout, self.training)


class TransformerLayer(nn.Module):
    """Attention and a feed-forward network, the input of each added to its output."""

    def __init__(self, attention: nn.Module, feed_forward: nn.Module) -> None:
        """Take both parts, ``(b l n) -> (b l n)``."""
        super().__init__()
        self.attention = attention
        self.feed_forward = feed_forward

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b l n)`` to ``(b l n)``."""
        x = x + self.attention(x)
        return x + self.feed_forward(x)


class Transformer(nn.Module):
    """Layers in a row, and a normalisation at the end if one is given."""

    def __init__(self, layers: Iterable[TransformerLayer], norm: nn.Module | None = None) -> None:
        """Take the parts."""
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b l n)`` to ``(b l n)``."""
        for layer in self.layers:
            x = layer(x)
        return x if self.norm is None else self.norm(x)

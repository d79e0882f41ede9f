"""Sequence layers along the two axes of a latent: frames and bands, one axis after the other.

Source: docs/numerics.md#block; paper, section III-B4.
"""

from typing import Literal

from einops import rearrange
from torch import Tensor, nn

from bandsplit.models.layers.kernel_recurrent import residual_along

_FOLDS = {
    "time": ("b c k t (h n) -> (b c k h) t n", "(b c k h) t n -> b c k t (h n)"),
    "band": ("b c k t (h n) -> (b c t h) k n", "(b c t h) k n -> b c k t (h n)"),
}


class Along(nn.Module):
    """Apply a sequence layer along one axis and add the input; all other axes are batch.

    With ``heads`` H the features are split in H, which share the layer's weights (paper, section III-B4).
    """

    def __init__(self, axis: Literal["time", "band"], layer: nn.Module, heads: int = 1) -> None:
        """Wrap ``layer``, which maps ``(b l n/h)`` to the same shape."""
        super().__init__()
        self.axis: Literal["time", "band"] = axis
        self.fold, self.unfold = _FOLDS[axis]
        self.layer = layer
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b c k t n)`` to ``(b c k t n)``."""
        if (y := residual_along(self.layer, x, self.axis, self.heads)) is not None:
            return y
        b, c, k, t, _ = x.shape
        sizes = {"b": b, "c": c, "h": self.heads} | ({"k": k} if "k h)" in self.fold else {"t": t})
        folded = rearrange(x, self.fold, h=self.heads)
        return rearrange(folded + self.layer(folded), self.unfold, **sizes)


class DualPath(nn.Sequential):
    """Layers on an image whose bins are bands: each maps ``(b c k t n)`` to the same shape, with one channel."""

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(b n t f)`` to ``(b n t f)``."""
        return rearrange(super().forward(rearrange(input, "b n t f -> b 1 f t n")), "b 1 f t n -> b n t f")

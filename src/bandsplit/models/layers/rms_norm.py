"""Normalisation by the length of the feature vector."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def scale_to_root_mean_square(x: Tensor) -> Tensor:
    """Scale the vectors on the last axis of ``(... n)`` to a root mean square of one; vectors of zeros stay zero.

    It is computed at least in single precision: the least length, 1e-12, is zero in half precision, and silence would
    become 0 / 0.
    """
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1) * x.shape[-1] ** 0.5


class RmsNorm(nn.Module):
    """Scaling to a root mean square of one over the features, then a gain for each feature; no bias.

    Source: docs/bs-roformer.md#normalisation.
    """

    def __init__(self, n_features: int) -> None:
        """Start with gains of one."""
        super().__init__()
        self.gain = nn.Parameter(torch.ones(n_features))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(... n)`` to ``(... n)``."""
        return scale_to_root_mean_square(x) * self.gain

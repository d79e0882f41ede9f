"""The pre-activation block of TFC-TDF UNet v3: convolutions, and linear layers along frequency.

Images are ``(b n t f)``: features, frames, bins.

Source: docs/tfc-tdf.md#block; TFC-TDF-UNet v3 report.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MakeNorm = Callable[[int], nn.Module]
"""Makes the normalisation of a number of features."""
MakeActivation = Callable[[], nn.Module]


class BatchNorm(nn.Module):
    """Batch normalisation of ``(b n t f)``, without the count of batches that `torch.nn.BatchNorm2d` keeps."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, n_features: int) -> None:
        """Start as the identity after normalisation."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_features))
        self.bias = nn.Parameter(torch.zeros(n_features))
        self.register_buffer("running_mean", torch.zeros(n_features))
        self.register_buffer("running_var", torch.ones(n_features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by the batch, and follow its statistics, in training; by the followed ones otherwise."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training)


def norm_act(n_features: int, norm: MakeNorm, activation: MakeActivation, layer: nn.Module) -> list[nn.Module]:
    """Return a layer with what precedes it."""
    return [norm(n_features), activation(), layer]


class TfcTdfBlock(nn.Module):
    """A convolution, linear layers along frequency with a residual, a convolution; and a shortcut around all."""

    def __init__(
        self, n_in: int, n_out: int, bins: int, narrow_bins: int, norm: MakeNorm, activation: MakeActivation
    ) -> None:
        """Make a block from ``n_in`` to ``n_out`` features, with ``narrow_bins`` between its linear layers."""
        super().__init__()
        self.shortcut = nn.Conv2d(n_in, n_out, 1, bias=False)
        self.tfc1 = nn.Sequential(*norm_act(n_in, norm, activation, _conv(n_in, n_out)))
        self.tdf = nn.Sequential(
            *norm_act(n_out, norm, activation, nn.Linear(bins, narrow_bins, bias=False)),
            *norm_act(n_out, norm, activation, nn.Linear(narrow_bins, bins, bias=False)),
        )
        self.tfc2 = nn.Sequential(*norm_act(n_out, norm, activation, _conv(n_out, n_out)))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b n t f)`` with ``n_in`` features to ``n_out``."""
        shortcut = self.shortcut(x)
        x = self.tfc1(x)
        x = x + self.tdf(x)
        return self.tfc2(x) + shortcut


def _conv(n_in: int, n_out: int) -> nn.Module:
    return nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)

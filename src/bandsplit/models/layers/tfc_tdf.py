"""The pre-activation block of TFC-TDF UNet v3: convolutions, and linear layers along frequency.

Images are ``(b n t f)``: features, frames, bins.

Source: docs/tfc-tdf.md#block; TFC-TDF-UNet v3 report.
"""

from collections.abc import Callable

from torch import Tensor, nn

MakeNorm = Callable[[int], nn.Module]
"""Makes the normalisation of a number of features."""
MakeActivation = Callable[[], nn.Module]


class PreActivated(nn.Module):
    """A layer behind a normalisation and an activation."""

    def __init__(self, n_features: int, norm: MakeNorm, activation: MakeActivation, layer: nn.Module) -> None:
        """Put ``norm`` of ``n_features`` and ``activation`` in front of ``layer``."""
        super().__init__()
        self.norm = norm(n_features)
        self.activation = activation()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b n t f)`` to what the layer makes of it."""
        return self.layer(self.activation(self.norm(x)))


class TfcTdfBlock(nn.Module):
    """A convolution, linear layers along frequency with a residual, a convolution; and a shortcut around all."""

    def __init__(
        self, n_in: int, n_out: int, bins: int, narrow_bins: int, norm: MakeNorm, activation: MakeActivation
    ) -> None:
        """Make a block from ``n_in`` to ``n_out`` features, with ``narrow_bins`` between its linear layers."""
        super().__init__()
        self.shortcut = nn.Conv2d(n_in, n_out, 1, bias=False)
        self.tfc1 = PreActivated(n_in, norm, activation, nn.Conv2d(n_in, n_out, 3, padding=1, bias=False))
        self.tdf = nn.Sequential(
            PreActivated(n_out, norm, activation, nn.Linear(bins, narrow_bins, bias=False)),
            PreActivated(n_out, norm, activation, nn.Linear(narrow_bins, bins, bias=False)),
        )
        self.tfc2 = PreActivated(n_out, norm, activation, nn.Conv2d(n_out, n_out, 3, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b n t f)`` with ``n_in`` features to ``n_out``."""
        shortcut = self.shortcut(x)
        x = self.tfc1(x)
        x = x + self.tdf(x)
        return self.tfc2(x) + shortcut

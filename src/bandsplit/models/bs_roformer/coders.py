"""Band split and mask estimators; spectrograms are real, with real and imaginary parts on the last axis.

Weights are stacked: bands of one width, and the hidden layers of all bands, are batched products. On two cores they
take 0.8 of the time of a product for each band.
`tests/models/bs_roformer/test_roformer_coders.py` has the loop over bands.

Source: docs/bs-roformer.md#band-split; docs/bs-roformer.md#masks.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.models.layers.band_linear import BandLinear, constant_table
from bandsplit.models.layers.bands import BandRun, are_side_by_side
from bandsplit.models.layers.rms_norm import scale_to_root_mean_square


class NormalisedBandLinear(BandLinear):
    """Normalisation of the features of each position, then a linear layer per band."""

    def __init__(self, n_bands: int, n_in: int, n_out: int) -> None:
        """Start with gains of one in the normalisation."""
        super().__init__(n_bands, n_in, n_out)
        self.gain = nn.Parameter(torch.ones(n_bands, 1, n_in))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(k l n_in)`` to ``(k l n_out)``."""
        return super().forward(scale_to_root_mean_square(x) * self.gain)


class BandSplit(nn.Module):
    """Projection of the bins of each band, all channels together, to ``n_features`` features."""

    def __init__(self, runs: Sequence[BandRun], n_features: int, channels: int) -> None:
        """Take the band ``runs``."""
        super().__init__()
        self.runs = tuple(runs)
        self.projections = nn.ModuleList(
            NormalisedBandLinear(run.count, 2 * channels * run.width, n_features) for run in self.runs
        )
        self.bins: Tensor | None
        """The bins of all bands, band by band; None if they are in this order already."""
        bins = None if are_side_by_side(self.runs) else [bin for run in self.runs for bin in run.bins()]
        self.register_buffer("bins", constant_table(bins), persistent=False)

    def forward(self, spec: Tensor) -> Tensor:
        """Map ``(b c f t r)`` to ``(b k t n)``."""
        parts = spec if self.bins is None else spec[:, :, self.bins]
        by_run = parts.split([run.count * run.width for run in self.runs], dim=2)
        projected = [
            project(rearrange(part, "b c (k w) t r -> k (b t) (w c r)", k=run.count))
            for part, run, project in zip(by_run, self.runs, self.projections, strict=True)
        ]
        return rearrange(torch.cat(projected), "k (b t) n -> b k t n", b=spec.shape[0])


class MaskEstimator(nn.Module):
    """A multi-layer perceptron per band for the complex masks of one target."""

    def __init__(
        self, runs: Sequence[BandRun], n_features: int, channels: int, hidden: int, hidden_layers: int
    ) -> None:
        """Take the band ``runs`` and the sizes of the perceptrons."""
        super().__init__()
        self.runs, self.channels = tuple(runs), channels
        n_bands = sum(run.count for run in self.runs)
        sizes = [n_features] + [hidden] * hidden_layers
        self.hidden = nn.ModuleList(BandLinear(n_bands, n, hidden) for n in sizes[:-1])
        self.leave = nn.ModuleList(BandLinear(run.count, sizes[-1], 4 * channels * run.width) for run in self.runs)

    def forward(self, latent: Tensor) -> Tensor:
        """Map ``(k b t n)`` to masks ``(b c f t r)``, with the bins of all bands, band by band, on axis f."""
        _, b, _, _ = latent.shape
        x = latent.flatten(1, 2)
        for layer in self.hidden:
            x = layer(x).tanh()
        # Split, not sliced: the gradient of each slice would fill a tensor of the full size.
        by_run = x.split([run.count for run in self.runs])
        masks = [
            rearrange(F.glu(layer(part)), "k (b t) (w c r) -> b c (k w) t r", b=b, c=self.channels, r=2)
            for layer, part in zip(self.leave, by_run, strict=True)
        ]
        return torch.cat(masks, dim=2)

"""Coders ``spec -> latent`` and ``latent -> estimate``: the only places that know band widths and channel merging.

Bands of one width stand next to each other, so one batched product serves a complete run of bands, and the hidden
layers of all bands are one product. Weights are stacked: ``(k n_in n_out)``. A normalisation's gain and bias are folded
into the product that follows it. `tests/models/bsrnn/test_coders.py` has the equivalent plain loop over bands.

Source: docs/numerics.md#band-encoder; docs/numerics.md#mask-decoder; paper, section III-A.
"""

from collections.abc import Iterator, Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.models.layers.band_linear import BandLinear, constant_table
from bandsplit.models.layers.bands import BandRun, are_side_by_side, mean_of_bands
from bandsplit.models.layers.epsilon import EPS
from bandsplit.models.layers.kernel_stack import tanh_perceptrons


class BandNormLinear(BandLinear):
    """Group normalisation over (features, all frames) of each band, then a linear layer per band."""

    def __init__(self, n_bands: int, n_in: int, n_out: int) -> None:
        """Start with unit gain and no bias in the normalisation."""
        super().__init__(n_bands, n_in, n_out)
        self.norm_weight = nn.Parameter(torch.ones(n_bands, n_in, 1))
        self.norm_bias = nn.Parameter(torch.zeros(n_bands, 1, n_in))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(k b t n_in)`` to ``(k b*t n_out)``; b holds the channels too."""
        weight, bias = self.folded()
        return torch.baddbmm(bias, F.layer_norm(x, x.shape[-2:], eps=EPS).flatten(1, 2), weight)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias with those of the normalisation folded in."""
        return self.norm_weight * self.weight, torch.baddbmm(self.bias, self.norm_bias, self.weight)


class BandEncoder(nn.Module):
    """Project the complex bins of every band to ``n_features`` features: the paper's band split module."""

    def __init__(self, runs: Sequence[BandRun], n_features: int, merged_channels: int = 1) -> None:
        """Take the band ``runs``; ``merged_channels`` > 1 projects that many channels together."""
        super().__init__()
        self.runs = tuple(runs)
        self.merged_channels = merged_channels
        self.projections = nn.ModuleList(
            BandNormLinear(run.count, 2 * merged_channels * run.width, n_features) for run in self.runs
        )
        self.bins: Tensor | None
        """The bins of all bands, band by band; None if they are in this order already."""
        bins = None if are_side_by_side(self.runs) else [bin for run in self.runs for bin in run.bins()]
        self.register_buffer("bins", constant_table(bins), persistent=False)

    def forward(self, spec: Tensor) -> Tensor:
        """Map ``(b c f t)`` complex to ``(b c k t n)``; with merged channels c becomes 1."""
        frames = spec.shape[-1]
        parts = rearrange(torch.view_as_real(spec), "b (c m) f t r -> (b c) m r t f", m=self.merged_channels)
        if self.bins is not None:
            parts = parts[..., self.bins]
        encoded, start = [], 0
        for run, project in zip(self.runs, self.projections, strict=True):
            stop = start + run.count * run.width
            encoded.append(project(rearrange(parts[..., start:stop], "b m r t (k w) -> k b t (m r w)", k=run.count)))
            start = stop
        return rearrange(torch.cat(encoded), "k (b c t) n -> b c k t n", b=spec.shape[0], t=frames)


class MaskDecoder(nn.Module):
    """Turn latent features into the complex mask of one target and apply it: the paper's mask estimation module."""

    def __init__(
        self,
        runs: Sequence[BandRun],
        n_features: int,
        hidden: int,
        hidden_layers: int,
        merged_channels: int = 1,
        context: int = 0,
    ) -> None:
        """Take the band ``runs`` and the size of the multi-layer perceptron.

        ``context`` taps on either side of a bin let it draw from its neighbours in the full-band mixture; these taps
        start at zero, so that training starts from the plain mask.
        """
        super().__init__()
        self.runs = tuple(runs)
        self.merged_channels = merged_channels
        self.taps = 2 * context + 1
        n_bands = sum(run.count for run in self.runs)
        self.enter = BandNormLinear(n_bands, n_features, hidden)
        self.hidden = nn.ModuleList(BandLinear(n_bands, hidden, hidden) for _ in range(hidden_layers - 1))
        self.leave = nn.ModuleList(
            BandLinear(run.count, hidden, 4 * merged_channels * self.taps * run.width) for run in self.runs
        )
        if context:
            self._start_at_the_centre_tap()
        self.places: Tensor | None
        self.shares: Tensor | None
        places, shares = (None, None) if are_side_by_side(self.runs) else mean_of_bands(self.runs)
        self.register_buffer("places", constant_table(places), persistent=False)
        self.register_buffer("shares", constant_table(shares), persistent=False)

    @torch.no_grad()
    def _start_at_the_centre_tap(self) -> None:
        for run, layer in zip(self.runs, self.leave, strict=True):
            for parameter in layer.parameters():
                taps = rearrange(
                    parameter, "k i (c g j x) -> j k i c g x", c=self.merged_channels, g=2, j=self.taps, x=2 * run.width
                )
                centre = taps[self.taps // 2].clone()
                taps.zero_()
                taps[self.taps // 2] = centre

    def mask(self, latent: Tensor) -> Tensor:
        """Map ``(b c k t n)`` to the complex mask ``(b c j f t)`` with j taps."""
        b, _, _, t, _ = latent.shape
        parts = []
        for outputs in self._perceptrons(rearrange(latent, "b c k t n -> k (b c) t n")):
            halves = rearrange(outputs, "k l (m g x) -> k l m g x", m=self.merged_channels, g=2)
            gated = F.glu(halves, dim=-2)
            axes = {"b": b, "t": t, "j": self.taps, "r": 2}
            parts.append(rearrange(gated, "k (b c t) m 1 (j r w) -> b (c m) j (k w) t r", **axes))
        masks = torch.cat(parts, dim=3)
        if self.places is not None and self.shares is not None:
            masks = torch.einsum("bcjfdtr,fd->bcjftr", masks[:, :, :, self.places], self.shares)
        return torch.view_as_complex(masks)

    def _perceptrons(self, banded: Tensor) -> Sequence[Tensor]:
        """Map ``(k b t n)`` to the outputs ``(k b*t m)`` of each run of bands."""
        if (found := tanh_perceptrons(self, banded, EPS, self._folded)) is not None:
            return found
        y = torch.tanh(self.enter(banded))
        for layer in self.hidden:
            y = torch.tanh(layer(y))
        # Split, not sliced: the gradient of each slice would fill a tensor of the full size.
        hidden = y.split([run.count for run in self.runs])
        return [layer(features) for layer, features in zip(self.leave, hidden, strict=True)]

    def _folded(self) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Yield weights and biases of all layers, for each run of bands; the first layer takes standardised inputs."""
        shared = [self.enter.folded(), *map(_weight_and_bias, self.hidden)]
        start = 0
        for run, layer in zip(self.runs, self.leave, strict=True):
            stop = start + run.count
            yield [*((weight[start:stop], bias[start:stop]) for weight, bias in shared), _weight_and_bias(layer)]
            start = stop

    def forward(self, latent: Tensor, mixture: Tensor) -> Tensor:
        """Estimate ``(b c f t)`` from the latent and the mixture's spectrogram ``(b c f t)``."""
        mask = self.mask(latent)
        if self.taps == 1:
            return mask.squeeze(2) * mixture
        context = self.taps // 2
        neighbours = F.pad(mixture, (0, 0, context, context)).unfold(2, self.taps, 1)
        return (mask * rearrange(neighbours, "b c f t j -> b c j f t")).sum(dim=2)


def _weight_and_bias(layer: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, BandLinear)
    return layer.weight, layer.bias

"""The pre-activation block of TFC-TDF UNet v3: convolutions, and linear layers along frequency.

Images are ``(b n t f)``: features, frames, bins. On a CPU, without gradients, convolutions are faster with features
last in memory; the other layers then have a path of their own, since torch's is slow, or imprecise for many pixels.

Source: docs/tfc-tdf.md#block; docs/tfc-tdf.md#speed; TFC-TDF-UNet v3 report.
"""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn

from bandsplit.models.layers.batch_norm import BatchNorm

EPS = 1e-5
"""Epsilon of every normalisation."""
NUMBERS_AT_ONCE = 1 << 17
"""So many numbers are normalised and activated at a time, on a CPU: they stay in the cache of a core."""


def features_last(x: Tensor) -> Tensor:
    """Return an image with its features last in memory where that is faster, itself elsewhere."""
    slow = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
    if slow or x.device.type != "cpu" or x.dtype != torch.float32:
        return x
    return x.contiguous(memory_format=torch.channels_last)


def has_features_last(x: Tensor) -> bool:
    """Return whether an image comes from `features_last`."""
    return not torch.is_grad_enabled() and x.is_contiguous(memory_format=torch.channels_last)


class GroupNorm(nn.GroupNorm):
    """Group normalisation of images; instance normalisation, if each feature is a group."""

    def __init__(self, n_features: int, groups: int) -> None:
        """Start as the identity after normalisation."""
        super().__init__(groups, n_features, EPS)

    def scale_and_shift(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return factor and summand of each feature that normalise an image, whose pixels are rows ``l n``."""
        mean, var = _mean_and_variance(rows)
        groups = rearrange(mean, "(g n) -> g n", g=self.num_groups)
        mean_of_group = groups.mean(1, keepdim=True)
        var = rearrange(var, "(g n) -> g n", g=self.num_groups) + (groups - mean_of_group).square()
        scale = (var.mean(1, keepdim=True) + self.eps).rsqrt() * self.weight.view_as(groups)
        shift = self.bias.view_as(groups) - mean_of_group * scale
        return scale.flatten(), shift.flatten()


MakeNorm = Callable[[int], GroupNorm | BatchNorm | nn.Identity]
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
        if isinstance(self.norm, GroupNorm) and has_features_last(x):
            return self.layer(self._prepare_by_rows(self.norm, x))
        return self.layer(self.activation(self.norm(x)))

    def _prepare_by_rows(self, norm: GroupNorm, x: Tensor) -> Tensor:
        prepared = torch.empty_like(x)
        images, targets = (rearrange(one, "b n t f -> b (t f) n") for one in (x, prepared))
        for image, target in zip(images, targets, strict=True):
            scale, shift = norm.scale_and_shift(image)
            for rows, place in zip(_split(image), _split(target), strict=True):
                place.copy_(self.activation(torch.addcmul(shift, rows, scale)))
        return prepared


def _split(rows: Tensor) -> tuple[Tensor, ...]:
    return rows.split(max(1, NUMBERS_AT_ONCE // rows.shape[1]))


def _mean_and_variance(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance over all rows ``l n``."""
    parts = _split(rows)
    share = torch.tensor([len(part) / len(rows) for part in parts]).unsqueeze(1)
    means = torch.stack([part.mean(0) for part in parts])
    variances = torch.stack([(part - mean).square_().mean(0) for part, mean in zip(parts, means, strict=True)])
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean).square())).sum(0)


class AlongBins(nn.Linear):
    """A linear layer along the last axis of images."""

    def __init__(self, n_in: int, n_out: int) -> None:
        """Map ``n_in`` bins to ``n_out``."""
        super().__init__(n_in, n_out, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(b n t f)`` with ``n_in`` bins to ``n_out``."""
        if not has_features_last(input):
            return super().forward(input)
        frames = rearrange(input, "b n t f -> (b t) f n")
        products = torch.bmm(self.weight.expand(len(frames), -1, -1), frames)
        return rearrange(products, "(b t) f n -> b n t f", b=len(input))


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
            PreActivated(n_out, norm, activation, AlongBins(bins, narrow_bins)),
            PreActivated(n_out, norm, activation, AlongBins(narrow_bins, bins)),
        )
        self.tfc2 = PreActivated(n_out, norm, activation, nn.Conv2d(n_out, n_out, 3, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b n t f)`` with ``n_in`` features to ``n_out``."""
        shortcut = self.shortcut(x)
        x = self.tfc1(x)
        x = _add(self.tdf(x), x)
        return _add(self.tfc2(x), shortcut)


def _add(x: Tensor, y: Tensor) -> Tensor:
    """Add in place if no gradient needs ``x``: a CPU takes longer to get new memory than to add."""
    return x + y if torch.is_grad_enabled() else x.add_(y)

"""The network of the family: spectrogram to image, U-Net, image to the spectrograms of all targets.

Source: docs/tfc-tdf.md#forward-pass; TFC-TDF-UNet v3 report.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn
from typing_extensions import assert_never

from bandsplit.audio.stft import istft, stft
from bandsplit.models.layers.batch_norm import BatchNorm
from bandsplit.models.layers.complex_channels import from_channels, to_channels
from bandsplit.models.layers.tfc_tdf import MakeActivation, MakeNorm, PreActivated, TfcTdfBlock
from bandsplit.models.network import RepeatedPart, Separation, SeparationModel
from bandsplit.models.tfc_tdf import config as cfg
from bandsplit.models.tfc_tdf.config import TfcTdfConfig

EPS = 1e-5
"""Epsilon of every normalisation."""


class UNet(nn.Module):
    """Encoder, coarsest scale and decoder, which sees the encoder's output of its scale again.

    Images are ``(b n t f)``.
    """

    def __init__(self, config: TfcTdfConfig) -> None:
        """Make the blocks and the changes of scale between them."""
        super().__init__()
        norm, activation = make_norm(config), make_activation(config)
        scale = config.scale_frames, config.scale_bins
        last = config.n_scales

        def blocks(n_in: int, at: int) -> RepeatedPart:
            n_out, bins = config.features_at(at), config.bins_at(at)
            counts = [n_in] + [n_out] * (config.n_blocks - 1)
            narrow = bins // config.bottleneck_factor
            return RepeatedPart(*(TfcTdfBlock(count, n_out, bins, narrow, norm, activation) for count in counts))

        def change(kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], start: int, end: int) -> PreActivated:
            n_in, n_out = config.features_at(start), config.features_at(end)
            return PreActivated(n_in, norm, activation, kind(n_in, n_out, scale, scale, bias=False))

        up, down = range(last), range(last - 1, -1, -1)
        self.encoder = nn.ModuleList(blocks(config.features_at(at), at) for at in up)
        self.coarsen = nn.ModuleList(change(nn.Conv2d, at, at + 1) for at in up)
        self.bottleneck = blocks(config.features_at(last), last)
        self.refine = nn.ModuleList(change(nn.ConvTranspose2d, at + 1, at) for at in down)
        self.decoder = nn.ModuleList(blocks(2 * config.features_at(at), at) for at in down)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image to one of the same shape."""
        remembered = []
        for blocks, coarsen in zip(self.encoder, self.coarsen, strict=True):
            x = blocks(x)
            remembered.append(x)
            x = coarsen(x)
        x = self.bottleneck(x)
        for refine, blocks in zip(self.refine, self.decoder, strict=True):
            x = blocks(torch.cat([refine(x), remembered.pop()], dim=1))
        return x

    def repeated_parts(self) -> Iterable[RepeatedPart]:
        """Yield the blocks of each scale."""
        yield from (part for part in self.modules() if isinstance(part, RepeatedPart))


class TfcTdfModel(SeparationModel):
    """A TFC-TDF UNet v3. `build_network` builds it; ``config`` describes it completely."""

    config: TfcTdfConfig

    def __init__(self, config: TfcTdfConfig, enter: nn.Module, unet: UNet, leave: nn.Sequential) -> None:
        """Take the parts; the last layer of ``leave`` has the channels of each target of ``config`` in turn."""
        super().__init__()
        self.config = config
        self.enter = enter
        self.unet = unet
        self.leave = leave

    def forward(self, mixture: Tensor) -> Separation:
        """Estimate all targets of ``mixture``, ``b c samples``.

        Raises:
            ValueError: the shape, the length or the number of channels does not fit the model.
        """
        spec = self.spectrograms(mixture)
        return Separation(istft(spec, self.config.stft, mixture.shape[-1]), spec)

    def spectrograms(self, mixture: Tensor) -> Tensor:
        """Estimate the spectrograms ``b s c f t`` of all targets of ``b c samples``, without inverting them.

        Raises:
            ValueError: as `forward`.
        """
        self._check(mixture)
        spec = stft(mixture, self.config.stft)
        return from_channels(self.estimate(to_channels(spec, self.config.n_bins)), spec.shape[-2])

    def estimate(self, image: Tensor) -> Tensor:
        """Map the real image of the mixture, ``b (c r) f t``, to those of all targets, ``b s (c r) f t``."""
        bands = self.config.n_subbands
        mixture = rearrange(image, "b c (k f) t -> b (c k) t f", k=bands)
        entered = self.enter(mixture)
        x = self.leave(torch.cat([mixture, self.unet(entered) * entered], dim=1))
        return rearrange(x, "b (s c k) t f -> b s c (k f) t", s=len(self.config.targets), k=bands)

    def narrowed(self, targets: Sequence[str]) -> TfcTdfModel:
        """Leave out the channels of other targets in the last layer."""
        config = self.config
        wanted = [number for number, target in enumerate(config.targets) if target in targets]
        *others, last = self.leave
        assert isinstance(last, nn.Conv2d)
        rows = last.weight.detach().unflatten(0, (len(config.targets), -1))[wanted].flatten(0, 1)
        with torch.device("meta"):
            leave = nn.Sequential(*others, nn.Conv2d(last.in_channels, len(rows), 1, bias=False))
        leave[-1].weight = nn.Parameter(rows)
        narrow = config.model_copy(update={"targets": tuple(config.targets[number] for number in wanted)})
        return TfcTdfModel(narrow, self.enter, self.unet, leave)

    def repeated_parts(self) -> Iterable[RepeatedPart]:
        """Return the blocks of each scale."""
        return self.unet.repeated_parts()

    def _check(self, mixture: Tensor) -> None:
        if mixture.dim() != 3 or mixture.shape[1] != self.config.channels:
            raise ValueError(
                f"mixture: must be (batch, {self.config.channels} channels, samples), got {tuple(mixture.shape)}; "
                f"duplicate or fold the channels first"
            )
        samples, geometry = mixture.shape[-1], self.config.geometry
        fitting = geometry.fitting(samples)
        if samples != fitting:
            raise ValueError(
                f"mixture: has {samples} samples, but the network takes multiples of {geometry.multiple_samples} less "
                f"{geometry.less_samples}; the next is {fitting}; pad with zeros, as `separate` does"
            )


def build_network(config: TfcTdfConfig) -> TfcTdfModel:
    """Build the network that ``config`` describes, with random weights from torch's global generator."""
    image, n = config.image_channels, config.n_features
    enter = nn.Conv2d(image, n, 1, bias=False)
    leave = nn.Sequential(
        nn.Conv2d(n + image, n, 1, bias=False),
        make_activation(config)(),
        nn.Conv2d(n, len(config.targets) * image, 1, bias=False),
    )
    return TfcTdfModel(config, enter, UNet(config), leave)


def make_norm(config: TfcTdfConfig) -> MakeNorm:
    """Return what makes the normalisation of a number of features."""
    match config.norm:
        case None:
            return lambda n_features: nn.Identity()
        case cfg.InstanceNorm():
            return lambda n_features: nn.GroupNorm(n_features, n_features, EPS)
        case cfg.BatchNorm():
            return BatchNorm
        case cfg.GroupNorm(groups=groups):
            return lambda n_features: nn.GroupNorm(groups, n_features, EPS)
        case other:
            assert_never(other)


def make_activation(config: TfcTdfConfig) -> MakeActivation:
    """Return what makes the activation."""
    match config.activation:
        case cfg.Gelu():
            return nn.GELU
        case cfg.Relu():
            return nn.ReLU
        case cfg.Elu(alpha=alpha):
            return partial(nn.ELU, alpha)
        case other:
            assert_never(other)

"""The network of the family: subbands, their magnitudes through a U-Net, masks with rotations, subbands joined again.

Source: docs/presunet.md#forward-pass; CWS-PResUNet paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.audio.stft import istft, stft
from bandsplit.core.sizes import missing_to_multiple
from bandsplit.models.layers.batch_norm import BatchNorm
from bandsplit.models.network import RepeatedPart, Separation, SeparationModel
from bandsplit.models.presunet.config import HEAD_BLOCKS, PARTS, PresunetConfig
from bandsplit.models.presunet.filter_bank import FilterBank
from bandsplit.models.presunet.unet import MOMENTUM, Unet, residual_blocks, start

LEAST_POWER = 1e-8
"""Lower limit of squared magnitudes of the mixture."""
LEAST_SQUARE = 1e-20
"""Lower limit of the squared length of a rotation before it is normalised."""


class Head(nn.Module):
    """Residual blocks and a convolution 1 x 1 from the features of the U-Net to the images of one target."""

    def __init__(self, n_features: int, image: int) -> None:
        """Make the head for ``image`` channels."""
        super().__init__()
        self.blocks = residual_blocks(n_features, n_features, HEAD_BLOCKS)
        self.leave = start(nn.Conv2d(n_features, PARTS * image, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``b n t f`` to ``b (p c) t f``."""
        return self.leave(self.blocks(x))


class PresunetModel(SeparationModel):
    """A CWS-PResUNet. `build_network` builds it; ``config`` describes it completely."""

    config: PresunetConfig

    def __init__(
        self, config: PresunetConfig, bank: FilterBank, norm: BatchNorm, unet: Unet, heads: Sequence[Head]
    ) -> None:
        """Take the parts; there is a head for each target of ``config`` in turn."""
        super().__init__()
        self.config = config
        self.bank = bank
        self.norm = norm
        self.unet = unet
        self.heads = nn.ModuleList(heads)

    def forward(self, mixture: Tensor) -> Separation:
        """Estimate all targets of ``mixture``, ``b c samples``.

        Raises:
            ValueError: the number of channels or samples does not fit the model.
        """
        self._check(mixture)
        samples, config = mixture.shape[-1], self.config
        bands = self.bank.split(mixture)
        spec = stft(bands, config.stft).flatten(1, 2).mT  # b (c k) t f
        mask = torch.complex(*self.masks(magnitude(spec.real, spec.imag)))
        estimates = F.pad(mask * spec[:, None, ..., : config.bins], (0, 1)).mT.unflatten(2, (config.channels, -1))
        signal = self.bank.join(istft(estimates, config.stft, bands.shape[-1]))
        return Separation(F.pad(signal, (0, samples - signal.shape[-1])), None)

    def masks(self, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """Map magnitudes ``b (c k) t f`` of the mixture to complex masks ``b s (c k) t f``, without the highest bin.

        Returns:
            Their real and imaginary parts.
        """
        # Under autocast, images come in half precision, which complex numbers do not have.
        logits, real, imag, residual = self.estimate(magnitude).to(magnitude.dtype).unbind(2)
        magnitude = magnitude[:, None, ..., : self.config.bins]
        found = (torch.sigmoid(logits) * magnitude + residual).relu()
        length = (real.square() + imag.square()).clamp(min=LEAST_SQUARE).sqrt()
        gain = found / (length * magnitude)
        return real * gain, imag * gain

    def estimate(self, magnitude: Tensor) -> Tensor:
        """Map magnitudes ``b (c k) t f`` of the mixture to images ``b s p (c k) t f`` for all bins but the highest.

        The images p are logits of the mask, real and imaginary part of the rotation, and residual magnitude.
        """
        frames, step = magnitude.shape[-2], 2 ** len(self.config.widths)
        x = self.norm(magnitude.transpose(1, 3)).transpose(1, 3)
        x = F.pad(x[..., :-1], (0, 0, 0, missing_to_multiple(frames, step)))
        x = self.unet(x)
        masks = torch.stack([head(x) for head in self.heads], dim=1)[..., :frames, :]
        return rearrange(masks, "b s (p c) t f -> b s p c t f", p=PARTS)

    def narrowed(self, targets: Sequence[str]) -> PresunetModel:
        """Leave out the heads of other targets."""
        wanted = [number for number, target in enumerate(self.config.targets) if target in targets]
        narrow = self.config.model_copy(update={"targets": tuple(self.config.targets[number] for number in wanted)})
        heads = [cast(Head, self.heads[number]) for number in wanted]
        return PresunetModel(narrow, self.bank, self.norm, self.unet, heads).train(self.training)

    def repeated_parts(self) -> Iterable[RepeatedPart]:
        """Return the groups of residual blocks of the U-Net and of the heads."""
        return [part for part in self.modules() if isinstance(part, RepeatedPart)]

    def _check(self, mixture: Tensor) -> None:
        if mixture.dim() != 3 or mixture.shape[1] != self.config.channels:
            raise ValueError(
                f"mixture: must be (batch, {self.config.channels} channels, samples), got {tuple(mixture.shape)}; "
                f"duplicate or fold the channels first"
            )
        least = self.config.geometry.least_samples
        if mixture.shape[-1] < least:
            raise ValueError(
                f"mixture: has {mixture.shape[-1]} samples, but the network needs at least {least}; pad with zeros, as "
                f"`separate` does"
            )


def magnitude(real: Tensor, imag: Tensor) -> Tensor:
    """Return magnitudes of a spectrogram, whose squares have a lower limit."""
    return (real.square() + imag.square()).clamp(min=LEAST_POWER).sqrt()


def build_network(config: PresunetConfig) -> PresunetModel:
    """Build the network that ``config`` describes, with random weights from torch's global generator."""
    norm = BatchNorm(config.stft.n_fft // 2 + 1, MOMENTUM)
    unet = Unet(config.image_channels, config.widths, config.n_blocks)
    heads = [Head(config.widths[0], config.image_channels) for _ in config.targets]
    return PresunetModel(config, FilterBank(), norm, unet, heads)

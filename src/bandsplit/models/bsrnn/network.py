"""The network of the family: an encoder, blocks and one mask decoder per target."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from bandsplit.audio.stft import istft, stft
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.network import RepeatedPart, Separation, SeparationModel


class BandSplitModel(SeparationModel):
    """A band-split separation model.

    `bandsplit.models.bsrnn.build` builds it; ``config`` describes it completely. It works at any length down to one
    sample.
    """

    config: BsrnnConfig

    def __init__(self, config: BsrnnConfig, encoder: nn.Module, blocks: nn.Module, decoders: nn.ModuleDict) -> None:
        """Take the parts; ``decoders`` has a mask decoder for each target except the residual one."""
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.blocks = blocks
        self.decoders = decoders

    def forward(self, mixture: Tensor) -> Separation:
        """Estimate all targets of ``mixture``, ``b c samples``.

        Raises:
            ValueError: the shape or the number of channels does not fit the model.
        """
        spec = self.spectrograms(mixture)
        return Separation(istft(spec, self.config.stft, mixture.shape[-1]), spec)

    def spectrograms(self, mixture: Tensor) -> Tensor:
        """Estimate the spectrograms ``b s c f t`` of all targets of ``b c samples``, without inverting them.

        Raises:
            ValueError: as `forward`.
        """
        self._check(mixture)
        return self.estimate(stft(mixture, self.config.stft))

    def estimate(self, mixture: Tensor) -> Tensor:
        """Estimate the spectrograms ``b s c f t`` of all targets from the mixture's, ``b c f t``."""
        latent = self.blocks(self.encoder(mixture))
        decoded = {target: decoder(latent, mixture) for target, decoder in self.decoders.items()}
        if self.config.residual is not None:
            decoded[self.config.residual] = mixture - _sum(decoded.values())
        estimates = torch.stack([decoded[target] for target in self.config.targets], dim=1)
        if self.config.mixture_consistency:
            # Equals the projection of the masks (docs/numerics.md#mask-decoder), and holds for context masks too.
            remainder = mixture.unsqueeze(1) - estimates.sum(dim=1, keepdim=True)
            estimates = estimates + remainder / estimates.shape[1]
        return estimates

    def narrowed(self, targets: Sequence[str]) -> "BandSplitModel":
        """Leave out the decoders of other targets, unless estimates depend on all of them."""
        config = self.config.narrowed(targets)
        decoders = nn.ModuleDict(
            {target: self.decoders[target] for target in config.targets if target in self.decoders}
        )
        return BandSplitModel(config, self.encoder, self.blocks, decoders)

    def repeated_parts(self) -> Iterable[RepeatedPart]:
        """Return the blocks."""
        return cast(Iterable[RepeatedPart], self.blocks.children())

    def _check(self, mixture: Tensor) -> None:
        if mixture.dim() != 3 or mixture.shape[-1] < 1:
            raise ValueError(f"mixture: must be (batch, channels, samples >= 1), got {tuple(mixture.shape)}")
        channels = mixture.shape[1]
        if not self.config.any_channels and channels != self.config.channels:
            raise ValueError(
                f"mixture: has {channels} channel(s), but this model with {self.config.stereo.kind!r} stereo needs "
                f"exactly {self.config.channels}; duplicate or fold the channels first"
            )


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(tensors)).sum(dim=0)

"""The network of the family: a band split, blocks of transformers, and a mask estimator per target.

Source: docs/bs-roformer.md#forward-pass.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.audio.stft import istft, stft
from bandsplit.models.bs_roformer.coders import BandSplit
from bandsplit.models.bs_roformer.config import BsRoformerConfig
from bandsplit.models.layers.band_linear import constant_table
from bandsplit.models.layers.bands import are_side_by_side, mean_of_bands
from bandsplit.models.layers.complex_channels import as_complex
from bandsplit.models.layers.transformer import Transformer
from bandsplit.models.network import RepeatedPart, Separation, SeparationModel

Axis = Literal["linear", "time", "band"]
_FOLDS: dict[Axis, tuple[str, str]] = {
    "linear": ("b k t n -> b (k t) n", "b (k t) n -> b k t n"),
    "time": ("b k t n -> (b k) t n", "(b k) t n -> b k t n"),
    "band": ("b k t n -> (b t) k n", "(b t) k n -> b k t n"),
}


class AxisTransformer(nn.Module):
    """A transformer along one axis of ``(b k t n)``, or along bands and frames as one sequence (``linear``)."""

    def __init__(self, axis: Axis, transformer: Transformer) -> None:
        """Wrap ``transformer``, which maps ``(b l n)`` to the same shape."""
        super().__init__()
        self.fold, self.unfold = _FOLDS[axis]
        self.transformer = transformer

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b k t n)`` to ``(b k t n)``."""
        b, k, t, _ = x.shape
        return rearrange(self.transformer(rearrange(x, self.fold)), self.unfold, b=b, k=k, t=t)


class BsRoformer(SeparationModel):
    """A BS-RoFormer or Mel-Band RoFormer; it works at any length down to one sample.

    `bandsplit.models.bs_roformer.build` builds it; ``config`` describes it completely.
    """

    config: BsRoformerConfig

    def __init__(
        self,
        config: BsRoformerConfig,
        split: BandSplit,
        linears: nn.ModuleList,
        blocks: nn.ModuleList,
        norm: nn.Module,
        estimators: nn.ModuleDict,
    ) -> None:
        """Take the parts.

        Args:
            config: description of the network.
            split: maps ``(b c f t r)`` to ``(b k t n)``.
            linears: transformers in front of the blocks, as many as these or none.
            blocks: map ``(b k t n)`` to the same shape.
            norm: normalisation after all blocks.
            estimators: a mask estimator for each target.
        """
        super().__init__()
        self.config = config
        self.split = split
        self.linears = linears
        self.blocks = blocks
        self.norm = norm
        self.estimators = estimators
        runs = config.band_runs()
        self.places: Tensor | None
        self.shares: Tensor | None
        places, shares = (None, None) if are_side_by_side(runs) else mean_of_bands(runs)
        self.register_buffer("places", constant_table(places), persistent=False)
        self.register_buffer("shares", constant_table(shares), persistent=False)

    def forward(self, mixture: Tensor) -> Separation:
        """Estimate all targets of ``mixture``, ``b c samples``; the estimates have its length.

        Raises:
            ValueError: the shape or the number of channels does not fit the model.
        """
        self._check(mixture)
        spec = torch.view_as_real(stft(mixture, self.config.stft))
        estimates = as_complex(self.estimate(spec))
        return Separation(istft(estimates, self.config.stft, mixture.shape[-1]), None)

    def estimate(self, mixture: Tensor) -> Tensor:
        """Estimate the spectrograms ``(b s c f t r)`` of all targets from the mixture's, ``(b c f t r)``.

        All numbers are real, so that exporters can follow them.
        """
        latent = rearrange(self.encode(mixture), "b k t n -> k b t n")
        masks = torch.stack([estimator(latent) for estimator in self.estimators.values()], dim=1)
        if self.places is not None and self.shares is not None:
            masks = (masks[:, :, :, self.places] * self.shares[:, :, None, None]).sum(dim=4)
        if self.config.zero_dc:
            mixture = F.pad(mixture[:, :, 1:], (0, 0, 0, 0, 1, 0))
        (mask_re, mask_im), (re, im) = masks.unbind(-1), mixture.unsqueeze(1).unbind(-1)
        return torch.stack([mask_re * re - mask_im * im, mask_re * im + mask_im * re], dim=-1)

    def encode(self, mixture: Tensor) -> Tensor:
        """Map the mixture's spectrogram ``(b c f t r)`` to the features ``(b k t n)`` that masks are estimated from."""
        x = self.split(mixture)
        outputs: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            if self.linears:
                x = self.linears[number](x)
            if self.config.skip_connections:
                x = sum(outputs, x)
            x = block(x)
            outputs.append(x)
        return self.norm(x)

    def narrowed(self, targets: Sequence[str]) -> "BsRoformer":
        """Leave out the mask estimators of other targets."""
        wanted = tuple(target for target in self.config.targets if target in targets)
        estimators = nn.ModuleDict({target: self.estimators[target] for target in wanted})
        config = self.config.model_copy(update={"targets": wanted})
        return BsRoformer(config, self.split, self.linears, self.blocks, self.norm, estimators)

    def repeated_parts(self) -> Iterable[RepeatedPart]:
        """Return the transformers of linear attention, and the blocks; skip connections are outside of them."""
        return [part for part in (*self.linears, *self.blocks) if isinstance(part, RepeatedPart)]

    def _check(self, mixture: Tensor) -> None:
        if mixture.dim() != 3 or mixture.shape[-1] < 1:
            raise ValueError(f"mixture: must be (batch, channels, samples >= 1), got {tuple(mixture.shape)}")
        if mixture.shape[1] != self.config.channels:
            raise ValueError(
                f"mixture: has {mixture.shape[1]} channel(s), but this model needs exactly {self.config.channels}; "
                f"duplicate or fold the channels first"
            )

"""ONNX export of the family: the graph maps signals; filter bank and transforms are inside it, in real arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bandsplit.models.layers.fourier_tables import count_products
from bandsplit.models.onnx.core import TracedSignalCore
from bandsplit.models.presunet.config import PARTS, SUBBANDS, PresunetConfig

if TYPE_CHECKING:
    from torch import Tensor

    from bandsplit.models.presunet.network import PresunetModel


class PresunetOnnx(TracedSignalCore[PresunetConfig]):
    """The `OnnxCore` of the family."""

    def estimate(self, model: PresunetModel, mixture: Tensor) -> Tensor:
        """Map ``b c samples`` to ``b s c samples``, as the network does with complex numbers."""
        import torch
        from torch.nn import functional as F

        from bandsplit.models.layers.real_stft import real_istft, real_stft
        from bandsplit.models.presunet.network import magnitude

        config, bands = model.config, model.bank.split(mixture)
        parts = real_stft(bands.flatten(1, 2), config.stft).transpose(2, 3)  # b (c k) t f r
        masks = model.masks(magnitude(*parts.unbind(-1)))
        re, im = parts[:, None, ..., : config.bins, :].unbind(-1)
        product = torch.stack([masks[0] * re - masks[1] * im, masks[0] * im + masks[1] * re], dim=-1)
        estimates = product.transpose(3, 4).unflatten(2, (config.channels, SUBBANDS))
        signal = model.bank.join(real_istft(estimates, config.stft, bands.shape[-1]))
        return F.pad(signal, (0, mixture.shape[-1] - signal.shape[-1]))

    def hop(self, config: PresunetConfig) -> int:
        """Return the samples of the mixture between frames."""
        return SUBBANDS * config.stft.hop_samples

    def products(self, config: PresunetConfig, samples: int) -> int:
        """Add the products of the transforms of mixture and targets to those of the layers."""
        frames = (1 + len(config.targets)) * config.image_channels * (1 + samples // self.hop(config))
        return super().products(config, samples) + frames * count_products(config.stft.n_fft)

    def activations(self, config: PresunetConfig, frames: int) -> int:
        """Count the images of mixture and targets, and those of all levels."""
        total = frames * config.bins * config.image_channels * (2 + 2 * PARTS * len(config.targets))
        for level, n_features in enumerate(config.widths):
            total += 3 * n_features * (frames >> level) * (config.bins >> level)
        return total

"""ONNX export of the two-branch families: the graph maps signals, and computes the transforms in real arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bandsplit.models.demucs.config import MERGED_STRIDE, STRIDE, HtDemucsConfig, HybridDemucsConfig
from bandsplit.models.demucs.levels import list_levels
from bandsplit.models.layers.fourier_tables import count_products
from bandsplit.models.onnx.core import TracedSignalCore

if TYPE_CHECKING:
    from torch import Tensor

    from bandsplit.models.demucs.network import TwoBranchNetwork


class TwoBranchOnnx(TracedSignalCore[HtDemucsConfig | HybridDemucsConfig]):
    """The `OnnxCore` of these families."""

    def estimate(self, model: TwoBranchNetwork, mixture: Tensor) -> Tensor:
        """Map ``b c samples`` to ``b s c samples``, as the network does with complex numbers."""
        import torch

        from bandsplit.models.layers.aligned_stft import real_aligned_istft, real_aligned_stft
        from bandsplit.models.layers.complex_channels import channels_to_parts, parts_to_channels

        config, samples = model.config, mixture.shape[-1]
        old = isinstance(config, HybridDemucsConfig) and config.old_padding
        parts = real_aligned_stft(mixture, config.n_fft, reflect=not old)
        if isinstance(config, HybridDemucsConfig) and config.spectrum == "magnitude":
            magnitudes = parts.square().sum(dim=-1).sqrt()
            images, waves = model.estimate(magnitudes, mixture)
            # The phase of zero is zero.
            silent = magnitudes[..., None] == 0
            phases = torch.where(silent, torch.tensor([1.0, 0.0]), parts / magnitudes[..., None])
            found = images[..., None] * phases[:, None]
        else:
            images, waves = model.estimate(parts_to_channels(parts), mixture)
            found = channels_to_parts(images)
        return real_aligned_istft(found, samples, late=old) + waves

    def hop(self, config: HtDemucsConfig | HybridDemucsConfig) -> int:
        """Return the hop of the spectrogram."""
        return config.hop_samples

    def products(self, config: HtDemucsConfig | HybridDemucsConfig, samples: int) -> int:
        """Add the products of the transforms of mixture and targets to those of the layers."""
        frames = (1 + len(config.targets)) * config.channels * (1 + samples // config.hop_samples)
        return super().products(config, samples) + frames * count_products(config.n_fft)

    def activations(self, config: HtDemucsConfig | HybridDemucsConfig, frames: int) -> int:
        """Count the spectrograms of mixture and targets, both branches on all levels, and the weights of attention."""
        samples = frames * config.hop_samples
        total = 2 * (1 + len(config.targets)) * config.channels * frames * config.n_fft
        sequences = 1
        for level in list_levels(config):
            if level.kind == "merged":
                frames = -(-frames // MERGED_STRIDE)
            else:
                samples = -(-samples // STRIDE)
                sequences = level.bins // STRIDE if level.kind == "apart" else 1
                total += 2 * level.n_features * samples
            total += 2 * level.n_features * sequences * frames
            dconv = level.encoder_dconv or level.decoder_dconv
            if dconv is not None and dconv.attention:
                total += 4 * sequences * frames**2
        if isinstance(config, HtDemucsConfig):
            tokens = sequences * frames + samples
            total += tokens * (config.hidden_factor * config.transformer_features + config.heads * tokens)
        return total

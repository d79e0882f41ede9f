"""ONNX export of the family: the graph maps the lowest bins of the mixture's spectrogram to those of the target's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bandsplit.audio.stft_config import StftConfig
from bandsplit.models.dttnet.config import DttnetConfig
from bandsplit.models.onnx.core import TracedCore

if TYPE_CHECKING:
    from bandsplit.models.dttnet.network import DttnetNetwork


class DttnetOnnx(TracedCore[DttnetConfig]):
    """The `OnnxCore` of the family."""

    def estimate(self, model: DttnetNetwork, mixture: Any) -> Any:
        """Map ``b c f t 2`` to ``b 1 c f t 2``."""
        from bandsplit.models.layers.complex_channels import channels_to_parts, parts_to_channels

        return channels_to_parts(model.estimate(parts_to_channels(mixture))).unsqueeze(1)

    def stft(self, config: DttnetConfig) -> StftConfig:
        """Return the transform of mixture and estimate."""
        return config.stft

    def bins(self, config: DttnetConfig) -> int:
        """Return the number of the lowest bins that the network sees."""
        return config.bins

    def activations(self, config: DttnetConfig, frames: int) -> int:
        """Count the images of all levels, and the features of the recurrent layers, in both directions."""
        unet = config.unet
        images = sum(
            (frames >> level) * (config.bins >> level) * unet.features_at(level) for level in range(unet.levels + 1)
        )
        coarsest = (frames >> unet.levels) * (config.bins >> unet.levels) * unet.features_at(unet.levels)
        return images + 4 * coarsest + frames * config.bins * config.image_channels

"""ONNX export of models that are a U-Net: their graph maps the lowest bins of the mixture to those of the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bandsplit.audio.stft_config import StftConfig
from bandsplit.models.layers.unet_model_config import UnetModelConfig
from bandsplit.models.onnx.core import TracedSpectrogramCore

if TYPE_CHECKING:
    from bandsplit.models.layers.unet_model import UnetModel


class UnetModelOnnx(TracedSpectrogramCore[UnetModelConfig]):
    """The `OnnxCore` of these families."""

    def estimate(self, model: UnetModel, mixture: Any) -> Any:
        """Map ``b c f t 2`` to ``b 1 c f t 2``."""
        from bandsplit.models.layers.complex_channels import channels_to_parts, parts_to_channels

        return channels_to_parts(model.estimate(parts_to_channels(mixture))).unsqueeze(1)

    def stft(self, config: UnetModelConfig) -> StftConfig:
        """Return the transform of mixture and estimate."""
        return config.loss_stft

    def bins(self, config: UnetModelConfig) -> int:
        """Return the number of the lowest bins that the network sees."""
        return config.bins

    def activations(self, config: UnetModelConfig, frames: int) -> int:
        """Count the images of all levels, and four times the coarsest for recurrent layers in both directions."""
        unet = config.unet
        images = sum(
            (frames >> level) * (config.bins >> level) * unet.features_at(level) for level in range(unet.levels + 1)
        )
        coarsest = (frames >> unet.levels) * (config.bins >> unet.levels) * unet.features_at(unet.levels)
        return images + 4 * coarsest + frames * config.bins * config.image_channels

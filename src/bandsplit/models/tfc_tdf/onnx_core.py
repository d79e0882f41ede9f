"""ONNX export of the family: the graph maps the lowest bins of the mixture's spectrogram to those of the targets'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bandsplit.audio.stft_config import StftConfig
from bandsplit.models.onnx.core import TracedSpectrogramCore
from bandsplit.models.tfc_tdf.config import TfcTdfConfig

if TYPE_CHECKING:
    from bandsplit.models.tfc_tdf.network import TfcTdfModel


class TfcTdfOnnx(TracedSpectrogramCore[TfcTdfConfig]):
    """The `OnnxCore` of the family."""

    def estimate(self, model: TfcTdfModel, mixture: Any) -> Any:
        """Map ``b c f t 2`` to ``b s c f t 2``."""
        from bandsplit.models.layers.complex_channels import channels_to_parts, parts_to_channels

        return channels_to_parts(model.estimate(parts_to_channels(mixture)))

    def stft(self, config: TfcTdfConfig) -> StftConfig:
        """Return the transform of mixture and estimates."""
        return config.stft

    def bins(self, config: TfcTdfConfig) -> int:
        """Return the number of the lowest bins that the network sees."""
        return config.n_bins

    def activations(self, config: TfcTdfConfig, frames: int) -> int:
        """Count the images of all scales, two for the inputs of the decoder, and those of mixture and estimates."""
        images = sum(
            2 * (frames // config.scale_frames**at) * config.bins_at(at) * config.features_at(at)
            for at in range(config.n_scales + 1)
        )
        return images + frames * config.bins_at(0) * config.image_channels * (1 + len(config.targets))

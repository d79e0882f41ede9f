"""ONNX export of the family: the graph maps the mixture's spectrogram to those of the estimates, masks included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bandsplit.audio.stft_config import StftConfig
from bandsplit.models.bs_roformer.config import BsRoformerConfig
from bandsplit.models.bs_roformer.shapes import FEED_FORWARD_FACTOR
from bandsplit.models.onnx.core import TracedSpectrogramCore

if TYPE_CHECKING:
    from bandsplit.models.bs_roformer.network import BsRoformer


class BsRoformerOnnx(TracedSpectrogramCore[BsRoformerConfig]):
    """The `OnnxCore` of the family."""

    def estimate(self, model: BsRoformer, mixture: Any) -> Any:
        """Map ``b c f t 2`` to ``b s c f t 2``."""
        return model.estimate(mixture)

    def stft(self, config: BsRoformerConfig) -> StftConfig:
        """Return the transform of mixture and estimates."""
        return config.stft

    def bins(self, config: BsRoformerConfig) -> int:
        """Return the number of all bins."""
        return config.n_bins

    def activations(self, config: BsRoformerConfig, frames: int) -> int:
        """Count the widest features, the weights of the attention, and the masks of all bands and targets."""
        bands, runs = config.n_bands, config.band_runs()
        n, heads = config.n_features, config.heads * config.head_features
        wide = max(3 * heads, FEED_FORWARD_FACTOR * n, len(config.targets) * config.mask.hidden_factor * n)
        scores = config.heads * max(frames, bands)
        masks = 4 * config.channels * len(config.targets) * sum(run.count * run.width for run in runs)
        return frames * (bands * (wide + scores) + masks)

"""ONNX export of Demucs v3 and v2: the graph maps signals of any length, which zeros surround inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bandsplit.models.demucs.config import STRIDE
from bandsplit.models.demucs.levels import dconv_sizes
from bandsplit.models.demucs.time_config import DemucsConfig, DemucsV2Config
from bandsplit.models.onnx.core import TracedSignalCore

if TYPE_CHECKING:
    from torch import Tensor

    from bandsplit.models.demucs.time_network import TimeNetwork

MOST_TAPS = 104
"""Length of the longest filter of resampling."""


class TimeOnnx(TracedSignalCore[DemucsConfig | DemucsV2Config]):
    """The `OnnxCore` of these families."""

    def estimate(self, model: TimeNetwork, mixture: Tensor) -> Tensor:
        """Map ``b c samples`` of any length to ``b s c samples``: the graph computes the zeros around them."""
        return model.separate(mixture)

    def before(self, config: DemucsConfig | DemucsV2Config, batch: np.ndarray) -> np.ndarray:
        """Return ``b c samples`` as they are."""
        return batch

    def hop(self, config: DemucsConfig | DemucsV2Config) -> int:
        """Return the samples of a step of the deepest level."""
        return config.geometry.multiple_samples

    def products(self, config: DemucsConfig | DemucsV2Config, samples: int) -> int:
        """Add the products of resampling to those of the layers."""
        signals = config.channels * (1 + len(config.targets)) if config.resample else 0
        return super().products(config, samples) + MOST_TAPS * signals * config.inner_samples(samples)

    def activations(self, config: DemucsConfig | DemucsV2Config, frames: int) -> int:
        """Count mixture and targets at the network's own rate, all levels, and the weights of attention."""
        steps = frames * STRIDE**config.depth
        total = 2 * (1 + len(config.targets)) * config.channels * steps
        for level in range(config.depth):
            n, steps = config.features(level), steps // STRIDE
            total += 2 * n * steps
            if isinstance(config, DemucsConfig):
                sizes = dconv_sizes(config.dconv, n, level, config.dconv.encoder or config.dconv.decoder)
                total += 4 * steps**2 if sizes is not None and sizes.attention else 0
        return total

"""Parts of an `OnnxCore` that families share: NumPy computes the transform and its inverse; networks may be traced."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod
from typing import Any, Generic, TypeVar

import numpy as np

from bandsplit.audio.stft_config import StftConfig
from bandsplit.audio.stft_numpy import istft, stft
from bandsplit.models.contract import ModelConfig
from bandsplit.models.families import count_flop, tensor_shapes
from bandsplit.models.onnx.metadata import Graph, OnnxFile
from bandsplit.models.onnx.sizes import Costs, check_operators, count_costs

ConfigT = TypeVar("ConfigT", bound=ModelConfig)

BATCH, FRAMES = 16, 1000
"""Mixtures and, about, their frames for which costs are counted."""
# Limits, as multiples of what follows from the configuration. Graphs of `bandsplit export` hold up to twice as many
# numbers as the activations, and do up to 1.5 times as many operations as the layers have multiplications; in networks
# of few features they take more for activations and normalisations.
_HELD, _DONE, _PER_ACTIVATION = 8, 4, 16


class SpectrogramCore(ABC, Generic[ConfigT]):
    """An `OnnxCore` whose graph maps ``mixture (b c f t 2)`` to ``estimates (b s c f t 2)``, re and im last."""

    @abstractmethod
    def stft(self, config: ConfigT) -> StftConfig:
        """Return the transform in front of the graph and behind it."""

    @abstractmethod
    def bins(self, config: ConfigT) -> int:
        """Return the number of bins of the graph's input and output; the estimates have zeros above."""

    def shapes(self, config: ConfigT) -> tuple[list[int | None], list[int | None]]:
        """Return the shapes of mixture and estimates; None: any size."""
        sizes = [None if config.any_channels else config.channels, self.bins(config), None, 2]
        return [None, *sizes], [None, len(config.targets), *sizes]

    def before(self, config: ConfigT, batch: np.ndarray) -> np.ndarray:
        """Transform ``b c samples``, and leave out the highest bins."""
        spec = stft(batch, self.stft(config))[:, :, : self.bins(config)]
        return np.stack([np.real(spec), np.imag(spec)], axis=-1)

    def after(self, config: ConfigT, estimates: np.ndarray, samples: int) -> np.ndarray:
        """Transform back to ``b s c samples``; bins that the graph leaves out are zero."""
        # `numpy.fft.irfft` puts zeros in place of missing bins.
        return istft(estimates.view(np.complex64)[..., 0], self.stft(config), samples)


class TracedCore(SpectrogramCore[ConfigT]):
    """An `OnnxCore` of a network that PyTorch's exporter traces.

    A family says how its network maps spectrograms, how many bins it sees, and how large its activations are.
    """

    @abstractmethod
    def estimate(self, model: Any, mixture: Any) -> Any:
        """Map real and imaginary parts of the mixture's lowest bins, a tensor ``b c f t 2``, to the estimates'."""

    @abstractmethod
    def activations(self, config: ConfigT, frames: int) -> int:
        """Return how many numbers the activations of one signal have that are in memory together, about."""

    def build(self, model: Any, metadata: Mapping[str, str], int8: bool) -> bytes:
        """Trace the network, see `bandsplit.models.onnx.exporting`."""
        from bandsplit.models.onnx.exporting import export_core

        config = model.config
        # Two signals, so that no size of the batch is taken for an axis of length one.
        shortest = np.zeros((2, config.channels, config.geometry.fitting(1)), np.float32)
        return export_core(model, self.estimate, self.before(config, shortest), metadata)

    def int8_problem(self, config: ConfigT) -> str | None:
        """Return the reason why it has no 8-bit layers: the exporter writes none."""
        return f"models of family {config.family!r} are exported in 32 bits only"

    def check(self, file: OnnxFile, config: ConfigT) -> None:
        """Refuse a graph that costs several times more than a model of this configuration.

        Raises:
            ValueError: it costs more, contains operations that ``bandsplit export`` never writes, or connects them
                in impossible ways.
        """
        check_operators(file)
        count_costs(file.graph, self.mixture_shape(config), self.limit_costs(file.graph, config))

    def mixture_shape(self, config: ConfigT) -> tuple[int, ...]:
        """Return the shape of the mixture for which costs are counted."""
        return BATCH, config.channels, self.bins(config), 1 + self._samples(config) // self._hop(config), 2

    def limit_costs(self, graph: Graph, config: ConfigT) -> Costs:
        """Return limits for that mixture: several times the activations and operations of the configuration.

        Raises:
            ValueError: the configuration describes a larger model than the graph has weights for.
        """
        weights = sum(prod(array.shape) for array in graph.weights.values())
        # All limits follow from the configuration: if weights were not counted, a small file could claim any size.
        # Vectors are often equal (norms, biases): they are stored once, and not counted.
        least = sum(prod(shape) for _, shape in tensor_shapes(config) if sum(size > 1 for size in shape) > 1)
        if weights < (least := least // 2):
            raise ValueError(f"it has {weights} weights, but a model of its configuration has at least {least}")
        held = BATCH * self.activations(config, self.mixture_shape(config)[3])
        # A multiplication and its addition are two of the family's operations.
        products = BATCH * count_flop(config, self._samples(config)).forward // 2
        return Costs(_HELD * held, _DONE * products + _PER_ACTIVATION * held)

    def _hop(self, config: ConfigT) -> int:
        return self.stft(config).hop_samples

    def _samples(self, config: ConfigT) -> int:
        return config.geometry.fixed_samples or config.geometry.fitting((FRAMES - 1) * self._hop(config))

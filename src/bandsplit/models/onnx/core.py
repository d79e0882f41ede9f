"""Parts of an `OnnxCore` that families share: the computation around graphs, and graphs that are traced."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
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
        """Fill up ``b c samples``, transform it, and leave out the highest bins."""
        spec = stft(_fill(config, batch), self.stft(config))[:, :, : self.bins(config)]
        return np.stack([np.real(spec), np.imag(spec)], axis=-1)

    def after(self, config: ConfigT, estimates: np.ndarray, samples: int) -> np.ndarray:
        """Transform back to ``b s c samples``; bins that the graph leaves out are zero."""
        # `numpy.fft.irfft` puts zeros in place of missing bins.
        return istft(estimates.view(np.complex64)[..., 0], self.stft(config), samples)


class TracedCore(ABC, Generic[ConfigT]):
    """The other half of an `OnnxCore`, for networks that PyTorch's exporter traces.

    A family says what is traced, and how large its activations are.
    """

    length: str
    """Name of the last axis of any size."""

    @abstractmethod
    def shapes(self, config: ConfigT) -> tuple[list[int | None], list[int | None]]:
        """Return the shapes of mixture and estimates; None: any size."""

    @abstractmethod
    def estimate(self, model: Any, mixture: Any) -> Any:
        """Turn the graph's input, a tensor, into its output."""

    @abstractmethod
    def example(self, config: ConfigT) -> np.ndarray:
        """Return an input of two signals of several frames, which is traced."""

    @abstractmethod
    def hop(self, config: ConfigT) -> int:
        """Return the samples between frames."""

    @abstractmethod
    def mixture_shape(self, config: ConfigT) -> tuple[int, ...]:
        """Return the shape of the mixture for which costs are counted."""

    @abstractmethod
    def activations(self, config: ConfigT, frames: int) -> int:
        """Return how many numbers the activations of one signal have that are in memory together, about."""

    def products(self, config: ConfigT, samples: int) -> int:
        """Return how often the layers multiply for one signal."""
        # A multiplication and its addition are two of the family's operations.
        return count_flop(config, samples).forward // 2

    def build(self, model: Any, metadata: Mapping[str, str], int8: bool) -> bytes:
        """Trace the network, see `bandsplit.models.onnx.exporting`."""
        from bandsplit.models.onnx.exporting import export_core

        given, found = (
            ["batch", *(self.length if size is None else size for size in sizes)]
            for _, *sizes in self.shapes(model.config)
        )
        return export_core(model, self.estimate, self.example(model.config), metadata, given, found)

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
        samples = self.samples(config)
        held = BATCH * self.activations(config, 1 + samples // self.hop(config))
        return Costs(_HELD * held, _DONE * BATCH * self.products(config, samples) + _PER_ACTIVATION * held)

    def samples(self, config: ConfigT) -> int:
        """Return the samples of the signals for which costs are counted."""
        return config.geometry.fixed_samples or config.geometry.fitting((FRAMES - 1) * self.hop(config))


class TracedSpectrogramCore(SpectrogramCore[ConfigT], TracedCore[ConfigT]):
    """An `OnnxCore` of a network on spectrograms that PyTorch's exporter traces."""

    length = "frames"

    def example(self, config: ConfigT) -> np.ndarray:
        """Return the spectrograms of two short signals."""
        samples = config.geometry.fitting(3 * self.hop(config))
        return self.before(config, np.zeros((2, config.channels, samples), np.float32))

    def hop(self, config: ConfigT) -> int:
        """Return the hop of the transform."""
        return self.stft(config).hop_samples

    def mixture_shape(self, config: ConfigT) -> tuple[int, ...]:
        """Return the shape of the mixture for which costs are counted."""
        return BATCH, config.channels, self.bins(config), 1 + self.samples(config) // self.hop(config), 2


class TracedSignalCore(TracedCore[ConfigT]):
    """An `OnnxCore` whose graph maps ``mixture (b c samples)`` to ``estimates (b s c samples)``, transforms inside."""

    length = "samples"

    def shapes(self, config: ConfigT) -> tuple[list[int | None], list[int | None]]:
        """Return the shapes of mixture and estimates; None: any size."""
        sizes = [config.channels, config.geometry.fixed_samples]
        return [None, *sizes], [None, len(config.targets), *sizes]

    def before(self, config: ConfigT, batch: np.ndarray) -> np.ndarray:
        """Fill up ``b c samples``."""
        return _fill(config, batch)

    def after(self, config: ConfigT, estimates: np.ndarray, samples: int) -> np.ndarray:
        """Cut off the estimates of what was filled up."""
        return estimates[..., :samples]

    def example(self, config: ConfigT) -> np.ndarray:
        """Return two short signals: the trace of a network for one length does not depend on it."""
        samples = replace(config.geometry, fixed_samples=None).fitting(3 * self.hop(config))
        return np.zeros((2, config.channels, samples), np.float32)

    def mixture_shape(self, config: ConfigT) -> tuple[int, ...]:
        """Return the shape of the mixture for which costs are counted."""
        return BATCH, config.channels, self.samples(config)


def _fill(config: ModelConfig, batch: np.ndarray) -> np.ndarray:
    """Put zeros behind ``b c samples``, up to a length that the network takes."""
    missing = config.geometry.fitting(batch.shape[-1]) - batch.shape[-1]
    return np.pad(batch, [(0, 0), (0, 0), (0, missing)]) if missing else batch

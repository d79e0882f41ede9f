"""ONNX export of band-split models: the graph maps spectrograms; NumPy computes the transform and its inverse."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

from bandsplit.audio.stft_config import StftConfig
from bandsplit.models.bsrnn.config import BsrnnConfig, LstmConfig
from bandsplit.models.layers.bands import are_side_by_side, mean_of_bands
from bandsplit.models.onnx.core import SpectrogramCore
from bandsplit.models.onnx.metadata import Graph, OnnxFile
from bandsplit.models.onnx.sizes import Costs, check_operators, count_costs

if TYPE_CHECKING:
    from bandsplit.models.bsrnn.network import BandSplitModel

_BATCH, _FRAMES = 16, 1000  # of the mixture for which costs are counted
# Limits, as multiples of the sizes in the configuration. Graphs of `bandsplit export` hold up to 3.4 times as many
# numbers at once, and do up to 0.9 times as many operations.
_HELD, _DONE = 8, 4


class BsrnnOnnx(SpectrogramCore[BsrnnConfig]):
    """The `OnnxCore` of the family."""

    def build(self, model: BandSplitModel, metadata: Mapping[str, str], int8: bool) -> bytes:
        """Write the graph, see `bandsplit.models.bsrnn.onnx_graph`."""
        from bandsplit.models.bsrnn.onnx_graph import build_graph

        return build_graph(model, metadata, int8).SerializeToString()

    def int8_problem(self, config: BsrnnConfig) -> str | None:
        """Return why a model without LSTMs gains nothing."""
        if any(isinstance(layer, LstmConfig) for layer in (config.time, config.band)):
            return None
        return "it has no LSTM, and 8-bit integers are for LSTMs only"

    def stft(self, config: BsrnnConfig) -> StftConfig:
        """Return the transform of mixture and estimates."""
        return config.stft

    def bins(self, config: BsrnnConfig) -> int:
        """Return the number of all bins."""
        return config.n_bins

    def check(self, file: OnnxFile, config: BsrnnConfig) -> None:
        """Refuse a graph that costs several times more than a model of this configuration.

        Raises:
            ValueError: it costs more, contains operations that ``bandsplit export`` never writes, or connects them
                in impossible ways.
        """
        check_operators(file)
        count_costs(file.graph, mixture_shape(config), limit_costs(file.graph, config))


def mixture_shape(config: BsrnnConfig) -> tuple[int, ...]:
    """Return the shape of the mixture for which costs are counted."""
    return _BATCH, config.channels, config.n_bins, _FRAMES, 2


def limit_costs(graph: Graph, config: BsrnnConfig) -> Costs:
    """Return limits: several times the costs of graphs of ``bandsplit export`` for that mixture.

    Raises:
        ValueError: the configuration describes a larger model than the graph has weights for.
    """
    runs, bins = config.band_runs(), config.n_bins
    places = _BATCH * _FRAMES * config.channels
    masks = bins if are_side_by_side(runs) else bins * len(mean_of_bands(runs)[0][0])
    k, n, mask = config.n_bands, config.n_features, config.mask
    taps, decoders = 2 * mask.context + 1, len(config.targets) - (config.residual is not None)
    weights = sum(prod(array.shape) for array in graph.weights.values())
    # All limits follow from these sizes: if weights were not counted, a small file could claim any size. Weights that
    # are often equal (norms, biases) are stored once and not counted.
    if weights < (least := n * (2 * bins + decoders * mask.hidden_factor * (k * n + 4 * bins * taps))):
        raise ValueError(f"it has {weights} weights, but a model of its configuration has at least {least}")
    layers = [layer for layer in (config.time, config.band, config.stereo) if layer is not None]
    factors = [
        getattr(one, "hidden_factor", 1) * (getattr(one, "kernel", 1) + getattr(one, "depth", 0)) for one in layers
    ]
    latent, spectra = k * n * max(mask.hidden_factor, *factors), 2 * (masks * taps + bins * len(config.targets))
    heads, dim = (config.attention.heads, config.attention.encoding_dim) if config.attention else (0, 0)
    attended = config.n_blocks * k * (heads * dim + n) if heads else 0
    return Costs(
        _HELD * places * (spectra + latent + heads * _FRAMES),
        _DONE * places * (k * weights + attended * _FRAMES + len(graph.nodes) * (spectra + latent)),
    )

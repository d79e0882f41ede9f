"""Names and shapes of a network's tensors, computed from its configuration, to check files before reading them.

They are yielded one by one, so that a reader can stop where a file has no more. A test compares them with the state
dict of networks from `bandsplit.models.bsrnn.build`.
"""

from typing_extensions import assert_never

from bandsplit.models.bsrnn.config import (
    AttentionConfig,
    BsrnnConfig,
    ConvConfig,
    DilatedConfig,
    GruConfig,
    LayerConfig,
    LstmConfig,
    TacStereo,
)
from bandsplit.models.contract import Shapes
from bandsplit.models.layers.bands import BandRun


def tensor_shapes(config: BsrnnConfig) -> Shapes:
    """Yield name and shape of each tensor in the network's state dict, in its order."""
    runs = config.band_runs()
    merged = config.merged_channels
    for number, run in enumerate(runs):
        layer = _band_norm_linear(run.count, 2 * merged * run.width, config.n_features)
        yield from _within(f"encoder.projections.{number}", layer)
    for number in range(config.n_blocks):
        yield from _within(f"blocks.{number}", _block(config))
    for target in config.targets:
        if target != config.residual:
            yield from _within(f"decoders.{target}", _decoder(config, runs, merged))


def _within(prefix: str, shapes: Shapes) -> Shapes:
    for name, shape in shapes:
        yield f"{prefix}.{name}", shape


def _weight_and_bias(*shape: int) -> Shapes:
    yield "weight", shape
    yield "bias", shape[:1]


def _band_linear(n_bands: int, n_in: int, n_out: int) -> Shapes:
    yield "weight", (n_bands, n_in, n_out)
    yield "bias", (n_bands, 1, n_out)


def _band_norm_linear(n_bands: int, n_in: int, n_out: int) -> Shapes:
    yield from _band_linear(n_bands, n_in, n_out)
    yield "norm_weight", (n_bands, n_in, 1)
    yield "norm_bias", (n_bands, 1, n_in)


def _decoder(config: BsrnnConfig, runs: list[BandRun], merged: int) -> Shapes:
    mask, n_bands = config.mask, config.n_bands
    hidden, taps = mask.hidden_factor * config.n_features, 2 * mask.context + 1
    yield from _within("enter", _band_norm_linear(n_bands, config.n_features, hidden))
    for number in range(mask.hidden_layers - 1):
        yield from _within(f"hidden.{number}", _band_linear(n_bands, hidden, hidden))
    for number, run in enumerate(runs):
        yield from _within(f"leave.{number}", _band_linear(run.count, hidden, 4 * merged * taps * run.width))


def _block(config: BsrnnConfig) -> Shapes:
    for name, layer in (("time", config.time), ("band", config.band)):
        if layer is not None:
            yield from _within(f"{name}.layer", _layer(layer, config.n_features // config.heads))
    if isinstance(config.stereo, TacStereo):
        yield from _within("tac", _tac(config.stereo, config.n_features))
    if config.attention is not None:
        yield from _within("attention", _attention(config.attention, config.n_features, config.n_bands))


def _layer(layer: LayerConfig, n: int) -> Shapes:
    hidden = layer.hidden_factor * n
    match layer:
        case LstmConfig() | GruConfig():
            gates = (4 if isinstance(layer, LstmConfig) else 3) * hidden
            yield from _within("norm", _weight_and_bias(n))
            for suffix in ("l0", "l0_reverse"):
                yield f"rnn.weight_ih_{suffix}", (gates, n)
                yield f"rnn.weight_hh_{suffix}", (gates, hidden)
                yield f"rnn.bias_ih_{suffix}", (gates,)
                yield f"rnn.bias_hh_{suffix}", (gates,)
            yield from _within("project", _weight_and_bias(n, 2 * hidden))
        case ConvConfig():
            yield from _within("norm", _weight_and_bias(n))
            yield from _within("conv", _weight_and_bias(hidden, n, layer.kernel))
            yield from _within("project", _weight_and_bias(n, hidden))
        case DilatedConfig():
            yield from _within("enter", _norm_conv(n, hidden, layer.kernel))
            for number in range(layer.depth):
                yield from _within(f"dilated.{number}", _norm_conv(hidden, hidden, layer.kernel))
            for number in range(layer.depth):
                neighbours = len(range(layer.depth)[max(number - 1, 0) : number + 2])
                yield from _within(f"fuse.{number}", _norm_conv(neighbours * hidden, hidden, layer.kernel))
            yield from _within("leave", _norm_conv(layer.depth * hidden, n, layer.kernel))
        case _:
            assert_never(layer)


def _norm_conv(n_in: int, n_out: int, kernel: int) -> Shapes:
    yield from _within("0", _weight_and_bias(n_in))
    yield from _within("1", _weight_and_bias(n_out, n_in, kernel))


def _tac(tac: TacStereo, n: int) -> Shapes:
    hidden = tac.hidden_factor * n
    if tac.norm:
        yield from _within("norm", _weight_and_bias(n))
    yield from _within("transform", _weight_and_bias(hidden, n))
    yield from _within("average", _weight_and_bias(hidden, hidden))
    yield from _within("concatenate", _weight_and_bias(n, 2 * hidden))
    if tac.activation == "prelu":
        yield "activation.weight", (1,)


def _attention(attention: AttentionConfig, n: int, n_bands: int) -> Shapes:
    queries = attention.heads, attention.encoding_dim
    values = attention.heads, n // attention.heads
    for name, (heads, dim) in (("query", queries), ("key", queries), ("value", values), ("project", (1, n))):
        yield f"{name}.slope", (heads,)
        yield f"{name}.weight", (heads, n_bands, dim)
        yield f"{name}.bias", (heads, n_bands, dim)
        yield from _within(f"{name}.linear", _weight_and_bias(heads * dim, n))

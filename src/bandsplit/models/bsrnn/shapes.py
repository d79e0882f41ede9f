"""Names and shapes of a network's tensors, computed from its configuration: files are compared with them first.

They come one after the other, so that a reader can stop where a file has no more. A test holds them to the state dict
of `bandsplit.models.bsrnn.build`.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import prod

from typing_extensions import assert_never

from bandsplit.core.errors import ConfigError
from bandsplit.models.bsrnn.bands import BandRun, band_runs
from bandsplit.models.bsrnn.config import (
    AttentionConfig,
    ConvConfig,
    DilatedConfig,
    GruConfig,
    LayerConfig,
    LstmConfig,
    ModelConfig,
    TacStereo,
)

Shape = tuple[int, ...]
Shapes = Iterator[tuple[str, Shape]]

MOST_TENSORS = 100_000
MOST_PARAMETERS = 1 << 31
"""Of any network that is built; the largest of the paper has 1.1e8."""


def tensor_shapes(config: ModelConfig) -> Shapes:
    """Yield name and shape of each tensor in the network's state dict, in its order."""
    runs = band_runs(config.bands, config.stft.n_fft, config.sample_rate_hz)
    merged = config.channels if config.stereo.kind == "merged" else 1
    for number, run in enumerate(runs):
        layer = _band_norm_linear(run.count, 2 * merged * run.width, config.n_features)
        yield from _within(f"encoder.projections.{number}", layer)
    for number in range(config.n_blocks):
        yield from _within(f"blocks.{number}", _block(config))
    for target in config.targets:
        if target != config.residual:
            yield from _within(f"decoders.{target}", _decoder(config, runs, merged))


def count_parameters(config: ModelConfig) -> int:
    """Count the parameters of the network without building it."""
    return sum(prod(shape) for _, shape in tensor_shapes(config))


def shapes_in(config: ModelConfig, found: Iterable[Sequence[int]]) -> dict[str, Shape]:
    """List the tensors that ``config`` needs, in time and memory proportional to the shapes ``found`` in a file.

    Raises:
        ConfigError: ``config`` needs far more tensors or numbers.
    """
    sizes = [prod(shape) for shape in found]
    most_tensors, most_numbers = 1000 + 2 * len(sizes), 1_000_000 + 2 * sum(sizes)
    shapes: dict[str, Shape] = {}
    numbers = 0
    for name, shape in tensor_shapes(config):
        shapes[name] = shape
        numbers += prod(shape)
        # The file may be damaged, and what is missing should be named: hence some room.
        if len(shapes) > most_tensors or numbers > most_numbers:
            raise ConfigError(
                f"its configuration needs {numbers:.1e} numbers or more in {len(shapes)} tensors or more, but the file "
                f"has {sum(sizes):.1e} in {len(sizes)}"
            )
    return shapes


def check_size(config: ModelConfig) -> None:
    """Refuse a network that no machine of today's users can hold, before any of it is built.

    Raises:
        ConfigError: it has too many tensors or parameters.
    """
    parameters = 0
    for tensors, (_, shape) in enumerate(tensor_shapes(config), 1):
        parameters += prod(shape)
        if tensors > MOST_TENSORS or parameters > MOST_PARAMETERS:
            raise ConfigError(
                f"model: has more than {MOST_PARAMETERS:,} parameters or {MOST_TENSORS:,} tensors with n_features "
                f"{config.n_features}, n_blocks {config.n_blocks}, {config.n_bands} bands and {len(config.targets)} "
                f"target(s); make it smaller (the paper's largest has 108,730,000 parameters)"
            )


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


def _decoder(config: ModelConfig, runs: list[BandRun], merged: int) -> Shapes:
    mask, n_bands = config.mask, config.n_bands
    hidden, taps = mask.hidden_factor * config.n_features, 2 * mask.context + 1
    yield from _within("enter", _band_norm_linear(n_bands, config.n_features, hidden))
    for number in range(mask.hidden_layers - 1):
        yield from _within(f"hidden.{number}", _band_linear(n_bands, hidden, hidden))
    for number, run in enumerate(runs):
        yield from _within(f"leave.{number}", _band_linear(run.count, hidden, 4 * merged * taps * run.width))


def _block(config: ModelConfig) -> Shapes:
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

"""Names and shapes of the tensors of two-branch networks, computed from their configuration before files are read.

A test compares them with the state dicts of networks from `bandsplit.models.demucs.build`.
"""

from __future__ import annotations

from bandsplit.models.contract import Shape, Shapes
from bandsplit.models.demucs.config import KERNEL, MERGED_KERNEL, STRIDE, HtDemucsConfig, HybridDemucsConfig
from bandsplit.models.demucs.levels import DConvSizes, Level, list_levels


def tensor_shapes(config: HtDemucsConfig | HybridDemucsConfig) -> Shapes:
    """Yield name and shape of each tensor in the network's state dict, in its order."""
    levels = list_levels(config)
    with_wave = [level for level in levels if level.kind != "merged"]
    for number, level in enumerate(levels):
        for region in _regions(level):
            yield from within(f"encoder.{number}{region}", _encoder(level))
    for number, level in enumerate(reversed(levels)):
        for region in _regions(level):
            yield from within(f"decoder.{number}{region}", _decoder(level))
    for number, level in enumerate(with_wave):
        yield from within(f"tencoder.{number}", _time_encoder(level))
    for number, level in enumerate(reversed(with_wave)):
        yield from within(f"tdecoder.{number}", _time_decoder(level))
    yield "freq_emb.embedding.weight", (config.bins // STRIDE, config.n_features)
    if isinstance(config, HtDemucsConfig):
        yield from _transformer(config)


def within(prefix: str, shapes: Shapes) -> Shapes:
    """Put ``prefix`` in front of names."""
    for name, shape in shapes:
        yield f"{prefix}.{name}", shape


def weight_and_bias(name: str, *shape: int) -> Shapes:
    """Yield a weight, and a bias for each of its first axis."""
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def transposed(name: str, *shape: int) -> Shapes:
    """Yield a weight of a transposed convolution, and a bias for each of its second axis."""
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[1:2]


def dconv_shapes(sizes: DConvSizes | None) -> Shapes:
    """Yield the tensors of residual branches."""
    if sizes is None:
        return
    n, hidden = sizes.n_features, sizes.hidden
    for number in range(sizes.depth):
        at = 3
        yield from within(f"layers.{number}", weight_and_bias("0", hidden, n, 3))
        yield from within(f"layers.{number}", weight_and_bias("1", hidden))
        if sizes.lstm:
            yield from within(f"layers.{number}.{at}", lstm_shapes(hidden))
            at += 1
        if sizes.attention:
            for name, n_out in (("content", hidden), ("query", hidden), ("key", hidden), ("query_decay", 16)):
                yield from within(f"layers.{number}.{at}", weight_and_bias(name, n_out, hidden, 1))
            yield from within(f"layers.{number}.{at}", weight_and_bias("proj", hidden, hidden, 1))
            at += 1
        yield from within(f"layers.{number}", weight_and_bias(str(at), 2 * n, hidden, 1))
        yield from within(f"layers.{number}", weight_and_bias(str(at + 1), 2 * n))
        yield f"layers.{number}.{at + 3}.scale", (n,)


def lstm_shapes(n: int) -> Shapes:
    """Yield the tensors of two bidirectional LSTM layers and their linear layer."""
    for layer, n_in in enumerate((n, 2 * n)):
        for suffix in (f"l{layer}", f"l{layer}_reverse"):
            yield f"lstm.weight_ih_{suffix}", (4 * n, n_in)
            yield f"lstm.weight_hh_{suffix}", (4 * n, n)
            yield f"lstm.bias_ih_{suffix}", (4 * n,)
            yield f"lstm.bias_hh_{suffix}", (4 * n,)
    yield from weight_and_bias("linear", n, 2 * n)


def _regions(level: Level) -> list[str]:
    return [f".layers.{number}" for number in range(level.regions)] if level.regions > 1 else [""]


def _kernels(level: Level) -> tuple[Shape, Shape, Shape]:
    """Return the kernels of the convolution to the next level, of the encoder's gate and of the decoder's."""
    if level.kind == "merged":
        return (MERGED_KERNEL,), (1,), (3,)
    return (KERNEL, 1), (1, 1), ((1, 3) if level.regions > 1 else (3, 3))


def _encoder(level: Level) -> Shapes:
    kernel, gate, _ = _kernels(level)
    yield from weight_and_bias("conv", level.n_features, level.n_in, *kernel)
    yield from _behind_conv(level, gate)


def _behind_conv(level: Level, gate: Shape) -> Shapes:
    n = level.n_features
    yield from _norm("norm1", n, level)
    yield from within("dconv", dconv_shapes(level.encoder_dconv))
    yield from weight_and_bias("rewrite", 2 * n, n, *gate)
    yield from _norm("norm2", 2 * n, level)


def _decoder(level: Level) -> Shapes:
    kernel, _, gate = _kernels(level)
    yield from _before_conv(level, gate)
    yield from transposed("conv_tr", level.n_features, level.n_decoded, *kernel)
    yield from _norm("norm2", level.n_decoded, level)


def _before_conv(level: Level, gate: Shape) -> Shapes:
    n = level.n_features
    yield from weight_and_bias("rewrite", 2 * n, n, *gate)
    yield from _norm("norm1", 2 * n, level)
    yield from within("dconv", dconv_shapes(level.decoder_dconv))


def _time_encoder(level: Level) -> Shapes:
    yield from weight_and_bias("conv", level.n_features, level.n_in_time, KERNEL)
    if level.kind == "apart":
        yield from _behind_conv(level, (1,))


def _time_decoder(level: Level) -> Shapes:
    if level.kind == "apart":
        yield from _before_conv(level, (3,))
    yield from transposed("conv_tr", level.n_features, level.n_decoded_time, KERNEL)
    yield from _norm("norm2", level.n_decoded_time, level)


def _norm(name: str, n: int, level: Level) -> Shapes:
    if level.norm_groups is not None:
        yield from weight_and_bias(name, n)


def _transformer(config: HtDemucsConfig) -> Shapes:
    n, width = config.transformer_features, config.features(config.depth - 1)
    if config.bottleneck is not None:
        for suffix in ("", "_t"):
            yield from weight_and_bias(f"channel_upsampler{suffix}", n, width, 1)
            yield from weight_and_bias(f"channel_downsampler{suffix}", width, n, 1)
    yield from weight_and_bias("crosstransformer.norm_in", n)
    yield from weight_and_bias("crosstransformer.norm_in_t", n)
    for branch in ("layers", "layers_t"):
        for number in range(config.layers):
            layer = _transformer_layer(n, config.hidden_factor * n, cross=number % 2 == 1)
            yield from within(f"crosstransformer.{branch}.{number}", layer)


def _transformer_layer(n: int, hidden: int, cross: bool) -> Shapes:
    attention = "cross_attn" if cross else "self_attn"
    yield f"{attention}.in_proj_weight", (3 * n, n)
    yield f"{attention}.in_proj_bias", (3 * n,)
    yield from weight_and_bias(f"{attention}.out_proj", n, n)
    yield from weight_and_bias("linear1", hidden, n)
    yield from weight_and_bias("linear2", n, hidden)
    for norm in ("norm1", "norm2", *(("norm3",) if cross else ()), "norm_out"):
        yield from weight_and_bias(norm, n)
    yield "gamma_1.scale", (n,)
    yield "gamma_2.scale", (n,)

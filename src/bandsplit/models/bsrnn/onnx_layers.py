"""The parts of the network family as ONNX nodes, each equivalent to a PyTorch module.

Here the latent is ``(t b k n)``, where b includes the channels: recurrent nodes need positions first and features last.
Layers along time therefore need no transposition, and layers along bands need one before and one after. Axes are as
everywhere; in addition, ``l`` is a position and ``q`` a sequence.
"""

import itertools

import torch
from torch import Tensor, nn

from bandsplit.models.bsrnn.blocks import FrameAttention, HeadProjection, Tac
from bandsplit.models.bsrnn.coders import BandEncoder, BandNormLinear, MaskDecoder
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.layers.band_linear import BandLinear
from bandsplit.models.layers.dual_path import Along
from bandsplit.models.layers.epsilon import EPS
from bandsplit.models.layers.sequence import ConvLayer, DilatedStack, NormConv, RecurrentLayer, SequenceNorm
from bandsplit.models.onnx.nodes import Nodes, Scan

_LARGEST = 4.0  # divides standardised inputs, so that one 8-bit scale serves them and outputs up to 1
_PIECES = 4  # of the sequences along bands (one per frame): a step of one piece stays in a core's cache

_LSTM_GATES, _GRU_GATES = (0, 3, 1, 2), (1, 0, 2)  # ONNX wants i o f c and z r h, torch has i f g o and r z n


# --- coders ----------------------------------------------------------------------------------------------------------


def encode(nodes: Nodes, encoder: BandEncoder, mixture: str) -> str:
    """Map the mixture ``(t b f m*2)`` to the latent ``(t b k n)``; m channels are merged."""
    latents = []
    m, n = encoder.merged_channels, 0
    if encoder.bins is not None:
        mixture = nodes.add("Gather", mixture, nodes.axes(*encoder.bins.tolist()), axis=2)
    bins = nodes.split(mixture, [run.count * run.width for run in encoder.runs], axis=2)
    for run, project, x in zip(encoder.runs, encoder.projections, bins, strict=True):
        assert isinstance(project, BandNormLinear)
        # Bands first: each has weights of its own, and one batched product serves a run of equal widths.
        banded = nodes.transpose(nodes.reshape(x, 0, 0, run.count, run.width * m * 2), 2, 0, 1, 3)
        latents.append(_norm_linear(nodes, project, banded, _inputs_last(run.width, m)))
        n = project.weight.shape[-1]
    k = sum(run.count for run in encoder.runs)
    together = nodes.transpose(nodes.concat(latents, axis=0), 1, 0, 2)
    return nodes.reshape(together, nodes.size(mixture, 0), -1, k, n)


def _inputs_last(width: int, m: int) -> Tensor:
    """Return the order of the inputs (m r w) of a band's projection in the graph: (w m r)."""
    return torch.arange(m * 2 * width).reshape(m, 2, width).permute(2, 0, 1).flatten()


def _norm_linear(nodes: Nodes, layer: BandNormLinear, x: str, order: Tensor | None = None) -> str:
    """Map ``(k t b n_in)`` to ``(k t*b n_out)``."""
    # Gain and bias of the normalisation are folded into the product, in float64 so that they are rounded once.
    weight = (layer.norm_weight * layer.weight).double()
    bias = torch.baddbmm(layer.bias.double(), layer.norm_bias.double(), layer.weight.double())
    weight = weight if order is None else weight[:, order]
    normed = nodes.reshape(nodes.standardise(x, (1, 3), EPS), 0, -1, weight.shape[1])
    return nodes.linear(normed, weight, bias)


def decode(nodes: Nodes, decoder: MaskDecoder, latent: str, mixture: tuple[str, str]) -> tuple[str, str]:
    """Estimate a target: real and imaginary part ``(t b f m)`` of the mask times the mixture's."""
    y = nodes.add("Tanh", _norm_linear(nodes, decoder.enter, nodes.transpose(latent, 2, 0, 1, 3)))
    for layer in decoder.hidden:
        assert isinstance(layer, BandLinear)
        y = nodes.add("Tanh", nodes.linear(y, layer.weight, layer.bias))
    m, taps = decoder.merged_channels, decoder.taps
    masks: tuple[list[str], list[str]] = [], []
    hidden = nodes.split(y, [run.count for run in decoder.runs], axis=0)
    for run, layer, features in zip(decoder.runs, decoder.leave, hidden, strict=True):
        assert isinstance(layer, BandLinear)
        # Outputs in the order (g r w m j): one split separates the four parts of the gated unit.
        order = torch.arange(layer.weight.shape[-1]).reshape(m, 2, taps, 2, run.width).permute(1, 3, 4, 0, 2).flatten()
        x = nodes.linear(features, layer.weight[..., order], layer.bias[..., order])
        half = run.width * m * taps
        *values, gate_re, gate_im = nodes.split(x, [half] * 4, axis=2)
        for mask, value, gate in zip(masks, values, (gate_re, gate_im), strict=True):
            gated = nodes.add("Mul", value, nodes.add("Sigmoid", gate))
            mask.append(nodes.reshape(nodes.transpose(gated, 1, 0, 2), 0, run.count * half))
    frames, bins = nodes.size(mixture[0], 0), nodes.size(mixture[0], 2)
    sizes = (frames, -1, bins, m, taps) if taps > 1 else (frames, -1, bins, m)
    re, im = (nodes.reshape(_mean_of_bands(nodes, decoder, nodes.concat(mask, axis=1)), *sizes) for mask in masks)
    if taps > 1:
        mixture = _neighbours(nodes, mixture[0], taps), _neighbours(nodes, mixture[1], taps)
    estimate = _complex_product(nodes, (re, im), mixture)
    if taps > 1:
        re, im = (nodes.add("ReduceSum", part, nodes.axes(4), keepdims=0) for part in estimate)
        return re, im
    return estimate


def _mean_of_bands(nodes: Nodes, decoder: MaskDecoder, masks: str) -> str:
    """Turn masks of overlapping bands ``(t*b, bins of all bands * m * taps)`` into those of the bins."""
    if decoder.places is None or decoder.shares is None:
        return masks
    bins, most = decoder.places.shape
    separate = nodes.reshape(masks, 0, sum(run.count * run.width for run in decoder.runs), -1)
    together = nodes.add("Gather", separate, nodes.axes(*decoder.places.flatten().tolist()), axis=1)
    shared = nodes.add("Mul", nodes.reshape(together, 0, bins, most, -1), nodes.constant(decoder.shares.unsqueeze(-1)))
    return nodes.add("ReduceSum", shared, nodes.axes(2), keepdims=0)


def _neighbours(nodes: Nodes, part: str, taps: int) -> str:
    """Stack the bins around each bin of ``(t b f m)`` along a last axis: ``(t b f m taps)``."""
    context = taps // 2
    padded = nodes.add("Pad", part, nodes.axes(0, 0, context, 0, 0, 0, context, 0))
    bins = nodes.size(part, 2)
    shifted = []
    for tap in range(taps):
        stop = nodes.add("Add", bins, nodes.axes(tap))
        piece = nodes.add("Slice", padded, nodes.axes(tap), stop, nodes.axes(2))
        shifted.append(nodes.add("Unsqueeze", piece, nodes.axes(4)))
    return nodes.concat(shifted, axis=4)


def _complex_product(nodes: Nodes, a: tuple[str, str], b: tuple[str, str]) -> tuple[str, str]:
    (a_re, a_im), (b_re, b_im) = a, b
    re = nodes.add("Sub", nodes.add("Mul", a_re, b_re), nodes.add("Mul", a_im, b_im))
    im = nodes.add("Add", nodes.add("Mul", a_re, b_im), nodes.add("Mul", a_im, b_re))
    return re, im


# --- blocks ----------------------------------------------------------------------------------------------------------


def block_part(nodes: Nodes, part: nn.Module, latent: str, config: BsrnnConfig) -> str:
    """Add a part of a block, on ``(t b k n)``."""
    if isinstance(part, Along):
        return _along(nodes, part, latent, config.n_features // part.heads)
    if isinstance(part, Tac):
        return _tac(nodes, part, latent, config.channels)
    assert isinstance(part, FrameAttention)
    return _attention(nodes, part, latent)


def _along(nodes: Nodes, part: Along, latent: str, n_head: int) -> str:
    x = nodes.transpose(latent, 2, 0, 1, 3) if part.axis == "band" else latent
    y = sequence_layer(nodes, part.layer, nodes.reshape(x, 0, -1, n_head), _PIECES if part.axis == "band" else 1)
    y = nodes.add("Reshape", y, nodes.add("Shape", x))
    return nodes.add("Add", latent, nodes.transpose(y, 1, 2, 0, 3) if part.axis == "band" else y)


def sequence_layer(nodes: Nodes, layer: nn.Module, x: str, pieces: int = 1) -> str:
    """Map ``(l q n)`` to ``(l q n)``; a quantised LSTM processes the sequences in that many pieces."""
    if isinstance(layer, RecurrentLayer):
        return _recurrent(nodes, layer, x, pieces)
    if isinstance(layer, ConvLayer):
        normed = _sequence_norm(nodes, layer.norm, x)
        normed = nodes.scale_and_shift(normed, layer.norm.weight, layer.norm.bias)
        y = nodes.add("Relu", _convolve(nodes, layer.conv, normed))
        return nodes.linear(y, layer.project.weight.mT, layer.project.bias)
    assert isinstance(layer, DilatedStack)
    return _dilated(nodes, layer, x)


def _sequence_norm(nodes: Nodes, norm: SequenceNorm, x: str, largest: float = 1.0) -> str:
    """Standardise ``(l q n)`` to a deviation of 1 / largest; the caller applies gain and bias."""
    if norm.groups == 1:
        return nodes.standardise(x, (0, 2), EPS, largest)
    n = len(norm.weight)
    grouped = nodes.standardise(nodes.reshape(x, 0, 0, norm.groups, n // norm.groups), (0, 3), EPS, largest)
    return nodes.reshape(grouped, 0, 0, n)


def _recurrent(nodes: Nodes, layer: RecurrentLayer, x: str, pieces: int) -> str:
    rnn = layer.rnn
    order = _LSTM_GATES if isinstance(rnn, nn.LSTM) else _GRU_GATES
    from_input, from_output, biases = [], [], []
    for suffix in ("", "_reverse"):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        w, r, w_bias, r_bias = (getattr(rnn, f"{name}_l0{suffix}").double() for name in names)
        w, w_bias = w * layer.norm.weight, w_bias + w @ layer.norm.bias.double()
        parts = [torch.cat([p.chunk(len(order))[i] for i in order]) for p in (w, r, w_bias, r_bias)]
        from_input.append(parts[0])
        from_output.append(parts[1])
        biases.append(torch.cat(parts[2:]))
    w, r, bias = (torch.stack(part) for part in (from_input, from_output, biases))
    if nodes.int8 and isinstance(rnn, nn.LSTM):
        normed = _sequence_norm(nodes, layer.norm, x, _LARGEST)
        parts = [_quantised_lstm(nodes, layer, part, w, r, bias) for part in _cut(nodes, normed, pieces)]
        return nodes.concat(parts, axis=1)
    normed = _sequence_norm(nodes, layer.norm, x)
    options = {"hidden_size": rnn.hidden_size, "direction": "bidirectional"}
    if isinstance(rnn, nn.GRU):
        y = nodes.add("GRU", normed, *map(nodes.constant, (w, r, bias)), linear_before_reset=1, **options)
    else:
        y = nodes.add("LSTM", normed, *map(nodes.constant, (w, r, bias)), **options)
    # (l d q m): the directions' products are added, so that the wide output is never reordered.
    n, m = layer.project.out_features, rnn.hidden_size
    both = nodes.linear(y, layer.project.weight.mT.reshape(2, m, n))
    return nodes.add("Add", nodes.add("ReduceSum", both, nodes.axes(1), keepdims=0), nodes.constant(layer.project.bias))


def _cut(nodes: Nodes, x: str, pieces: int) -> list[str]:
    """Cut the sequences of ``(l q n)`` into pieces whose sizes differ by at most one."""
    if pieces == 1:
        return [x]
    # The graph computes the bounds: the number of sequences is known only when it runs.
    q = nodes.size(x, 1)
    bounds = [nodes.add("Div", nodes.add("Mul", q, nodes.axes(i)), nodes.axes(pieces)) for i in range(pieces + 1)]
    return [nodes.add("Slice", x, start, stop, nodes.axes(1)) for start, stop in itertools.pairwise(bounds)]


def _quantised_lstm(nodes: Nodes, layer: RecurrentLayer, x: str, w: Tensor, r: Tensor, bias: Tensor) -> str:
    """Run an LSTM and the linear layer after it over ``(l q n)`` in 8-bit integers.

    Each step quantises ``[input, last output]`` once; a product per gate avoids the copies of splitting one product.
    onnxruntime's own quantised LSTM spends more time outside its products than this does in total.
    """
    m = layer.rnn.hidden_size
    body = nodes.inner()
    h, c, inputs, new_h, new_c, outputs = ([] for _ in range(6))
    for d in (0, 1):
        for names, stem in ((h, "h"), (c, "c"), (inputs, "x")):
            names.append(nodes.name(stem))
        weight = torch.cat([_LARGEST * w[d].mT, r[d].mT])
        both = body.quantise(body.concat([inputs[d], h[d]], axis=1))
        parts = zip(weight.split(m, dim=1), sum(bias[d].chunk(2)).split(m), strict=True)  # type: ignore[union-attr]
        *sigmoids, candidate = (body.quantised(both, *part) for part in parts)
        into, outof, forget = (body.add("Sigmoid", gate) for gate in sigmoids)
        added = body.add("Mul", into, body.add("Tanh", candidate))
        new_c.append(body.add("Add", body.add("Mul", forget, c[d]), added))
        new_h.append(body.add("Mul", outof, body.add("Tanh", new_c[d])))
        # A copy: onnxruntime gives wrong numbers if a body returns one value both as a state and as an output.
        outputs.append(body.add("Identity", new_h[d]))
    zeros = nodes.add("ConstantOfShape", nodes.concat([nodes.size(x, 1), nodes.axes(m)], axis=0))
    scan = Scan(body, [*h, *c], inputs, [*new_h, *new_c], outputs)
    ahead, back = nodes.scan(scan, [zeros] * 4, [x, x], (0, 1))
    from_ahead, from_back = layer.project.weight.mT.chunk(2)
    ahead, back = nodes.quantise(ahead), nodes.quantise(back)
    return nodes.add("Add", nodes.quantised(ahead, from_ahead), nodes.quantised(back, from_back, layer.project.bias))


def _convolve(nodes: Nodes, conv: nn.Conv1d, x: str) -> str:
    """Convolve ``(l q n)`` along l with "same" padding, as one product of concatenated neighbours."""
    kernel, dilation = conv.kernel_size[0], conv.dilation[0]
    reach = kernel // 2 * dilation
    padded = nodes.add("Pad", x, nodes.axes(reach, 0, 0, reach, 0, 0))
    length = nodes.size(x, 0)
    taps = []
    for tap in range(kernel):
        start = tap * dilation
        stop = nodes.add("Add", length, nodes.axes(start))
        taps.append(nodes.add("Slice", padded, nodes.axes(start), stop, nodes.axes(0)))
    weight = conv.weight.permute(2, 1, 0).flatten(0, 1)  # (tap in) out
    return nodes.linear(nodes.concat(taps, axis=2), weight, conv.bias)


def _dilated(nodes: Nodes, stack: DilatedStack, x: str) -> str:
    y = _norm_conv(nodes, stack.enter, x)
    outputs: list[str] = []
    for layer in stack.dilated:
        y = _norm_conv(nodes, layer, y)
        outputs.append(y)
    fused = [
        _norm_conv(nodes, fuse, nodes.concat(outputs[max(i - 1, 0) : i + 2], axis=2))
        for i, fuse in enumerate(stack.fuse)
    ]
    return _norm_conv(nodes, stack.leave, nodes.concat(fused, axis=2))


def _norm_conv(nodes: Nodes, layer: nn.Module, x: str) -> str:
    assert isinstance(layer, NormConv)
    norm, conv, _ = layer
    assert isinstance(norm, nn.GroupNorm) and isinstance(conv, nn.Conv1d)
    normed = nodes.scale_and_shift(nodes.standardise(x, (0, 2), norm.eps), norm.weight, norm.bias)
    return nodes.add("Relu", _convolve(nodes, conv, normed))


def _tac(nodes: Nodes, tac: Tac, latent: str, channels: int) -> str:
    k, n = nodes.size(latent, 2), tac.transform.in_features
    x = nodes.reshape(latent, nodes.size(latent, 0), -1, channels, k, n)

    def activate(value: str) -> str:
        if isinstance(tac.activation, nn.PReLU):
            return nodes.add("LeakyRelu", value, alpha=tac.activation.weight.item())
        return nodes.add("Tanh", value)

    z = x
    if tac.norm is not None:
        z = nodes.scale_and_shift(nodes.standardise(x, (0, 3, 4), EPS), tac.norm.weight, tac.norm.bias)
    each = activate(nodes.linear(z, tac.transform.weight.mT, tac.transform.bias))
    mean = nodes.add("ReduceMean", each, nodes.axes(2), keepdims=1)
    mean = activate(nodes.linear(mean, tac.average.weight.mT, tac.average.bias))
    from_each, from_mean = tac.concatenate.weight.mT.chunk(2)
    both = nodes.add("Add", nodes.linear(each, from_each), nodes.linear(mean, from_mean, tac.concatenate.bias))
    return nodes.reshape(nodes.add("Add", x, activate(both)), 0, -1, k, n)


def _attention(nodes: Nodes, attention: FrameAttention, latent: str) -> str:
    query, key, value = (
        _head_projection(nodes, part, latent) for part in (attention.query, attention.key, attention.value)
    )
    heads, k, dim = attention.query.weight.shape
    scaled = nodes.add("Mul", query, nodes.constant((dim * k) ** -0.5))
    scores = nodes.add("MatMul", scaled, nodes.transpose(key, 0, 1, 3, 2))
    attended = nodes.add("MatMul", nodes.add("Softmax", scores, axis=-1), value)
    n = attention.value.weight.shape[2]
    joined = nodes.transpose(nodes.reshape(attended, 0, 0, 0, k, n), 2, 0, 3, 1, 4)
    project = attention.project
    y = _head_projection(nodes, project, nodes.reshape(joined, 0, 0, 0, heads * n))
    y = nodes.transpose(nodes.reshape(y, 0, -1, k, heads * n), 1, 0, 2, 3)
    return nodes.add("Add", latent, y)


def _head_projection(nodes: Nodes, part: HeadProjection, x: str) -> str:
    """Map ``(t b k n)`` to ``(b h t k*n)`` with n = dim on the right."""
    heads, k, dim = part.weight.shape
    y = nodes.reshape(nodes.linear(x, part.linear.weight.mT, part.linear.bias), 0, 0, 0, heads, dim)
    y = nodes.transpose(y, 1, 3, 0, 2, 4)
    y = nodes.add("PRelu", y, nodes.constant(part.slope.reshape(heads, 1, 1, 1)))
    normed = nodes.standardise(y, (3, 4), EPS)
    y = nodes.scale_and_shift(normed, part.weight.unsqueeze(1), part.bias.unsqueeze(1))
    return nodes.reshape(y, 0, 0, 0, k * dim)

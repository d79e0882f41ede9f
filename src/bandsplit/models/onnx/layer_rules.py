"""Operations of ONNX graphs with weights: shapes of their outputs, and how often they multiply."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from bandsplit.models.onnx.arrays import Array, broadcast, new_array, require
from bandsplit.models.onnx.metadata import Node
from bandsplit.models.onnx.shape_rules import Rules

MICROSOFT = "com.microsoft"
"""Domain of the operators that onnxruntime adds, all of them built in: the int8 variant uses some."""
INTEGER_PRODUCT = f"{MICROSOFT}.MatMulIntegerToFloat"

_WINDOW = {"dilations", "group", "kernel_shape", "pads", "strides"}


def count_products(node: Node, inputs: Sequence[Array | None], outputs: Sequence[Array]) -> int:
    """Return how many numbers an operation multiplies or writes, for inputs that its rule accepts."""
    arrays = [array for array in inputs if array is not None]
    written = sum(prod(array.shape) for array in outputs)
    match node.operator:
        case "MatMul" | "com.microsoft.MatMulIntegerToFloat":
            return written * arrays[0].shape[-1]
        case "Einsum":
            return written + prod(_sizes_of_letters(node, arrays).values())
        case "AveragePool":
            return written * prod(node.attributes["kernel_shape"])
        case "Conv":
            return written * prod(arrays[1].shape[1:])
        case "ConvTranspose":
            return written + prod(arrays[0].shape) * prod(arrays[1].shape[1:])
        case "LSTM" | "GRU":
            length, _, sequences, _ = outputs[0].shape
            return length * sequences * sum(prod(array.shape) for array in arrays[1:4])
    return written + sum(prod(array.shape) for array in arrays)


def _quantise(node: Node, x: Array) -> list[Array]:
    return [new_array(x.shape, x), new_array((), x), new_array((), x)]


def _recurrent(node: Node, x: Array, w: Array, r: Array, bias: Array, *rest: Array | None) -> list[Array]:
    (length, sequences, features), (directions, gates, size) = x.shape, r.shape
    require(node.attributes["hidden_size"] == size and w.shape == (directions, gates, features))
    require(gates == {"LSTM": 4, "GRU": 3}[node.operator] * size and bias.shape == (directions, 2 * gates))
    require(directions == {b"forward": 1, b"bidirectional": 2}[node.attributes.get("direction", b"forward")])
    lengths, *states = [*rest, None] if len(rest) < 1 else rest
    require(lengths is None and len(states) <= 2)
    require(all(state is None or state.shape == (directions, sequences, size) for state in states))
    return [new_array((length, directions, sequences, size), x)]


def _matmul(node: Node, a: Array, b: Array, *rest: Array | None) -> list[Array]:
    require(len(a.shape) >= 2 <= len(b.shape) and a.shape[-1] == b.shape[-2])
    require(not rest or node.operator == INTEGER_PRODUCT)
    return [new_array((*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), a, b)]


def _einsum(node: Node, *arrays: Array) -> list[Array]:
    sizes, (_, result) = _sizes_of_letters(node, arrays), _equation(node)
    require(len(set(result)) == len(result))
    return [new_array((sizes[letter] for letter in result), *arrays)]


def _sizes_of_letters(node: Node, arrays: Sequence[Array]) -> dict[str, int]:
    """Return the size of each axis of an Einsum."""
    terms, _ = _equation(node)
    axes = [axis for term, array in zip(terms, arrays, strict=True) for axis in zip(term, array.shape, strict=True)]
    require(len(set(axes)) == len({letter for letter, _ in axes}))
    return dict(axes)


def _equation(node: Node) -> tuple[list[str], str]:
    terms, result = str(node.attributes["equation"], "ascii").replace(" ", "").split("->")
    require(all(letter.isalpha() for letter in terms.replace(",", "") + result))
    return terms.split(","), result


def _window(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, ...]]:
    """Return size, kernel (dilated), stride and both paddings for each axis of a convolution."""
    n, attributes = len(sizes), node.attributes
    require(n >= 1 and len(kernel) == n and tuple(attributes.get("kernel_shape", kernel)) == tuple(kernel))
    dilations, strides = (attributes.get(name, (1,) * n) for name in ("dilations", "strides"))
    pads = attributes.get("pads", (0,) * 2 * n)
    require(len(pads) == 2 * n and min(kernel) > 0 and min(dilations) > 0 and min(strides) > 0 and min(pads) >= 0)
    extents = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    return list(zip(sizes, extents, strides, pads[:n], pads[n:], strict=True))


def _places(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Return how often a window fits on each axis."""
    return [
        (size + before + after - extent) // stride + 1
        for size, extent, stride, before, after in _window(node, sizes, kernel)
    ]


def _average(node: Node, x: Array) -> list[Array]:
    b, n, *sizes = x.shape
    return [new_array((b, n, *_places(node, sizes, node.attributes["kernel_shape"])), x)]


def _conv(node: Node, x: Array, weight: Array, bias: Array | None = None) -> list[Array]:
    (b, n_in, *sizes), (n_out, n_each, *kernel) = x.shape, weight.shape
    groups = node.attributes.get("group", 1)
    require(groups > 0 and n_in == n_each * groups and n_out % groups == 0)
    require(bias is None or bias.shape == (n_out,))
    return [new_array((b, n_out, *_places(node, sizes, kernel)), x, weight)]


def _conv_transpose(node: Node, x: Array, weight: Array, bias: Array | None = None) -> list[Array]:
    (b, n_in, *sizes), (n_in_too, n_each, *kernel) = x.shape, weight.shape
    groups = node.attributes.get("group", 1)
    require(groups > 0 and n_in == n_in_too and n_in % groups == 0)
    require(bias is None or bias.shape == (n_each * groups,))
    out = [
        (size - 1) * stride + extent - before - after
        for size, extent, stride, before, after in _window(node, sizes, kernel)
    ]
    return [new_array((b, n_each * groups, *out), x, weight)]


def _norm(node: Node, x: Array, *parameters: Array) -> list[Array]:
    require(len(parameters) == {"InstanceNormalization": 2, "BatchNormalization": 4}[node.operator])
    require(all(array.shape == (x.shape[1],) for array in parameters))
    return [new_array(x.shape, x)]


LAYER_RULES: Rules = {
    "AveragePool": ({"count_include_pad", "kernel_shape", "pads", "strides"}, _average),
    "BatchNormalization": ({"epsilon", "momentum"}, _norm),
    "Conv": (_WINDOW, _conv),
    "ConvTranspose": (_WINDOW, _conv_transpose),
    "DynamicQuantizeLinear": (set(), _quantise),
    "Einsum": ({"equation"}, _einsum),
    "GRU": ({"hidden_size", "direction", "linear_before_reset"}, _recurrent),
    "InstanceNormalization": ({"epsilon"}, _norm),
    "LSTM": ({"hidden_size", "direction"}, _recurrent),
    "MatMul": (set(), _matmul),
    INTEGER_PRODUCT: (set(), _matmul),
}

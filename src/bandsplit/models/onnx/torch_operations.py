"""Operations of PyTorch that its exporter cannot write, or only for signals of one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.onnx import TensorProtoDataType, register_custom_op_symbolic  # pyright: ignore[reportPrivateImportUsage]
from torch.onnx.symbolic_helper import parse_args  # pyright: ignore[reportPrivateImportUsage]

from bandsplit.models.onnx.sizes import OPSET


def register_operations() -> None:
    """Make them known to `torch.onnx.export`."""
    written = {
        "aten::layer_norm": _layer_norm,
        "aten::mT": _transpose,
        "aten::pad": _pad,
        "aten::std": _std,
        "aten::unflatten": _unflatten,
    }
    for name, write in written.items():
        register_custom_op_symbolic(name, write, OPSET)


def _transpose(graph: Any, x: Any) -> Any:
    *others, rows, columns = range(x.type().dim())
    return graph.op("Transpose", x, perm_i=[*others, columns, rows])


def _layer_norm(graph: Any, x: Any, shape: Any, gain: Any, bias: Any, eps: Any, _: Any) -> Any:
    """Normalise over the last axes; the exporter's own version needs all their sizes to be constant."""
    count = shape.type().sizes()[0] if shape.node().kind() == "onnx::Constant" else len(list(shape.node().inputs()))
    centred, variance = _variance(graph, x, range(-count, 0))
    y = graph.op("Div", centred, graph.op("Sqrt", graph.op("Add", variance, eps)))
    for operator, parameter in (("Mul", gain), ("Add", bias)):
        if parameter.node().kind() != "prim::Constant":  # None, that is
            y = graph.op(operator, y, parameter)
    return y


@parse_args("v", "is", "b", "b")
def _std(graph: Any, x: Any, axes: list[int], unbiased: bool, keep: bool) -> Any:
    """Compute a standard deviation; the exporter's own version takes more operators."""
    if not (unbiased and keep):
        raise NotImplementedError("only the unbiased standard deviation, with its axes kept, can be exported")
    _, variance = _variance(graph, x, axes)
    one, count = _numbers(graph, 1), _numbers(graph, 1)
    for axis in (axis % x.type().dim() for axis in axes):
        count = graph.op("Mul", count, graph.op("Shape", x, start_i=axis, end_i=axis + 1))
    count, fewer = (graph.op("Cast", n, to_i=TensorProtoDataType.FLOAT) for n in (count, graph.op("Sub", count, one)))
    return graph.op("Sqrt", graph.op("Mul", variance, graph.op("Div", count, fewer)))


@parse_args("v", "v", "s", "v")
def _pad(graph: Any, x: Any, sizes: Any, mode: str, _: Any) -> Any:
    """Extend the last axes; the exporter's own version takes more operators where a size is not constant."""
    ends = _sizes(graph, sizes)
    zeros = [_numbers(graph, 0)] * (x.type().dim() - len(ends) // 2)
    pads = graph.op("Concat", *zeros, *ends[-2::-2], *zeros, *ends[::-2], axis_i=0)
    onnx_mode = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}[mode]
    return graph.op("Pad", x, pads, mode_s=onnx_mode)


@parse_args("v", "i", "v")
def _unflatten(graph: Any, x: Any, axis: int, sizes: Any) -> Any:
    """Cut an axis in several; the exporter's own version takes other axes of any size for constant."""
    n = x.type().dim()
    before = [graph.op("Shape", x, end_i=axis % n)] if axis % n else []
    behind = [graph.op("Shape", x, start_i=axis % n + 1)] if axis % n + 1 < n else []
    return graph.op("Reshape", x, graph.op("Concat", *before, *_sizes(graph, sizes), *behind, axis_i=0))


def _sizes(graph: Any, sizes: Any) -> list[Any]:
    """Return a list of sizes as arrays of one number."""
    node = sizes.node()
    if node.kind() == "onnx::Constant":
        return [_numbers(graph, size) for size in node.t("value").tolist()]
    return [graph.op("Reshape", size, _numbers(graph, 1)) for size in node.inputs()]


def _variance(graph: Any, x: Any, axes: Sequence[int]) -> tuple[Any, Any]:
    """Return the deviations from the mean, and the mean of their squares."""
    centred = graph.op("Sub", x, _mean(graph, x, axes))
    return centred, _mean(graph, graph.op("Mul", centred, centred), axes)


def _mean(graph: Any, x: Any, axes: Sequence[int]) -> Any:
    # One axis after the other: single sums over 100,000 numbers would lose two digits in float32.
    for axis in axes:
        x = graph.op("ReduceMean", x, _numbers(graph, axis), keepdims_i=1)
    return x


def _numbers(graph: Any, *values: int) -> Any:
    return graph.op("Constant", value_t=torch.tensor(values))

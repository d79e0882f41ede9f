"""Operations of PyTorch that its exporter cannot write, or only for signals of one length."""

from __future__ import annotations

from typing import Any

import torch
from torch.onnx import register_custom_op_symbolic  # pyright: ignore[reportPrivateImportUsage]

from bandsplit.models.onnx.sizes import OPSET


def register_operations() -> None:
    """Make them known to `torch.onnx.export`."""
    for name, write in {"aten::mT": _transpose, "aten::layer_norm": _layer_norm}.items():
        register_custom_op_symbolic(name, write, OPSET)


def _transpose(graph: Any, x: Any) -> Any:
    *others, rows, columns = range(x.type().dim())
    return graph.op("Transpose", x, perm_i=[*others, columns, rows])


def _layer_norm(graph: Any, x: Any, shape: Any, gain: Any, bias: Any, eps: Any, _: Any) -> Any:
    """Normalise over the last axes; the exporter's own version needs all their sizes to be constant."""
    count = shape.type().sizes()[0] if shape.node().kind() == "onnx::Constant" else len(list(shape.node().inputs()))
    centred = graph.op("Sub", x, _mean(graph, x, count))
    variance = _mean(graph, graph.op("Mul", centred, centred), count)
    y = graph.op("Div", centred, graph.op("Sqrt", graph.op("Add", variance, eps)))
    for operator, parameter in (("Mul", gain), ("Add", bias)):
        if parameter.node().kind() != "prim::Constant":  # None, that is
            y = graph.op(operator, y, parameter)
    return y


def _mean(graph: Any, x: Any, count: int) -> Any:
    # One axis after the other: single sums over 100,000 numbers would lose two digits in float32.
    for axis in range(-count, 0):
        x = graph.op("ReduceMean", x, graph.op("Constant", value_t=torch.tensor([axis])), keepdims_i=1)
    return x

"""A small writer of ONNX graphs: nodes, constants, and the few steps that all layers of the family share.

Weights come from float64 arithmetic and are stored as float32.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import Tensor

OPSET = 18
"""ONNX operators as of this version: onnxruntime 1.14 and all later ones."""

MICROSOFT = "com.microsoft"
"""Domain of the operators that onnxruntime adds, all of them built in: the int8 variant uses some."""


class Nodes:
    """The nodes and constants of a graph that is being written; values are known by their names."""

    def __init__(self, int8: bool = False) -> None:
        """Start empty; with ``int8`` `linear` and recurrent layers compute with 8-bit integers."""
        self.int8 = int8
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._known: dict[bytes, str] = {}
        self._count = 0

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self.add_many(op, 1, *inputs, **attributes)[0]

    def add_many(self, op: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs and return their names."""
        names = [self._name(op.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Store an array or a tensor; equal ones are stored once."""
        array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value, dtype)
        tensor = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape))
        key = f"{tensor.data_type}{tuple(tensor.dims)}".encode() + tensor.raw_data
        name = self._known.setdefault(key, f"constant_{len(self._known)}")
        tensor.name = name
        self.constants[name] = tensor
        return name

    def axes(self, *values: int) -> str:
        """Store whole numbers: axes, sizes, bounds."""
        return self.constant(values, np.int64)

    # --- shapes

    def reshape(self, x: str, *sizes: int | str) -> str:
        """Reshape; a size is a number, 0 for the one at the same place of ``x``, -1 or the name of a value ``(1)``."""
        if all(isinstance(size, int) for size in sizes):
            return self.add("Reshape", x, self.axes(*sizes))  # type: ignore[arg-type]
        parts = [self.axes(size) if isinstance(size, int) else size for size in sizes]
        return self.add("Reshape", x, self.add("Concat", *parts, axis=0))

    def transpose(self, x: str, *order: int) -> str:
        """Reorder the axes."""
        return x if list(order) == sorted(order) else self.add("Transpose", x, perm=order)

    def size(self, x: str, axis: int) -> str:
        """Return a size of ``x`` as a value ``(1)``."""
        return self.add("Shape", x, start=axis, end=axis + 1)

    def split(self, x: str, sizes: Sequence[int], axis: int) -> list[str]:
        """Cut an axis in pieces of these sizes."""
        return [x] if len(sizes) == 1 else self.add_many("Split", len(sizes), x, self.axes(*sizes), axis=axis)

    def concat(self, parts: Sequence[str], axis: int) -> str:
        """Join along an axis."""
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=axis)

    # --- arithmetic

    def total(self, parts: Sequence[str]) -> str:
        """Add several values."""
        return parts[0] if len(parts) == 1 else self.add("Sum", *parts)

    def standardise(self, x: str, axes: Sequence[int], eps: float) -> str:
        """Subtract the mean over ``axes`` and divide by the standard deviation."""
        centred = self.add("Sub", x, self._mean(x, axes))
        variance = self._mean(self.add("Mul", centred, centred), axes)
        deviation = self.add("Sqrt", self.add("Add", variance, self.constant(eps)))
        return self.add("Mul", centred, self.add("Reciprocal", deviation))

    def _mean(self, x: str, axes: Sequence[int]) -> str:
        # One axis after the other: single sums over 100,000 numbers would lose two digits in float32.
        for axis in reversed(axes):
            x = self.add("ReduceMean", x, self.axes(axis), keepdims=1)
        return x

    def scale_and_shift(self, x: str, gain: Tensor, bias: Tensor) -> str:
        """Multiply by ``gain`` and add ``bias``, both shaped to be broadcast."""
        return self.add("Add", self.add("Mul", x, self.constant(gain)), self.constant(bias))

    def linear(self, x: str, weight: Tensor, bias: Tensor | None = None) -> str:
        """Map the last axis of ``x`` by ``weight``, ``(in out)`` or one per item of the first axis, ``(k in out)``."""
        product = self.add("MatMul", x, self.constant(weight))
        return product if bias is None else self.add("Add", product, self.constant(bias))

    def quantised_lstm(self, x: str, w: Tensor, r: Tensor, bias: Tensor, **options: Any) -> str:
        """Add an LSTM whose products take 8-bit integers: the weights with a scale per gate, ``x`` as it comes."""
        (w_int, w_scale), (r_int, r_scale) = map(_quantise, (w, r))
        zero = self.constant(np.zeros(w_scale.shape), np.int8)
        inputs = [x, self.constant(w_int, np.int8), self.constant(r_int, np.int8), self.constant(bias), "", "", "", ""]
        inputs += [self.constant(w_scale), zero, self.constant(r_scale), zero]
        return self.add("DynamicQuantizeLSTM", *inputs, domain=MICROSOFT, **options)

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"


def _quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Turn ``(d out in)`` into whole numbers from -127 to 127, ``(d in out)``, and their scales ``(d out)``."""
    scale = weight.abs().amax(dim=2).clamp(min=1e-12) / 127
    return (weight / scale.unsqueeze(2)).round().mT, scale

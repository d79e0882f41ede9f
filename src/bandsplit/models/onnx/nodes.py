"""A small writer of ONNX graphs: nodes, constants, and the few steps that all layers of the family share.

Weights come from float64 arithmetic and are stored as float32.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import Tensor

from bandsplit.models.onnx.layer_rules import MICROSOFT

_LARGEST = 64
"""Largest 8-bit weight: CPUs without VNNI sum two products, each up to 255 times it, in 16 bits that must not clip."""


class Scan(NamedTuple):
    """The body of a scan: its nodes and the names of inputs and outputs."""

    nodes: Nodes
    states: Sequence[str]
    inputs: Sequence[str]
    new_states: Sequence[str]
    outputs: Sequence[str]


class Nodes:
    """The nodes and constants of a graph that is being written; values are referred to by name."""

    def __init__(self, int8: bool = False) -> None:
        """Start empty; with ``int8`` `linear` and recurrent layers compute with 8-bit integers."""
        self.int8 = int8
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._known: dict[bytes, str] = {}
        self._numbers = itertools.count(1)

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self.add_many(op, 1, *inputs, **attributes)[0]

    def add_many(self, op: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs and return their names."""
        names = [self.name(op.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Store an array or a tensor; equal ones are stored once."""
        array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value, dtype)
        # Reshaped, since `ascontiguousarray` adds an axis to a single number.
        tensor = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape))
        key = f"{tensor.data_type}{tuple(tensor.dims)}".encode() + tensor.raw_data
        name = self._known.setdefault(key, f"constant_{len(self._known)}")
        tensor.name = name
        self.constants[name] = tensor
        return name

    def axes(self, *values: int) -> str:
        """Store integers: axes, sizes, bounds."""
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

    def standardise(self, x: str, axes: Sequence[int], eps: float, largest: float = 1.0) -> str:
        """Subtract the mean over ``axes`` and divide by ``largest`` times the standard deviation."""
        centred = self.add("Sub", x, self._mean(x, axes))
        variance = self._mean(self.add("Mul", centred, centred), axes)
        deviation = self.add("Sqrt", self.add("Add", variance, self.constant(eps)))
        if largest != 1:
            deviation = self.add("Mul", deviation, self.constant(largest))
        # One division for each deviation, not for each number.
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

    def quantise(self, x: str) -> list[str]:
        """Turn ``x`` into 8-bit integers: these, their scale and their zero."""
        return self.add_many("DynamicQuantizeLinear", 3, x)

    def quantised(self, x: Sequence[str], weight: Tensor, bias: Tensor | None = None) -> str:
        """Map the last axis of a quantised ``x`` by ``weight`` ``(in out)`` in 8-bit integers: a scale per output."""
        integers, x_scale, x_zero = x
        # An output whose weights are all zero needs a scale too: otherwise its weights would be 0 / 0.
        scale = weight.abs().amax(dim=0).clamp(min=1e-12) / _LARGEST
        weights = self.constant((weight / scale).round(), np.int8)
        inputs = [integers, weights, x_scale, self.constant(scale), x_zero]
        inputs += ["", self.constant(bias)] if bias is not None else []
        return self.add("MatMulIntegerToFloat", *inputs, domain=MICROSOFT)

    def scan(self, body: Scan, states: Sequence[str], inputs: Sequence[str], directions: Sequence[int]) -> list[str]:
        """Run a body along the first axis of the inputs, forwards (0) or backwards (1); return its stacked outputs."""
        graph = helper.make_graph(
            body.nodes.nodes,
            self.name("body"),
            [_any_float(name) for name in (*body.states, *body.inputs)],
            [_any_float(name) for name in (*body.new_states, *body.outputs)],
        )
        names = self.add_many(
            "Scan",
            len(states) + len(body.outputs),
            *states,
            *inputs,
            body=graph,
            num_scan_inputs=len(inputs),
            scan_input_directions=directions,
            scan_output_directions=directions,
        )
        return names[len(states) :]

    def inner(self) -> Nodes:
        """Return an empty list of nodes for the body of a scan, which shares the constants of the complete graph."""
        inside = copy.copy(self)
        inside.nodes = []
        return inside

    def name(self, stem: str) -> str:
        """Make a name that no other value has."""
        return f"{stem}_{next(self._numbers)}"


def _any_float(name: str) -> onnx.ValueInfoProto:
    # Without a shape: onnxruntime finds it, and a body serves any number of sequences.
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)

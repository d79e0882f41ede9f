"""The weights of KUIELab-MDX-Net from ONNX files, where normalisations are part of the convolutions.

The operations are in the order of the network's layers, so their weights get the names that checkpoints have.

Source: docs/mdx-net.md#files; kuielab/mdx-net.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose, prod, sqrt
from typing import Any

import torch
from torch import Tensor

from bandsplit.core.errors import ModelFileError
from bandsplit.models.contract import Checkpoint
from bandsplit.models.onnx.metadata import Graph, Node

EPS = 1e-5
"""Epsilon of every normalisation."""
_LETTERS = {"Conv": "C", "ConvTranspose": "T", "MatMul": "M", "Relu": "R", "Transpose": "P", "Add": "A", "Mul": "X"}
# D is a convolution of stride 2. A block is convolutions, and linear layers whose result is added.
_NETWORK = re.compile(r"CRP(?P<block>(?:CR)+(?:(?:MR){1,2}A)?)(?:DR(?P=block))*(?:TRX(?P=block))*PC")
_SLACK = 1_000_000
"""Numbers that are allowed besides twice those of the file: equal ones may be stored once."""
_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass
class _Layer:
    """A convolution or linear layer, and what follows it directly."""

    node: Node
    bias: tuple[str, Node] | None = None
    """Weights that are added to the result of a linear layer, and the addition."""
    norm: Node | None = None

    @property
    def result(self) -> str:
        """Name of the last result of it and what follows."""
        last = self.norm or (self.bias[1] if self.bias else self.node)
        return last.outputs[0]


def as_state(checkpoint: Checkpoint, graph: Graph) -> tuple[Checkpoint, dict[str, Any]] | None:
    """Give the weights of an ONNX file the names of checkpoints; None if it has another network.

    Returns:
        The same weights as a checkpoint, and the options that the shape of the input determines, under their authors'
        names.

    Raises:
        ModelFileError: a layer is not as its authors wrote it.
    """
    layers, letters = _walk(graph)
    inputs = [shape for name, shape in zip(graph.inputs, graph.input_shapes, strict=True) if name not in graph.weights]
    match = _NETWORK.fullmatch(letters)
    if match is None or letters.count("D") != letters.count("T") or layers[-1].norm is not None:
        return None
    if len(inputs) != 1 or len(inputs[0]) != 4:
        return None
    places = _places(match["block"].count("C"), match["block"].count("M"), letters.count("D"))
    tensors: dict[str, Tensor] = {}
    left = most = _SLACK + 2 * sum(map(prod, checkpoint.shapes.values()))
    for (place, at), layer in zip(places, layers, strict=True):
        _check_attributes(layer.node)
        tensors |= {f"{place}.{at}.{part}": tensor for part, tensor in _weights(checkpoint, layer)}
        if place != "final_conv":
            norm = _norm(checkpoint, layer, tensors[f"{place}.{at}.weight"])
            tensors |= {f"{place}.{at + 1}.{part}": tensor for part, tensor in norm.items()}
        left -= tensors[f"{place}.{at}.weight"].numel()
        if left < 0:
            raise ModelFileError(f"its operations repeat the numbers of the file: they need more than {most}")
    sizes = {"dim_f": inputs[0][2], "dim_t": inputs[0][3]}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    state = checkpoint._replace(shapes=shapes, read=tensors.__getitem__, graph=None)
    return state, {name: size for name, size in sizes.items() if size is not None}


def _walk(graph: Graph) -> tuple[list[_Layer], str]:
    """Return the layers with weights, and all operations but biases and normalisations as letters."""
    layers: list[_Layer] = []
    letters = ""
    for node in graph.nodes:
        last = layers[-1] if layers and layers[-1].result in node.inputs else None
        added = [name for name in node.inputs if name in graph.weights]
        if last and node.operator == "BatchNormalization" and not last.norm:
            last.norm = node
        elif last and node.operator == "Add" and added and last.node.operator == "MatMul" and not last.bias:
            last.bias = added[0], node
        else:
            letter = _LETTERS.get(node.operator, "?")
            if letter in "CTM":
                layers.append(_Layer(node))
            letters += "D" if letter == "C" and set(node.attributes.get("strides", ())) == {2} else letter
    return layers, letters


def _places(convs: int, linears: int, levels: int) -> Iterator[tuple[str, int]]:
    """Yield place and number of each layer in checkpoints, in the order of their operations."""

    def block(name: str) -> Iterator[tuple[str, int]]:
        yield from ((f"{name}.tfc.H.{number}", 0) for number in range(convs))
        yield from ((f"{name}.tdf", 3 * number) for number in range(linears))

    yield "first_conv", 0
    for level in range(levels):
        yield from block(f"encoding_blocks.{level}")
        yield f"ds.{level}", 0
    yield from block("bottleneck_block")
    for level in range(levels):
        yield f"us.{level}", 0
        yield from block(f"decoding_blocks.{level}")
    yield "final_conv", 0


def _weights(checkpoint: Checkpoint, layer: _Layer) -> Iterator[tuple[str, Tensor]]:
    node = layer.node
    weight = _read(checkpoint, node, 1)
    yield "weight", weight.mT.contiguous() if node.operator == "MatMul" else weight
    if node.operator != "MatMul":
        yield "bias", _read(checkpoint, node, 2)
    elif layer.bias is not None:
        yield "bias", checkpoint.read(layer.bias[0])


def _norm(checkpoint: Checkpoint, layer: _Layer, weight: Tensor) -> dict[str, Tensor]:
    """Return the normalisation behind a layer, or one that changes nothing where it is part of the layer."""
    if layer.norm is not None:
        if not isclose(layer.norm.attributes.get("epsilon", EPS), EPS, rel_tol=1e-3):
            raise ModelFileError(f"{layer.norm.outputs[0]}: has epsilon {layer.norm.attributes['epsilon']}, not {EPS}")
        return {part: _read(checkpoint, layer.norm, number) for number, part in enumerate(_NORM, 1)}
    if layer.node.operator == "MatMul":
        raise ModelFileError(f"{layer.node.outputs[0]}: is a linear layer without the normalisation that follows it")
    n = weight.shape[1 if layer.node.operator == "ConvTranspose" else 0]
    one = torch.ones(n)
    return dict(zip(_NORM, (one * sqrt(1 + EPS), one * 0, one * 0, one), strict=True))


def _read(checkpoint: Checkpoint, node: Node, number: int) -> Tensor:
    if number >= len(node.inputs) or node.inputs[number] not in checkpoint.shapes:
        raise ModelFileError(f"{node.outputs[0]}: its {node.operator} lacks weights in the file")
    name, axes = node.inputs[number], {"Conv": 4, "ConvTranspose": 4, "MatMul": 2}.get(node.operator, 1)
    if len(checkpoint.shapes[name]) != (axes if number == 1 else 1):
        raise ModelFileError(f"{name}: is {checkpoint.shapes[name]}, and cannot be weights of a {node.operator}")
    return checkpoint.read(name)


def _check_attributes(node: Node) -> None:
    """Refuse convolutions that are not as in the network: padded by half the kernel, or over blocks of 2 x 2."""
    found = node.attributes
    if node.operator == "MatMul":
        return
    kernel, stride = (tuple(found.get(name, ())) for name in ("kernel_shape", "strides"))
    pads = [size // 2 for size in kernel] if stride == (1, 1) else [0, 0]
    halves = stride == kernel == (2, 2)
    if (
        (stride != (1, 1) and not halves)
        or (node.operator == "ConvTranspose" and not halves)
        or [*found.get("pads", (0,) * 4)] != pads * 2
        or found.get("group", 1) != 1
        or {*found.get("dilations", (1,))} != {1}
        or not found.keys() <= {"kernel_shape", "strides", "pads", "group", "dilations"}
    ):
        shown = ", ".join(f"{name} {value}" for name, value in found.items())
        raise ModelFileError(f"{node.outputs[0]}: is a {node.operator} with {shown}, which the network does not have")

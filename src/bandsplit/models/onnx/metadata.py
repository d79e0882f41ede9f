"""The parts of an ONNX file, read from its bytes by the rules of Protocol Buffers, without other libraries.

An ONNX file may name other files to be read as weights, and readers of Protocol Buffers skip unknown fields, merge
repeated ones and truncate numbers that are too long. Nothing is skipped, merged or truncated here: a file may contain
the fields that `bandsplit export` writes, each in its shortest encoding, and nothing else. Every other reader then sees
the same content. Files of other software may have descriptions besides, where the caller allows them.
"""

from __future__ import annotations

import struct
from math import prod
from typing import Any, NamedTuple

INT, FLOAT, TEXT, BYTES = "int", "float", "text", "bytes"
_WIRE = {INT: 0, FLOAT: 5}  # all others, messages too, are a length and that many bytes: 2

# The messages of onnx.proto3: number, name and kind of each field that is allowed, and whether it may be repeated.
_MESSAGES: dict[str, list[tuple[int, str, str, bool]]] = {
    "model": [
        (1, "ir_version", INT, False),
        (2, "producer_name", TEXT, False),
        (3, "producer_version", TEXT, False),
        (7, "graph", "graph", False),
        (8, "operators", "operators", True),
        (14, "metadata", "entry", True),
    ],
    "operators": [(1, "domain", TEXT, False), (2, "version", INT, False)],
    "entry": [(1, "key", TEXT, False), (2, "value", TEXT, False)],
    "graph": [
        (1, "nodes", "node", True),
        (2, "name", TEXT, False),
        (5, "weights", "tensor", True),
        (11, "inputs", "value", True),
        (12, "outputs", "value", True),
    ],
    "node": [
        (1, "inputs", TEXT, True),
        (2, "outputs", TEXT, True),
        (4, "operator", TEXT, False),
        (5, "attributes", "attribute", True),
        (7, "domain", TEXT, False),
    ],
    "attribute": [
        (1, "name", TEXT, False),
        (2, "float", FLOAT, False),
        (3, "int", INT, False),
        (4, "bytes", BYTES, False),
        (6, "body", "body", False),
        (8, "ints", INT, True),
        (20, "type", INT, False),
    ],
    # The body of a loop has neither weights nor loops of its own.
    "body": [
        (1, "nodes", "inner node", True),
        (2, "name", TEXT, False),
        (11, "inputs", "value", True),
        (12, "outputs", "value", True),
    ],
    "inner node": [
        (1, "inputs", TEXT, True),
        (2, "outputs", TEXT, True),
        (4, "operator", TEXT, False),
        (5, "attributes", "inner attribute", True),
        (7, "domain", TEXT, False),
    ],
    "inner attribute": [(1, "name", TEXT, False), (3, "int", INT, False), (20, "type", INT, False)],
    "tensor": [(1, "dims", INT, True), (2, "type", INT, False), (8, "name", TEXT, False), (9, "data", BYTES, False)],
    "value": [(1, "name", TEXT, False), (2, "type", "type", False)],
    "type": [(1, "tensor", "tensor type", False)],
    "tensor type": [(1, "type", INT, False), (2, "shape", "shape", False)],
    "shape": [(1, "dims", "dim", True)],
    "dim": [(1, "size", INT, False), (2, "name", TEXT, False)],
}
_DESCRIPTIONS: dict[str, list[tuple[int, str, str, bool]]] = {
    "model": [(4, "domain", TEXT, False), (5, "model_version", INT, False), (6, "description", TEXT, False)],
    "graph": [(10, "description", TEXT, False), (13, "values", "value", True)],
    "node": [(3, "name", TEXT, False), (6, "description", TEXT, False)],
}
_Fields = dict[str, dict[int, tuple[str, str, bool]]]


def _by_tag(messages: dict[str, list[tuple[int, str, str, bool]]]) -> _Fields:
    """Key fields by the tag in the file, number and wire type: one of another type is as unknown as a new one."""
    return {
        message: {number << 3 | _WIRE.get(kind, 2): (name, kind, many) for number, name, kind, many in fields}
        for message, fields in messages.items()
    }


_FIELDS = _by_tag(_MESSAGES)
_DESCRIBED = _by_tag({message: fields + _DESCRIPTIONS.get(message, []) for message, fields in _MESSAGES.items()})
_OTHER_FILES = {("tensor", 13), ("tensor", 14)}  # external_data, data_location
_ATTRIBUTE_TYPES = {1: "float", 2: "int", 3: "bytes", 5: "body", 7: "ints"}
MOST_AXES = 8
"""More than any array of ``bandsplit export`` has."""
_TYPES = {1: (4, "float32"), 3: (1, "int8"), 7: (8, "int64")}  # data_type of weights: bytes of a number, its name


class Weights(NamedTuple):
    """An array of the file."""

    shape: tuple[int, ...]
    type: str
    data: memoryview

    def whole_numbers(self) -> tuple[int, ...]:
        """Return the values of an array of int64."""
        return struct.unpack(f"<{len(self.data) // 8}q", self.data)


class Node(NamedTuple):
    """One operation."""

    operator: str
    """``domain.name``, the domain only where it is not ONNX's own."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    """Numbers, bytes, tuples of numbers or, of a loop, a `Graph`."""


class Graph(NamedTuple):
    """Operations in their order, and the names of inputs and outputs."""

    nodes: list[Node]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: dict[str, Weights]
    input_shapes: tuple[tuple[int | None, ...], ...] = ()
    """Shape of each input; None: any size."""


class OnnxFile(NamedTuple):
    """Content of an ONNX file."""

    metadata: dict[str, str]
    operators: dict[str, int]
    """Version of the operators of each domain."""
    graph: Graph


def parse_onnx(data: bytes, described: bool = False) -> OnnxFile:
    """Read an ONNX file.

    Args:
        data: its bytes.
        described: whether names of nodes, shapes of values and other descriptions are allowed; they are not returned.

    Raises:
        ValueError: the bytes are not an ONNX model, are truncated, name other files, or contain fields that
            ``bandsplit export`` never writes.
    """
    try:
        model = _parse_message(memoryview(data), "model", _DESCRIBED if described else _FIELDS)
        metadata = _unique("metadata", [(entry["key"], entry["value"]) for entry in model.get("metadata", ())])
        operators = _unique("operators", [(one.get("domain", ""), one["version"]) for one in model["operators"]])
        return OnnxFile(metadata, operators, _graph(model["graph"]))
    except KeyError as error:
        raise ValueError(f"it is not an ONNX file, or a part of it is missing ({error.args[0]})") from None
    except UnicodeDecodeError:
        raise ValueError("it is not an ONNX file: a name in it is not text") from None


def _graph(found: dict[str, Any]) -> Graph:
    weights = [(one["name"], _weights(one)) for one in found.get("weights", ())]
    inputs, outputs = (tuple(value["name"] for value in found.get(end, ())) for end in ("inputs", "outputs"))
    nodes, shapes = [_node(one) for one in found.get("nodes", ())], tuple(map(_shape, found.get("inputs", ())))
    return Graph(nodes, inputs, outputs, _unique("weights", weights), shapes)


def _shape(value: dict[str, Any]) -> tuple[int | None, ...]:
    shape = value.get("type", {}).get("tensor", {}).get("shape", {})
    return tuple(axis.get("size") for axis in shape.get("dims", ()))


def _node(found: dict[str, Any]) -> Node:
    attributes = []
    for one in found.get("attributes", ()):
        name, value = one["name"], _ATTRIBUTE_TYPES.get(one["type"])
        # Exactly the value that the type names: with two, readers might take different ones.
        if set(one) != {"name", "type", value}:
            raise ValueError(f"its attribute {name!r} has no value, or one that is not of its type")
        content = _graph(one[value]) if value == "body" else one[value]
        attributes.append((name, tuple(content) if value == "ints" else content))
    domain = found.get("domain", "")
    operator = f"{domain}.{found['operator']}" if domain else found["operator"]
    inputs, outputs = tuple(found.get("inputs", ())), tuple(found.get("outputs", ()))
    return Node(operator, inputs, outputs, _unique("attributes", attributes))


def _weights(found: dict[str, Any]) -> Weights:
    shape, data = tuple(found.get("dims", ())), found["data"]
    size, name = _TYPES.get(found["type"], (0, ""))
    if not size or len(shape) > MOST_AXES or any(n < 0 for n in shape) or prod(shape) * size != len(data):
        raise ValueError(
            f"its weights {found['name']!r} are {len(data)} bytes, but their type and shape need another number"
        )
    return Weights(shape, name, data)


def _unique(what: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError(f"its {what} have the same name twice")
    return found


def _parse_message(message: memoryview, kind: str, known: _Fields) -> dict[str, Any]:
    """Read the fields of a message by their names."""
    fields, found, at = known[kind], {}, 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag not in fields:
            raise ValueError(_describe_foreign(tag, kind))
        name, content, many = fields[tag]
        value, at = _varint(message, at) if content == INT else _sized(message, at, content, known)
        if many:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise ValueError(f"its {kind} has {name!r} twice")
        else:
            found[name] = value
    return found


def _sized(message: memoryview, at: int, content: str, known: _Fields) -> tuple[Any, int]:
    size, at = (4, at) if content == FLOAT else _varint(message, at)
    if not 0 <= size <= len(message) - at:
        raise ValueError("it is truncated, or not an ONNX file")
    part, at = message[at : at + size], at + size
    if content == TEXT:
        return str(part, "utf-8"), at
    if content == FLOAT:
        return struct.unpack("<f", part)[0], at
    return part if content == BYTES else _parse_message(part, content, known), at


def _describe_foreign(tag: int, kind: str) -> str:
    if (kind, tag >> 3) in _OTHER_FILES:
        return "it takes weights from another file, which is not allowed here"
    if kind == "model":
        return f"it is not an ONNX file of `bandsplit export` (field {tag >> 3} of type {tag & 7})"
    return f"its {kind} has a field {tag >> 3} of type {tag & 7}, which `bandsplit export` does not write"


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Read a signed 64-bit integer, seven bits in a byte, and return it with the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("it is truncated, or not an ONNX file")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if (not byte and shift) or value >> 64:
                raise ValueError("it is not an ONNX file: a number in it is not in its shortest encoding")
            return value - (value >> 63 << 64), at
    raise ValueError("it is not an ONNX file: a number in it has more than 64 bits")

"""What an ONNX file says of itself, read from its bytes by the rules of Protocol Buffers, without other libraries.

An ONNX file is data, but one that may name other files to be read as weights: such files are refused here.
"""

from collections.abc import Iterator

# Numbers of the fields in onnx.proto3, and the messages that lie in them.
_INNER = {
    "model": {7: "graph", 14: "entry", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor
_DEEPEST = 20


def read_metadata(data: bytes) -> tuple[dict[str, str], int]:
    """Return the metadata of an ONNX file, and how many nodes and weights it has.

    Raises:
        ValueError: the bytes are no ONNX model, are cut, or name other files.
    """
    metadata: dict[str, str] = {}
    parts = 0
    view = memoryview(data)
    for number, value in _fields(view):
        if number == 14 and isinstance(value, memoryview):
            entry = {field: bytes(text).decode() for field, text in _fields(value) if isinstance(text, memoryview)}
            metadata[entry.get(1, "")] = entry.get(2, "")
        elif number == 7 and isinstance(value, memoryview):
            parts += sum(1 for _ in _fields(value))
    _check_self_contained(view, "model", 0)
    return metadata, parts


def _check_self_contained(message: memoryview, kind: str, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError("its graphs are nested too deeply")
    for number, value in _fields(message):
        if kind == "tensor":
            if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value):
                raise ValueError("it takes weights from another file, which is not allowed here")
        elif (inner := _INNER[kind].get(number)) and inner != "entry" and isinstance(value, memoryview):
            _check_self_contained(value, inner, depth + 1)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field: a whole number, or the bytes of text, data and inner messages."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if wire not in (1, 2, 5):
            raise ValueError("it is no ONNX file")
        size, at = _varint(message, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
        if at + size > len(message):
            raise ValueError("it is cut short, or no ONNX file")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("it is cut short, or no ONNX file")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it is no ONNX file")

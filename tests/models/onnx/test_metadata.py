"""ONNX files: read as every reader of Protocol Buffers reads them; no other file is named, no memory filled."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bandsplit.core.errors import ModelFileError
from bandsplit.models.card import read_card
from bandsplit.models.onnx.metadata import OnnxFile, parse_onnx
from bandsplit.separation.export import export_model
from onnx_models import write_model

if TYPE_CHECKING:
    from onnx import ModelProto
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

GRAPH, INITIALIZER, EXTERNAL_DATA, DATA_LOCATION = 7, 5, 13, 14
LOCATION = b"\n\x08location\x12\x0b/etc/passwd"  # key and value of an entry of external_data


def varint(value: int, length: int = 1) -> bytes:
    """Write a whole number in so many bytes at least."""
    groups = []
    while value or len(groups) < length:
        groups.append(value & 0x7F)
        value >>= 7
    return bytes(group | 0x80 for group in groups[:-1]) + bytes(groups[-1:])


def field(number: int, content: bytes | int, wire: int | None = None, length: int = 1) -> bytes:
    """Write a field, its tag in so many bytes at least."""
    wire = (0 if isinstance(content, int) else 2) if wire is None else wire
    tag = varint(number << 3 | wire, length)
    return tag + (varint(content) if isinstance(content, int) else varint(len(content)) + content)


def put_in_tensor(data: bytes, added: bytes) -> bytes:
    """Put bytes at the end of the first weights of a file."""
    model = onnx.ModelProto.FromString(data)
    tensor = model.graph.initializer[0].SerializeToString() + added
    del model.graph.initializer[0]
    graph = field(INITIALIZER, tensor) + model.graph.SerializeToString()
    model.ClearField("graph")
    return model.SerializeToString() + field(GRAPH, graph)


def put_in_graph(data: bytes, added: bytes) -> bytes:
    """Put bytes at the end of the graph of a file."""
    model = onnx.ModelProto.FromString(data)
    graph = model.graph.SerializeToString() + added
    model.ClearField("graph")
    return model.SerializeToString() + field(GRAPH, graph)


def names_other_files(message: Any) -> bool:
    """Whether a tensor anywhere in what onnx reads has weights elsewhere."""
    if message.DESCRIPTOR.name == "TensorProto" and (message.external_data or message.data_location):
        return True
    return any(
        names_other_files(inner)
        for descriptor, value in message.ListFields()
        if descriptor.type == descriptor.TYPE_MESSAGE
        for inner in (value if descriptor.is_repeated else [value])
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small model of 8-bit integers, which has loops."""
    folder = tmp_path_factory.mktemp("onnx")
    return export_model(
        write_model(folder, {"n_features": 4, "n_blocks": 1}), folder / "model.onnx", int8=True
    ).path.read_bytes()


def external(*, length: int = 1, more: int = 0) -> Callable[[bytes], bytes]:
    """Name another file in a tensor, with tags that say more, or are longer, than they have to."""

    def change(data: bytes) -> bytes:
        data_field, place = EXTERNAL_DATA | more >> 3, DATA_LOCATION | more >> 3
        return put_in_tensor(data, field(data_field, LOCATION, length=length) + field(place, 1, length=length))

    return change


TENSOR = b"\x08\x01\x10\x01" + field(EXTERNAL_DATA, LOCATION) + field(DATA_LOCATION, 1)
OTHER_SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": external(),
    "a tag with bits beyond 32": external(more=1 << 34),
    "a tag with bits beyond 64": external(more=1 << 66),
    "a tag in 5 bytes": external(length=5),
    "a tag in 10 bytes": external(length=10),
    "a field beyond 2**29": lambda data: put_in_tensor(data, field(1 << 29, 1)),
    "field 0": lambda data: put_in_tensor(data, field(0, 1)),
    "a group": lambda data: put_in_tensor(data, varint(EXTERNAL_DATA << 3 | 3) + varint(EXTERNAL_DATA << 3 | 4)),
    "a location as bytes": lambda data: put_in_tensor(data, field(DATA_LOCATION, b"\x01")),
    "a place of 64 bits": lambda data: put_in_tensor(data, varint(DATA_LOCATION << 3 | 1) + b"\x01" + bytes(7)),
    "a size in two bytes": lambda data: put_in_tensor(data, b"\x42\x81\x00x"),
    "a number of 11 bytes": lambda data: data + b"\x08" + b"\xff" * 10 + b"\x01",
    "a number of 65 bits": lambda data: data.replace(b"\x08\x08", b"\x08" + b"\x88" + b"\x80" * 8 + b"\x02", 1),
    "a data type of 33 bits": lambda data: put_in_graph(
        data, field(5, b"\x42\x01x\x10" + varint(1 << 32 | 1) + b"J\0")
    ),
    "a second graph": lambda data: data + field(GRAPH, field(INITIALIZER, TENSOR)),
    "a second name of weights": lambda data: put_in_tensor(data, field(8, b"constant_9")),
    "sparse weights": lambda data: put_in_graph(data, field(15, field(1, TENSOR))),
    "a quantization annotation": lambda data: put_in_graph(data, field(14, b"")),
    "an attribute's tensor": lambda data: put_in_graph(data, field(1, field(5, field(5, TENSOR)))),
    "an attribute's tensors": lambda data: put_in_graph(data, field(1, field(5, field(10, TENSOR)))),
    "an attribute's graphs": lambda data: put_in_graph(data, field(1, field(5, field(11, field(5, TENSOR))))),
    "an attribute's sparse tensor": lambda data: put_in_graph(data, field(1, field(5, field(22, field(1, TENSOR))))),
    "an attribute's sparse tensors": lambda data: put_in_graph(data, field(1, field(5, field(23, field(2, TENSOR))))),
    "weights of an attribute's graph": lambda data: put_in_graph(data, field(1, field(5, field(6, field(5, TENSOR))))),
    "a function": lambda data: data + field(25, field(7, field(5, field(5, TENSOR)))),
    "training": lambda data: data + field(20, field(1, field(5, TENSOR))),
    "metadata twice": lambda data: data + field(14, field(1, b"format") + field(2, b"other")),
    "a documentation": lambda data: data + field(6, b"hello"),
}


@pytest.mark.parametrize("change", OTHER_SPELLINGS.values(), ids=OTHER_SPELLINGS)
def test_what_readers_could_see_differently_is_refused(change: Callable[[bytes], bytes], data: bytes, tmp_path: Path):
    path = tmp_path / "changed.onnx"
    path.write_bytes(change(data))
    with pytest.raises(ModelFileError, match=r"changed\.onnx: cannot be used as an ONNX model: it"):
        read_card(path)


def mutate(data: bytes, generator: random.Random) -> bytes:
    """Change a file: bytes, cuts, copies, and fields of weights or the graph that protobuf may read as others."""
    choice = generator.randrange(4)
    if choice == 0:
        number = generator.choice([EXTERNAL_DATA, DATA_LOCATION, generator.randrange(32)])
        number |= generator.choice([0, 0, 1 << 29, 1 << 31, 1 << 61, generator.getrandbits(70) << 5])
        content = generator.choice([LOCATION, 1, generator.getrandbits(generator.choice([1, 33, 64])), b""])
        added = field(number, content, generator.choice([None, None, *range(8)]), generator.randrange(1, 12))
        return generator.choice([put_in_tensor, put_in_graph])(data, added)
    at, size = generator.randrange(len(data)), generator.randrange(1, 40)
    if choice == 1:
        return data[:at] + bytes([generator.randrange(256)]) + data[at + 1 :]
    if choice == 2:
        return data[:at] + data[at + size :]
    source = generator.randrange(len(data))
    return data[:at] + data[source : source + size] + data[at + generator.choice([0, size]) :]


def summarise(model: ModelProto) -> tuple[Any, ...]:
    """Say what onnx reads in a file, in our words."""
    graph = model.graph
    return (
        {entry.key: entry.value for entry in model.metadata_props},
        {one.domain: one.version for one in model.opset_import},
        [([*node.input], [*node.output]) for node in graph.node],
        {tensor.name: (tuple(tensor.dims), tensor.raw_data) for tensor in graph.initializer},
    )


def summarise_ours(file: OnnxFile) -> tuple[Any, ...]:
    return (
        file.metadata,
        file.operators,
        [([*node.inputs], [*node.outputs]) for node in file.graph.nodes],
        {name: (array.shape, bytes(array.data)) for name, array in file.graph.weights.items()},
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_file_is_refused_or_read_as_onnx_reads_it(seed: int, data: bytes):
    generator, accepted = random.Random(seed), 0
    for _ in range(150):
        changed = mutate(data, generator)
        try:
            ours = parse_onnx(changed)
        except ValueError:
            continue
        accepted += 1
        model = onnx.load_model_from_string(changed)
        assert not names_other_files(model)
        assert summarise_ours(ours) == summarise(model)
    assert accepted


def test_weights_in_a_file_beside_are_not_found_by_onnxruntime_either(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from bandsplit.separation import onnx_network
    from bandsplit.separation.onnx_network import OnnxNetwork

    model = onnx.load_model_from_string(data)
    tensor = next(tensor for tensor in model.graph.initializer if len(tensor.dims) > 1)
    (tmp_path / "beside.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="beside.bin")
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    config, card = read_card(path)
    # As if the reading of the file had overlooked it.
    monkeypatch.setattr(onnx_network, "read_onnx", lambda _: (model.SerializeToString(), config, card))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match=r"cannot load it \(.*beside\.bin"):
        OnnxNetwork(path)

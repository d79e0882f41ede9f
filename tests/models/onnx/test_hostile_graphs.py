"""Graphs that fill any memory or never end, in small files: refused before onnxruntime loads them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bandsplit.core.errors import ModelFileError
from bandsplit.models.card import read_card
from bandsplit.models.families import onnx_core, parse_model
from bandsplit.models.files import load_model
from bandsplit.models.onnx.arrays import Array
from bandsplit.models.onnx.metadata import OnnxFile, parse_onnx
from bandsplit.models.onnx.sizes import Costs, _Count, count_costs
from bandsplit.separation.export import export_model
from onnx_models import ARCHITECTURES, write_model
from traced_models import FAMILIES, write_traced

if TYPE_CHECKING:
    from onnx import GraphProto
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small model of 8-bit integers, which has loops."""
    folder = tmp_path_factory.mktemp("onnx")
    file = write_model(folder, {"n_features": 4, "n_blocks": 1})
    return export_model(file, folder / "model.onnx", int8=True).path.read_bytes()


def add(graph: GraphProto, operator: str, *inputs: str, **attributes: Any) -> str:
    """Add an operation before all others and return the name of its output."""
    name = f"bomb_{len(graph.node)}"
    graph.node.insert(len(added := [n for n in graph.node if n.output[0].startswith("bomb")]), onnx.NodeProto())
    graph.node[len(added)].CopyFrom(onnx.helper.make_node(operator, inputs, [name], **attributes))
    return name


def numbers(graph: GraphProto, *values: int) -> str:
    name = f"numbers_{len(graph.initializer)}"
    graph.initializer.append(
        onnx.helper.make_tensor(name, 7, [len(values)], onnx.numpy_helper.np.array(values).tobytes(), True)
    )
    return name


def constant(graph: GraphProto) -> None:
    add(graph, "ConstantOfShape", numbers(graph, 10**12))


def many_constants(graph: GraphProto) -> None:
    size = numbers(graph, 10**8)
    for _ in range(300):
        add(graph, "ReduceMean", add(graph, "ConstantOfShape", size), numbers(graph, 0), keepdims=1)


def doubled(graph: GraphProto) -> None:
    name = "mixture"
    for _ in range(40):
        name = add(graph, "Concat", name, name, axis=0)


def doubled_size(graph: GraphProto) -> None:
    size = numbers(graph, 16)
    for _ in range(3):
        size = add(graph, "Mul", size, size)
    add(graph, "ConstantOfShape", size)


def numbers_without_end(graph: GraphProto) -> None:
    size = numbers(graph, 1 << 40)
    for _ in range(40):
        size = add(graph, "Mul", size, size)


def outer_product(graph: GraphProto) -> None:
    column = add(graph, "Reshape", "mixture", numbers(graph, -1, 1))
    add(graph, "Mul", column, add(graph, "Reshape", "mixture", numbers(graph, 1, -1)))


def padded(graph: GraphProto) -> None:
    add(graph, "Pad", "mixture", numbers(graph, *[10**10] * 10))


def products(graph: GraphProto) -> None:
    square = add(graph, "ConstantOfShape", numbers(graph, 3000, 3000))
    for _ in range(500):
        square = add(graph, "MatMul", square, square)


def long_loop(graph: GraphProto) -> None:
    length = add(graph, "ConstantOfShape", numbers(graph, 10**6, 1))
    square = add(graph, "ConstantOfShape", numbers(graph, 1000, 1000))
    value = onnx.helper.make_tensor_value_info
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", [square, square], ["product"])],
        "body", [value("step", 1, None)], [value("product", 1, None)],
    )  # fmt: skip
    add(graph, "Scan", length, body=body, num_scan_inputs=1)


def loop_in_a_loop(graph: GraphProto) -> None:
    value = onnx.helper.make_tensor_value_info
    inner = onnx.helper.make_graph([], "inner", [value("a", 1, None)], [value("a", 1, None)])
    node = onnx.helper.make_node("Scan", ["step"], ["out"], body=inner, num_scan_inputs=1)
    body = onnx.helper.make_graph([node], "body", [value("step", 1, None)], [value("out", 1, None)])
    add(graph, "Scan", "mixture", body=body, num_scan_inputs=1)


def operator(name: str, *values: int, **attributes: Any) -> Callable[[GraphProto], None]:
    def change(graph: GraphProto) -> None:
        add(graph, name, "mixture", *(numbers(graph, value) for value in values), **attributes)

    return change


TOO_MUCH, FOREIGN = (
    "its graph takes more than a model of its configuration can need",
    "is not one that `bandsplit export` writes",
)
BOMBS: list[tuple[Callable[[GraphProto], None], str]] = [
    (constant, TOO_MUCH),
    (many_constants, TOO_MUCH),
    (doubled, TOO_MUCH),
    (doubled_size, TOO_MUCH),
    (numbers_without_end, FOREIGN),
    (outer_product, TOO_MUCH),
    (padded, TOO_MUCH),
    (products, TOO_MUCH),
    (long_loop, TOO_MUCH),
    (loop_in_a_loop, "its inner attribute has a field 6"),
    (operator("Expand", 10**12), FOREIGN),
    (operator("Tile", 10**12), FOREIGN),
    (operator("Range", 0, 10**12), FOREIGN),
    (operator("Resize", 10**12), FOREIGN),
    (operator("Loop", 10**12), FOREIGN),
    (operator("If"), FOREIGN),
    (operator("Relu", alpha=1.0), FOREIGN),
]


def write_bomb(bomb: Callable[[GraphProto], None], data: bytes, path: Path) -> None:
    model = onnx.load_model_from_string(data)
    bomb(model.graph)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(("bomb", "message"), BOMBS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_graph_that_fills_the_memory_or_never_ends_is_refused_before_it_is_loaded(
    bomb: Callable[[GraphProto], None], message: str, data: bytes, tmp_path: Path
):
    path = tmp_path / "bomb.onnx"
    write_bomb(bomb, data, path)
    with pytest.raises(ModelFileError) as caught:
        read_card(path)
    assert str(caught.value).startswith(f"{path}: cannot be used as an ONNX model: its ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("n_features", 1_000_000, r"its configuration needs .* numbers or more"),
        ("n_features", 40, r"it has \d+ weights, but a model of its configuration has at least"),
        ("stft", {"n_fft": 1_000_000, "hop_samples": 250_000}, r"its configuration needs .* numbers or more"),
        (
            "stft",
            {"n_fft": 16_384, "hop_samples": 4096},
            r"it has \d+ weights, but a model of its configuration has",
        ),
    ],
)
def test_a_configuration_of_a_larger_model_than_the_file_holds_is_refused(
    key: str, value: Any, message: str, data: bytes, tmp_path: Path
):
    model = onnx.load_model_from_string(data)
    entry = next(entry for entry in model.metadata_props if entry.key == "config")
    entry.value = json.dumps(json.loads(entry.value) | {key: value})
    path = tmp_path / "larger.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=message):
        read_card(path)


@pytest.mark.parametrize("changes", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_limits_are_several_times_what_our_graphs_take(changes: dict[str, Any], tmp_path: Path):
    from bandsplit.models.bsrnn.onnx_core import limit_costs, mixture_shape
    from bandsplit.models.bsrnn.onnx_graph import build_graph

    model: Any = load_model(write_model(tmp_path, changes))
    for int8 in (False, True):
        graph = parse_onnx(build_graph(model, {}, int8).SerializeToString()).graph
        limits = limit_costs(graph, model.config)
        taken = count_costs(graph, mixture_shape(model.config), limits)
        assert 2 * taken.numbers < limits.numbers
        assert 2 * taken.operations < limits.operations


# --- the same for traced networks, whose graphs have more operators --------------------------------------------------


def floats(graph: GraphProto, *shape: int) -> str:
    name = f"floats_{len(graph.initializer)}"
    graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name))
    return name


def scalar(graph: GraphProto, value: int) -> str:
    return add(graph, "Squeeze", numbers(graph, value), numbers(graph, 0))


def expanded(graph: GraphProto) -> None:
    add(graph, "Expand", floats(graph), numbers(graph, 10**6, 10**6))


def long_range(graph: GraphProto) -> None:
    add(graph, "Range", scalar(graph, 0), scalar(graph, 10**12), scalar(graph, 1))


def gathered(graph: GraphProto) -> None:
    places = add(graph, "Expand", scalar(graph, 0), numbers(graph, 10**7))
    add(graph, "Gather", "mixture", places, axis=1)


def image(graph: GraphProto) -> str:
    return add(graph, "Reshape", "mixture", numbers(graph, 0, 0, 0, -1))


def padded_convolution(graph: GraphProto) -> None:
    add(graph, "Conv", image(graph), floats(graph, 2, 2, 1, 1), pads=[10**6] * 4)


def stretched(graph: GraphProto) -> None:
    add(graph, "ConvTranspose", image(graph), floats(graph, 2, 2, 1, 1), strides=[10**5, 10**5])


def large_kernels(graph: GraphProto) -> None:
    name, kernel = image(graph), add(graph, "Expand", floats(graph), numbers(graph, 2, 2, 999, 999))
    for _ in range(50):
        name = add(graph, "Conv", name, kernel, pads=[499] * 4)


def outer_einsum(graph: GraphProto) -> None:
    flat = add(graph, "Reshape", "mixture", numbers(graph, -1))
    add(graph, "Einsum", flat, flat, equation="a,b->ab")


def summed_einsum(graph: GraphProto) -> None:
    flat = add(graph, "Reshape", "mixture", numbers(graph, -1))
    add(graph, "Einsum", flat, flat, flat, equation="a,b,c->a")


def long_recurrence(graph: GraphProto) -> None:
    x = add(graph, "Expand", floats(graph), numbers(graph, 10**6, 1, 1000))
    sizes = {"hidden_size": 1000}
    add(graph, "GRU", x, *(floats(graph, *shape) for shape in ((1, 3000, 1000), (1, 3000, 1000), (1, 6000))), **sizes)


FREE = Costs(1 << 60, 1 << 60)
TRACED_BOMBS = [
    expanded, long_range, gathered, padded_convolution, stretched, large_kernels, outer_einsum, summed_einsum,
    long_recurrence,
]  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def traced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small model of each family."""
    folder = tmp_path_factory.mktemp("onnx")
    return export_model(write_traced(folder, request.param), folder / "model.onnx").path.read_bytes()


@pytest.mark.parametrize("bomb", TRACED_BOMBS, ids=lambda bomb: bomb.__name__)
def test_operations_of_traced_networks_are_counted_before_they_are_loaded(
    bomb: Callable[[GraphProto], None], traced: bytes, tmp_path: Path
):
    path = tmp_path / "bomb.onnx"
    write_bomb(bomb, traced, path)
    with pytest.raises(ModelFileError, match=TOO_MUCH):
        read_card(path)


def mutate(graph: GraphProto, generator: random.Random) -> None:
    """Change sizes, attributes, connections, operators, or their order."""
    node = generator.choice(graph.node)
    match generator.randrange(6):
        case 0:
            integers = [tensor for tensor in graph.initializer if tensor.data_type == 7]
            tensor = generator.choice(integers)
            array = onnx.numpy_helper.to_array(tensor).copy().reshape(-1)
            array[generator.randrange(len(array))] = generator.choice([-1, 0, 1, 2, 3, 7, 1 << 20, 1 << 40, -(1 << 63)])
            tensor.raw_data = array.tobytes()
        case 1:
            tensor = generator.choice(graph.initializer)
            if tensor.dims:
                place = generator.randrange(len(tensor.dims))
                tensor.dims[place], tensor.dims[0] = tensor.dims[0], tensor.dims[place]
        case 2 if node.attribute:
            attribute = generator.choice(node.attribute)
            attribute.i = (
                generator.choice([-7, -1, 0, 1, 2, 5, 1 << 30, 1 << 62]) if attribute.type == 2 else attribute.i
            )
            if attribute.ints:
                attribute.ints[generator.randrange(len(attribute.ints))] = generator.choice([-1, 0, 1, 2, 5, 1 << 33])
        case 3 if node.input:
            names = [output for other in graph.node for output in other.output]
            node.input[generator.randrange(len(node.input))] = generator.choice([*names, "mixture", ""])
        case 4:
            node.op_type = generator.choice([other.op_type for other in graph.node])
        case _:
            del graph.node[generator.randrange(len(graph.node))]


def final_shape(file: OnnxFile, mixture: np.ndarray) -> tuple[int, ...]:
    """Return the shape of the estimates as the rules compute it."""
    known = {
        name: Array(one.shape, one.whole_numbers() if one.type == "int64" else None)
        for name, one in file.graph.weights.items()
    }
    return _Count(FREE).run(file.graph, known | {"mixture": Array(mixture.shape)}, 0, 1)["estimates"].shape


@pytest.mark.parametrize("seed", range(2))
def test_a_changed_graph_is_refused_or_gives_what_was_computed_for_it(seed: int, traced: bytes):
    generator, accepted = random.Random(seed), 0
    config = parse_model(json.loads(parse_onnx(traced).metadata["config"]))
    core = onnx_core(config)
    mixture = core.before(config, np.zeros((1, 2, 992), np.float32))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for _ in range(60):
        model = onnx.load_model_from_string(traced)
        mutate(model.graph, generator)
        changed = model.SerializeToString()
        try:
            file = parse_onnx(changed)
            core.check(file, config)
        except ValueError:
            continue
        accepted += 1
        try:
            session = onnxruntime.InferenceSession(changed, options, providers=["CPUExecutionProvider"])
            (estimates,) = session.run(["estimates"], {"mixture": mixture})
        except Exception:  # onnxruntime raises classes of its own, which share no base
            continue
        assert final_shape(file, mixture) == estimates.shape
    assert accepted

"""Rules of operators: the shapes and sizes they compute are those of onnxruntime; what cannot be is refused."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from bandsplit.models.onnx.arrays import Array
from bandsplit.models.onnx.metadata import Graph, Node, Weights
from bandsplit.models.onnx.shape_rules import SHAPE_RULES
from bandsplit.models.onnx.sizes import OPSET, Costs, _Count, count_costs

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

MIXTURE = (2, 3, 4, 6)
FREE = Costs(1 << 40, 1 << 60)


class Case(NamedTuple):
    """One operation on the mixture, float32 of `MIXTURE`, and constants."""

    operator: str
    constants: tuple[Any, ...] = ()
    """Arrays, in float32 except whole numbers and truth values; None: an input that is left out; "x": the mixture."""
    attributes: dict[str, Any] = {}  # noqa: RUF012
    outputs: int = 1
    first: bool = True
    """Whether the mixture is the first input."""


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def operation(case: Case) -> tuple[Node, dict[str, np.ndarray]]:
    constants, inputs = {}, ["mixture"] if case.first else []
    for number, value in enumerate(case.constants):
        if value is None or isinstance(value, str):
            inputs.append("mixture" if value else "")
            continue
        array = np.asarray(value)
        constants[f"c{number}"] = array.astype({"i": np.int64, "b": np.bool_}.get(array.dtype.kind, np.float32))
        inputs.append(f"c{number}")
    names = tuple(f"y{number}" for number in range(case.outputs))
    return Node(case.operator, tuple(inputs), names, case.attributes), constants


def shapes_of_onnxruntime(case: Case) -> list[tuple[int, ...]]:
    """Run the operation."""
    node, constants = operation(case)
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    values = [helper.make_tensor_value_info(name, 0, None) for name in node.outputs]
    for value in values:
        value.ClearField("type")
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node(node.operator, node.inputs, node.outputs, **node.attributes)],
            "one",
            [helper.make_tensor_value_info("mixture", 1, MIXTURE)],
            values,
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    model = onnx.shape_inference.infer_shapes(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.shape(one) for one in session.run(None, {"mixture": zeros(*MIXTURE)})]


def graph_of(case: Case, outputs: tuple[str, ...]) -> Graph:
    """Return the operation as the reader of files returns it."""
    node, constants = operation(case)
    attributes = {
        name: value.encode() if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
        for name, value in node.attributes.items()
    }
    weights = {
        name: Weights(array.shape, str(array.dtype), memoryview(array.tobytes())) for name, array in constants.items()
    }
    return Graph([node._replace(attributes=attributes, outputs=outputs)], ("mixture",), ("estimates",), weights)


def shapes_by_rule(case: Case) -> list[tuple[int, ...]]:
    """Apply the rule of the operation."""
    graph = graph_of(case, tuple(f"y{number}" for number in range(case.outputs)))
    known = {
        name: Array(one.shape, one.whole_numbers() if one.type == "int64" else None)
        for name, one in graph.weights.items()
    }
    outputs = _Count(FREE).run(graph, known | {"mixture": Array(MIXTURE)}, 0, 1)
    return [outputs[name].shape for name in graph.nodes[0].outputs]


IMAGE = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]}
CASES = {
    "Conv": Case("Conv", (zeros(5, 3, 3, 2), zeros(5)), IMAGE),
    "Conv, groups": Case("Conv", (zeros(6, 1, 1, 1),), {"group": 3}),
    "ConvTranspose": Case("ConvTranspose", (zeros(3, 5, 3, 2), zeros(5)), IMAGE),
    "ConvTranspose, groups": Case("ConvTranspose", (zeros(3, 2, 2, 2),), {"group": 3, "strides": [2, 2]}),
    "InstanceNormalization": Case("InstanceNormalization", (zeros(3), zeros(3)), {"epsilon": 1e-5}),
    "BatchNormalization": Case("BatchNormalization", (zeros(3), zeros(3), zeros(3), zeros(3) + 1), {"epsilon": 1e-3}),
    "MatMul": Case("MatMul", (zeros(3, 6, 5),)),
    "Einsum": Case("Einsum", (zeros(4, 5),), {"equation": "abcd,ce->adeb"}),
    "LSTM": Case(
        "LSTM",
        (zeros(4, 2, 3), zeros(2, 20, 3), zeros(2, 20, 5), zeros(2, 40), None, zeros(2, 2, 5), zeros(2, 2, 5)),
        {"hidden_size": 5, "direction": "bidirectional"},
        first=False,
    ),
    "GRU": Case(
        "GRU",
        (zeros(4, 2, 3), zeros(1, 15, 3), zeros(1, 15, 5), zeros(1, 30)),
        {"hidden_size": 5, "linear_before_reset": 1},
        first=False,
    ),
    "AveragePool": Case("AveragePool", (), {"kernel_shape": [3, 2], "strides": [1, 2], "count_include_pad": 1}),
    "Abs": Case("Abs"),
    "Equal": Case("Equal", (zeros(4, 1),)),
    "Where": Case("Where", (np.ones((4, 1), bool), "x", zeros(6)), first=False),
    "Elu": Case("Elu", (), {"alpha": 0.5}),
    "Erf": Case("Erf"),
    "Clip": Case("Clip", (0.1, None)),
    "Pow": Case("Pow", (2.0,)),
    "Cos": Case("Cos"),
    "Sin": Case("Sin"),
    "ReduceL2": Case("ReduceL2", ([-1],), {"keepdims": 1}),
    "ReduceMean": Case("ReduceMean", ([0, 2],), {"keepdims": 0}),
    "Expand": Case("Expand", ([5, 1, 3, 1, 1],)),
    "Range": Case("Range", (3, 11, 2), first=False),
    "Gather": Case("Gather", ([[0, 2], [1, 1]],), {"axis": 1}),
    "Slice": Case("Slice", ([1], [1 << 62], [3], [2])),
    "Slice, first axes": Case("Slice", ([1, -2], [2, 3])),
    "Split": Case("Split", (), {"axis": -1, "num_outputs": 2}, outputs=2),
    "Split, sizes": Case("Split", ([1, 5],), {"axis": 3}, outputs=2),
    "Unsqueeze": Case("Unsqueeze", ([1, -1],)),
    "Transpose": Case("Transpose", (), {"perm": [2, 0, 3, 1]}),
    "Reshape": Case("Reshape", ([0, -1, 2],)),
    "Pad": Case("Pad", ([0, 0, 1, 2, 0, 0, 3, 4],)),
    "Pad, reflection": Case("Pad", ([0, 0, 1, 2, 0, 0, 3, 4],), {"mode": "reflect"}),
    "Pad, last number": Case("Pad", ([0, 0, 1, 2, 0, 0, 3, 9],), {"mode": "edge"}),
    "Concat": Case("Concat", ("x", zeros(2, 3, 4, 1)), {"axis": 3}),
    "Softmax": Case("Softmax", (), {"axis": -1}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_shapes_are_those_of_onnxruntime(case: Case):
    assert shapes_by_rule(case) == shapes_of_onnxruntime(case)


IMPOSSIBLE = {
    "other channels": Case("Conv", (zeros(5, 2, 3, 2),)),
    "a kernel beyond the image": Case("Conv", (zeros(5, 3, 9, 9),)),
    "a stride of zero": Case("Conv", (zeros(5, 3, 1, 1),), {"strides": [0, 1]}),
    "negative padding": Case("Conv", (zeros(5, 3, 1, 1),), {"pads": [-1, 0, 0, 0]}),
    "a reflection beyond the signal": Case("Pad", ([0, 0, 0, 0, 0, 0, 0, 6],), {"mode": "reflect"}),
    "a signal around itself": Case("Pad", ([0, 0, 0, 0, 0, 0, 0, 1],), {"mode": "wrap"}),
    "averages beyond the image": Case("AveragePool", (), {"kernel_shape": [9, 1]}),
    "averages along one of two axes": Case("AveragePool", (), {"kernel_shape": [3]}),
    "another kernel": Case("Conv", (zeros(5, 3, 3, 3),), {"kernel_shape": [1, 1]}),
    "groups that do not divide": Case("ConvTranspose", (zeros(3, 2, 2, 2),), {"group": 2}),
    "a group of zero": Case("Conv", (zeros(5, 3, 1, 1),), {"group": 0}),
    "an automatic padding": Case("Conv", (zeros(5, 3, 1, 1),), {"auto_pad": "SAME_UPPER"}),
    "statistics of other channels": Case("InstanceNormalization", (zeros(4), zeros(4))),
    "training": Case("BatchNormalization", (zeros(3),) * 4, {"training_mode": 1}),
    "an equation of other sizes": Case("Einsum", (zeros(5, 5),), {"equation": "abcd,ce->adeb"}),
    "an equation with a diagonal": Case("Einsum", (zeros(4, 5),), {"equation": "abcd,ce->adebb"}),
    "an equation of everything": Case("Einsum", (zeros(4, 5),), {"equation": "...d,ce->de"}),
    "too many outputs": Case("Split", (), {"axis": 0, "num_outputs": 1 << 40}, outputs=2),
    "backwards": Case("Slice", ([3], [0], [3], [-1])),
    "an axis twice": Case("Unsqueeze", ([0, 0, 0, 0, 0, 0],)),
    "a range without end": Case("Range", (0, 1 << 50, 1), first=False),
    "steps of zero": Case("Range", (0, 8, 0), first=False),
    "an index beyond the sizes": Case("Gather", ([[0, 2], [1, 1]],), {"axis": 9}),
    "a state of other sizes": Case(
        "GRU",
        (zeros(4, 2, 3), zeros(1, 15, 3), zeros(1, 15, 5), zeros(1, 30), None, zeros(1, 3, 5)),
        {"hidden_size": 5},
        first=False,
    ),
    "gates of another layer": Case(
        "LSTM", (zeros(4, 2, 3), zeros(1, 15, 3), zeros(1, 15, 5), zeros(1, 30)), {"hidden_size": 5}, first=False
    ),
    "lengths of sequences": Case(
        "GRU",
        (zeros(4, 2, 3), zeros(1, 15, 3), zeros(1, 15, 5), zeros(1, 30), [4, 4]),
        {"hidden_size": 5},
        first=False,
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_is_impossible_or_never_exported_is_refused(case: Case):
    with pytest.raises(
        ValueError, match=f"its operation '{case.operator}' .* is not one that `bandsplit export` writes"
    ):
        shapes_by_rule(case)


@pytest.mark.parametrize(
    ("case", "operations"),
    [
        (CASES["Conv"], 2 * 5 * 3 * 5 * (3 * 3 * 2)),
        (Case("ConvTranspose", (zeros(3, 5, 2, 2),), {"strides": [2, 2]}), 2 * 5 * 8 * 12 + 2 * 3 * 4 * 6 * 5 * 4),
        (CASES["AveragePool"], 2 * 3 * 2 * 3 * (3 * 2)),
        (CASES["MatMul"], 2 * 3 * 4 * 5 * 6),
        (CASES["Einsum"], 2 * 6 * 5 * 3 + 2 * 3 * 4 * 6 * 5),
        (CASES["LSTM"], 4 * 2 * (2 * 20 * 3 + 2 * 20 * 5 + 2 * 40)),
    ],
    ids=lambda value: value.operator if isinstance(value, Case) else "",
)
def test_products_are_counted(case: Case, operations: int):
    graph = graph_of(case, ("estimates",))
    assert count_costs(graph, MIXTURE, FREE).operations == operations + 1


@pytest.mark.parametrize(
    ("operator", "inputs", "numbers"),
    [
        ("Clip", [(2, 3, 9), (3,), (5,)], (3, 3, 5)),
        ("Clip", [(2, 3, 9), None, (5,)], (2, 3, 5)),
        ("Equal", [(2, 3, 9), (3,)], (0, 1, 0)),
        ("Where", [(0, 1, 0), (7, 7, 7), (2, 3, 9)], (2, 7, 9)),
        ("Div", [(2, 3, 9), (2,)], (1, 1, 4)),
    ],
)
def test_sizes_that_follow_from_other_sizes_are_computed(
    operator: str, inputs: list[tuple[int, ...] | None], numbers: tuple[int, ...]
):
    arrays = [None if one is None else Array(() if len(one) == 1 else (len(one),), one) for one in inputs]
    (found,) = SHAPE_RULES[operator][1](Node(operator, (), ("y",), {}), *arrays)
    assert found.numbers == numbers
    (unknown,) = SHAPE_RULES[operator][1](Node(operator, (), ("y",), {}), Array((3,)), *arrays[1:])
    assert unknown.numbers is None

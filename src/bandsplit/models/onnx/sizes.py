"""Costs of an ONNX graph, by arithmetic alone: the size of each of its arrays follows from that of the mixture.

A small file can describe a graph that fills any memory or never ends. A file with an unknown operation is refused, and
the sizes of the graph's arrays are added up before onnxruntime loads the file, since it computes some of them (those
that depend only on constants) on loading.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from itertools import zip_longest
from math import prod
from typing import NamedTuple

from bandsplit.models.onnx.metadata import MOST_AXES, Graph, Node, OnnxFile

OPSET = 18
"""Version of the ONNX operators: onnxruntime 1.14 and all later ones support it."""
MICROSOFT = "com.microsoft"
"""Domain of the operators that onnxruntime adds, all of them built in: the int8 variant uses some."""
_INTEGER_PRODUCT = f"{MICROSOFT}.MatMulIntegerToFloat"  # one of its inputs may be left out: its name is then empty
_MOST_NUMBERS = 64  # of an array whose values are tracked, since sizes are computed from them


class Array(NamedTuple):
    """Known properties of an array."""

    shape: tuple[int, ...]
    numbers: tuple[int, ...] | None = None
    """Its values, if they are sizes or indices and not audio."""
    constant: bool = False
    """Whether it does not depend on the mixture's numbers: it may be computed first and kept."""


class Costs(NamedTuple):
    """Costs of one call of a graph."""

    numbers: int
    """Most numbers that are in memory at once."""
    operations: int
    """Multiplications, and numbers written."""


def check_operators(file: OnnxFile) -> None:
    """Make sure that the operators of a file are of the versions that ``bandsplit export`` writes.

    Raises:
        ValueError: they are not.
    """
    if file.operators not in ({"": OPSET}, {"": OPSET, MICROSOFT: 1}):
        raise ValueError(f"its operators are of {file.operators}, not only of version {OPSET}")


def count_costs(graph: Graph, mixture: Sequence[int], limits: Costs) -> Costs:
    """Add up the costs of a graph for a mixture of this shape.

    Raises:
        ValueError: it costs more than ``limits``, contains operations that ``bandsplit export`` never writes, or
            connects them in impossible ways.
    """
    if graph.inputs != ("mixture",) or graph.outputs != ("estimates",):
        raise ValueError(f"its graph takes {graph.inputs} and gives {graph.outputs}, not 'mixture' and 'estimates'")
    known = {
        name: Array(array.shape, array.whole_numbers() if array.type == "int64" else None, constant=True)
        for name, array in graph.weights.items()
    }
    known["mixture"] = Array(tuple(mixture))
    count = _Count(limits)
    if "estimates" not in count.run(graph, known, 0, 1):
        raise ValueError("its graph does not compute 'estimates'")
    return Costs(count.most, count.operations)


class _Count:
    """Running totals."""

    def __init__(self, limits: Costs) -> None:
        self.limits, self.most, self.operations = limits, 0, 0

    def run(self, graph: Graph, known: MutableMapping[str, Array], held: int, times: int) -> dict[str, Array]:
        """Count a graph that runs ``times`` times while ``held`` numbers are in memory; return its own arrays."""
        # An array takes memory from the operation that writes it to the last one that reads it.
        last = {name: i for i, node in enumerate(graph.nodes) for name in _names(node)}
        own: dict[str, Array] = {}
        seen = ChainMap(own, known)
        for i, node in enumerate(graph.nodes):
            try:
                inputs = [seen[name] for name in node.inputs if name]
                _require(len(inputs) == len(node.inputs) or node.operator == _INTEGER_PRODUCT)
                if node.operator == "Scan":
                    outputs = self._scan(node, inputs, seen, held, times)
                else:
                    attributes, rule = _RULES[node.operator]
                    _require(not set(node.attributes) - attributes)
                    outputs = rule(node, *inputs)
                _require(len(outputs) == len(node.outputs))
                _require(len({*node.outputs}) == len(outputs) and not any(name in seen for name in node.outputs))
            except _TooLargeError:
                raise
            # Rules unpack inputs and attributes without checks: if one fails, the operation is not one of ours.
            except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError):
                raise ValueError(
                    f"its operation {node.operator!r} with the outputs {', '.join(node.outputs)} is not one that "
                    f"`bandsplit export` writes for its configuration: it was changed after the export"
                ) from None
            own.update(zip(node.outputs, outputs, strict=True))
            held += sum(prod(array.shape) for array in outputs)
            # + 1: otherwise a loop of very many steps over empty arrays would count as no work.
            self._add(held, times * (_products(node, inputs, outputs) + 1))
            for name in dict.fromkeys(_names(node)):
                # Constants are never freed: onnxruntime may compute them when it loads the file, and keep them.
                if last[name] == i and name in own and name not in graph.outputs and not own[name].constant:
                    held -= prod(own[name].shape)
        return own

    def _scan(
        self, node: Node, inputs: list[Array], known: MutableMapping[str, Array], held: int, times: int
    ) -> list[Array]:
        """Count the body of a loop over the first axis of some inputs; the others are states of constant shape."""
        attributes = dict(node.attributes)
        body, n_scanned = attributes.pop("body"), attributes.pop("num_scan_inputs")
        _require(not set(attributes) - {"scan_input_directions", "scan_output_directions"})
        _require(0 < n_scanned <= len(inputs) and len(body.inputs) == len(inputs))
        states, scanned = inputs[:-n_scanned], inputs[-n_scanned:]
        (length,) = {array.shape[0] for array in scanned}
        pieces = [Array(array.shape) for array in states] + [Array(array.shape[1:]) for array in scanned]
        _require(len(set(body.inputs)) == len(body.inputs) and not any(name in known for name in body.inputs))
        # States keep their shape from step to step, so one pass through the body is enough.
        inner = self.run(body, ChainMap(dict(zip(body.inputs, pieces, strict=True)), known), held, times * length)
        outputs = [inner[name] for name in body.outputs]
        _require([array.shape for array in outputs[: len(states)]] == [array.shape for array in states])
        return [Array(a.shape) for a in outputs[: len(states)]] + [
            Array((length, *a.shape)) for a in outputs[len(states) :]
        ]

    def _add(self, held: int, operations: int) -> None:
        self.most = max(self.most, held)
        self.operations += operations
        if self.most > self.limits.numbers or self.operations > self.limits.operations:
            raise _TooLargeError(
                f"its graph takes more than a model of its configuration can need: {self.most:.1e} numbers at once "
                f"(at most {self.limits.numbers:.1e}), {self.operations:.1e} operations or more (at most "
                f"{self.limits.operations:.1e})"
            )


class _TooLargeError(ValueError):
    pass


def _names(node: Node) -> Iterable[str]:
    """Yield the arrays that an operation reads, those inside a loop too."""
    yield from node.inputs
    body = node.attributes.get("body")
    if isinstance(body, Graph):
        for inner in body.nodes:
            yield from inner.inputs


def _require(legal: bool) -> None:
    if not legal:
        raise ValueError


def _products(node: Node, inputs: list[Array], outputs: list[Array]) -> int:
    """Return how many numbers an operation multiplies or writes."""
    written = sum(prod(array.shape) for array in outputs)
    if node.operator in ("MatMul", _INTEGER_PRODUCT):
        return written * inputs[0].shape[-1]
    if node.operator in ("LSTM", "GRU"):
        length, _, sequences, _ = outputs[0].shape
        return length * sequences * sum(prod(array.shape) for array in inputs[1:])
    return written + sum(prod(array.shape) for array in inputs)


# --- the operations: their attributes, and the shapes of their outputs ------------------------------------------------


def _array(shape: Iterable[int], *made_from: Array, numbers: Sequence[int] | None = None) -> Array:
    shape = tuple(shape)
    # Bounded, since a graph could square a number again and again until this arithmetic itself took forever.
    _require(len(shape) <= MOST_AXES and all(0 <= size < 1 << 48 for size in shape))
    known = tuple(numbers) if numbers is not None and len(numbers) <= _MOST_NUMBERS else None
    _require(known is None or all(abs(number) < 1 << 48 for number in known))
    return Array(shape, known, all(array.constant for array in made_from))


def _broadcast(*arrays: Array) -> tuple[int, ...]:
    sizes = []
    for column in zip_longest(*(array.shape[::-1] for array in arrays), fillvalue=1):
        wide = {size for size in column if size != 1} or {1}
        _require(len(wide) == 1)
        sizes.append(wide.pop())
    return tuple(sizes[::-1])


def _elementwise(node: Node, *arrays: Array) -> list[Array]:
    # Exported graphs compute sizes with these three, on arrays of one axis; all other numbers are audio.
    compute = {"Add": lambda a, b: a + b, "Mul": lambda a, b: a * b, "Div": _divide}.get(node.operator)
    numbers = None
    if compute and len(arrays) == 2 and all(array.numbers and len(array.shape) == 1 for array in arrays):
        a, b = (array.numbers or () for array in arrays)
        if len(a) == len(b):
            numbers = [compute(one, other) for one, other in zip(a, b, strict=True)]
    return [_array(_broadcast(*arrays), *arrays, numbers=numbers)]


def _divide(a: int, b: int) -> int:
    _require(a >= 0 and b > 0)
    return a // b


def _concat(node: Node, *arrays: Array) -> list[Array]:
    axis = _axis(node.attributes["axis"], arrays[0])
    shapes = [array.shape for array in arrays]
    _require(len({(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}) == 1)
    shape = (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])
    numbers = None
    if len(shape) == 1 and shape[0] <= _MOST_NUMBERS and all(array.numbers is not None for array in arrays):
        numbers = [number for array in arrays for number in array.numbers or ()]
    return [_array(shape, *arrays, numbers=numbers)]


def _axis(axis: int, array: Array) -> int:
    _require(-len(array.shape) <= axis < len(array.shape))
    return axis % len(array.shape)


def _numbers(array: Array) -> tuple[int, ...]:
    _require(array.numbers is not None)
    return array.numbers or ()


def _constant_of_shape(node: Node, sizes: Array) -> list[Array]:
    return [_array(_numbers(sizes), sizes)]


def _quantise(node: Node, x: Array) -> list[Array]:
    return [_array(x.shape, x), _array((), x), _array((), x)]


def _recurrent(node: Node, x: Array, w: Array, r: Array, bias: Array) -> list[Array]:
    (length, sequences, _), (directions, _, size) = x.shape, r.shape
    _require(node.attributes["hidden_size"] == size and node.attributes["direction"] == b"bidirectional")
    _require(directions == 2)
    return [_array((length, directions, sequences, size), x)]


def _matmul(node: Node, a: Array, b: Array, *rest: Array) -> list[Array]:
    _require(len(a.shape) >= 2 <= len(b.shape) and a.shape[-1] == b.shape[-2])
    batch = _broadcast(Array(a.shape[:-2]), Array(b.shape[:-2]))
    return [_array((*batch, a.shape[-2], b.shape[-1]), a, b)]


def _pad(node: Node, x: Array, amounts: Array) -> list[Array]:
    n, pads = len(x.shape), _numbers(amounts)
    _require(len(pads) == 2 * n and min(pads) >= 0)
    return [_array([size + pads[i] + pads[i + n] for i, size in enumerate(x.shape)], x)]


def _reduce(node: Node, x: Array, axes: Array) -> list[Array]:
    reduced = {_axis(axis, x) for axis in _numbers(axes)}
    _require(bool(reduced))
    kept = [1 if i in reduced else size for i, size in enumerate(x.shape)]
    if not node.attributes["keepdims"]:
        kept = [size for i, size in enumerate(kept) if i not in reduced]
    return [_array(kept, x)]


def _reshape(node: Node, x: Array, sizes: Array) -> list[Array]:
    wanted = [x.shape[i] if size == 0 else size for i, size in enumerate(_numbers(sizes))]
    if -1 in wanted:
        rest = prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = prod(x.shape) // rest
    _require(prod(wanted) == prod(x.shape))
    return [_array(wanted, x)]


def _shape(node: Node, x: Array) -> list[Array]:
    sizes = x.shape[slice(node.attributes.get("start"), node.attributes.get("end"))]
    return [Array((len(sizes),), sizes, constant=True)]


def _slice(node: Node, x: Array, starts: Array, ends: Array, axes: Array) -> list[Array]:
    shape = list(x.shape)
    for start, end, axis in zip(_numbers(starts), _numbers(ends), _numbers(axes), strict=True):
        place = _axis(axis, x)
        shape[place] = len(range(shape[place])[start:end])
    return [_array(shape, x)]


def _split(node: Node, x: Array, sizes: Array) -> list[Array]:
    axis, parts = _axis(node.attributes["axis"], x), _numbers(sizes)
    _require(sum(parts) == x.shape[axis])
    return [_array((*x.shape[:axis], part, *x.shape[axis + 1 :]), x) for part in parts]


def _gather(node: Node, x: Array, places: Array) -> list[Array]:
    axis = _axis(node.attributes["axis"], x)
    return [_array((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]), x)]


def _squeeze(node: Node, x: Array, axes: Array) -> list[Array]:
    gone = {_axis(axis, x) for axis in _numbers(axes)}
    _require(all(x.shape[axis] == 1 for axis in gone))
    return [_array((size for i, size in enumerate(x.shape) if i not in gone), x)]


def _unsqueeze(node: Node, x: Array, axes: Array) -> list[Array]:
    (axis,) = _numbers(axes)
    _require(0 <= axis <= len(x.shape))
    return [_array((*x.shape[:axis], 1, *x.shape[axis:]), x)]


def _transpose(node: Node, x: Array) -> list[Array]:
    order = node.attributes["perm"]
    _require(sorted(order) == list(range(len(x.shape))))
    return [_array((x.shape[axis] for axis in order), x)]


_RULES: dict[str, tuple[set[str], Callable[..., list[Array]]]] = {
    **{name: (set(), _elementwise) for name in ("Add", "Div", "Mul", "PRelu", "Sub", "Sum")},
    **{name: (set(), _elementwise) for name in ("Identity", "Reciprocal", "Relu", "Sigmoid", "Sqrt", "Tanh")},
    **{name: ({"keepdims"}, _reduce) for name in ("ReduceMean", "ReduceSum")},
    "Concat": ({"axis"}, _concat),
    "ConstantOfShape": (set(), _constant_of_shape),
    "DynamicQuantizeLinear": (set(), _quantise),
    "GRU": ({"hidden_size", "direction", "linear_before_reset"}, _recurrent),
    "Gather": ({"axis"}, _gather),
    "LSTM": ({"hidden_size", "direction"}, _recurrent),
    "LeakyRelu": ({"alpha"}, _elementwise),
    "MatMul": (set(), _matmul),
    _INTEGER_PRODUCT: (set(), _matmul),
    "Pad": (set(), _pad),
    "Reshape": (set(), _reshape),
    "Shape": ({"start", "end"}, _shape),
    "Slice": (set(), _slice),
    "Softmax": ({"axis"}, _elementwise),
    "Split": ({"axis"}, _split),
    "Squeeze": (set(), _squeeze),
    "Transpose": ({"perm"}, _transpose),
    "Unsqueeze": (set(), _unsqueeze),
}

"""Costs of an ONNX graph, by arithmetic alone: the size of each of its arrays follows from that of the mixture.

A small file can describe a graph that fills any memory or never ends. A file with an unknown operation is refused, and
the sizes of the graph's arrays are added up before onnxruntime loads the file, since it computes some of them (those
that depend only on constants) on loading.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, MutableMapping, Sequence
from math import prod
from typing import NamedTuple

from bandsplit.models.onnx.arrays import MOST_LISTED, Array, require
from bandsplit.models.onnx.layer_rules import LAYER_RULES, MICROSOFT, count_products
from bandsplit.models.onnx.metadata import Graph, Node, OnnxFile, Weights
from bandsplit.models.onnx.shape_rules import SHAPE_RULES

OPSET = 18
"""Version of the ONNX operators: onnxruntime 1.14 and all later ones support it."""

_RULES = SHAPE_RULES | LAYER_RULES


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
        name: Array(array.shape, array.whole_numbers() if _is_listed(array) else None, constant=True)
        for name, array in graph.weights.items()
    }
    known["mixture"] = Array(tuple(mixture))
    count = _Count(limits)
    if "estimates" not in count.run(graph, known, 0, 1):
        raise ValueError("its graph does not compute 'estimates'")
    return Costs(count.most, count.operations)


def _is_listed(array: Weights) -> bool:
    return array.type == "int64" and prod(array.shape) <= MOST_LISTED


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
                inputs = [seen[name] if name else None for name in node.inputs]
                if node.operator == "Scan":
                    outputs = self._scan(node, [seen[name] for name in node.inputs], seen, held, times)
                else:
                    attributes, rule = _RULES[node.operator]
                    require(not set(node.attributes) - attributes)
                    outputs = rule(node, *inputs)
                require(len(outputs) == len(node.outputs))
                require(len({*node.outputs}) == len(outputs) and not any(name in seen for name in node.outputs))
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
            self._add(held, times * (count_products(node, inputs, outputs) + 1))
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
        require(not set(attributes) - {"scan_input_directions", "scan_output_directions"})
        require(0 < n_scanned <= len(inputs) and len(body.inputs) == len(inputs))
        states, scanned = inputs[:-n_scanned], inputs[-n_scanned:]
        (length,) = {array.shape[0] for array in scanned}
        pieces = [Array(array.shape) for array in states] + [Array(array.shape[1:]) for array in scanned]
        require(len(set(body.inputs)) == len(body.inputs) and not any(name in known for name in body.inputs))
        # States keep their shape from step to step, so one pass through the body is enough.
        inner = self.run(body, ChainMap(dict(zip(body.inputs, pieces, strict=True)), known), held, times * length)
        outputs = [inner[name] for name in body.outputs]
        require([array.shape for array in outputs[: len(states)]] == [array.shape for array in states])
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

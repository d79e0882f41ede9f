"""Operations of ONNX graphs element by element, and those that move data: shapes of their outputs.

A rule is called with the node and the arrays of its inputs, None for an input that is left out; it unpacks them without
checks, since an error of any kind means that ``bandsplit export`` did not write the operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from bandsplit.models.onnx.arrays import (
    MOST_NUMBERS,
    Array,
    axes_of,
    axis_of,
    broadcast,
    new_array,
    number_of,
    numbers_of,
    require,
)
from bandsplit.models.onnx.metadata import Node

Rule = Callable[..., list[Array]]
Rules = dict[str, tuple[set[str], Rule]]
"""Operator -> its legal attributes, and its rule."""

_INT64 = 7  # a data type of ONNX


def _elementwise(node: Node, *arrays: Array) -> list[Array]:
    # Exported graphs compute sizes with these, on arrays of at most one axis; all other numbers are audio.
    compute = {
        "Add": lambda a, b: a + b,
        "Sub": lambda a, b: a - b,
        "Mul": lambda a, b: a * b,
        "Div": _divide,
        "Equal": lambda a, b: int(a == b),
        "Where": lambda one, a, b: a if one else b,
    }.get(node.operator)
    shape, numbers = broadcast(*(array.shape for array in arrays)), None
    few = len(shape) <= 1 and prod(shape) <= MOST_NUMBERS
    if compute and few and all(array.numbers is not None for array in arrays):
        columns = [_repeated(numbers_of(array), prod(shape)) for array in arrays]
        numbers = [compute(*values) for values in zip(*columns, strict=True)]
    return [new_array(shape, *arrays, numbers=numbers)]


def _repeated(numbers: Sequence[int], count: int) -> Sequence[int]:
    return numbers if len(numbers) == count else [*numbers] * count


def _divide(a: int, b: int) -> int:
    require(a >= 0 and b > 0)
    return a // b


def _clip(node: Node, x: Array, least: Array | None = None, most: Array | None = None) -> list[Array]:
    require(all(bound is None or bound.shape == () for bound in (least, most)))
    numbers = x.numbers
    for bound, choose in ((least, max), (most, min)):
        if bound is not None and numbers is not None:
            numbers = None if bound.numbers is None else [choose(number, *bound.numbers) for number in numbers]
    return [new_array(x.shape, x, numbers=numbers)]


def _cast(node: Node, x: Array) -> list[Array]:
    return [new_array(x.shape, x, numbers=x.numbers if node.attributes["to"] == _INT64 else None)]


def _concat(node: Node, *arrays: Array) -> list[Array]:
    axis = axis_of(node.attributes["axis"], arrays[0])
    shapes = [array.shape for array in arrays]
    require(len({(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}) == 1)
    shape = (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])
    numbers = None
    if len(shape) == 1 and shape[0] <= MOST_NUMBERS and all(array.numbers is not None for array in arrays):
        numbers = [number for array in arrays for number in array.numbers or ()]
    return [new_array(shape, *arrays, numbers=numbers)]


def _constant_of_shape(node: Node, sizes: Array) -> list[Array]:
    return [new_array(numbers_of(sizes), sizes)]


def _expand(node: Node, x: Array, sizes: Array) -> list[Array]:
    shape = broadcast(x.shape, numbers_of(sizes))
    numbers = None
    if len(shape) <= 1 and x.numbers is not None and prod(shape) <= MOST_NUMBERS:
        numbers = _repeated(x.numbers, prod(shape))
    return [new_array(shape, x, sizes, numbers=numbers)]


def _range(node: Node, start: Array, end: Array, step: Array) -> list[Array]:
    first, last, by = (number_of(array) for array in (start, end, step))
    require(start.shape == end.shape == step.shape == ())
    values = range(first, last, by)
    return [new_array((len(values),), numbers=values if len(values) <= MOST_NUMBERS else None)._replace(constant=True)]


def _gather(node: Node, x: Array, places: Array) -> list[Array]:
    axis, numbers = axis_of(node.attributes.get("axis", 0), x), None
    few = len(x.shape) == 1 and prod(places.shape) <= MOST_NUMBERS
    if few and x.numbers is not None and places.numbers is not None:
        numbers = [x.numbers[place] for place in places.numbers]
    return [new_array((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]), x, places, numbers=numbers)]


def _pad(node: Node, x: Array, amounts: Array, value: Array | None = None) -> list[Array]:
    n, pads = len(x.shape), numbers_of(amounts)
    require(len(pads) == 2 * n and min(pads) >= 0)
    mode = node.attributes.get("mode", b"constant")
    require(mode in (b"constant", b"edge", b"reflect"))
    if mode == b"reflect":
        require(all(max(pads[i], pads[i + n]) < size for i, size in enumerate(x.shape)))
    return [new_array([size + pads[i] + pads[i + n] for i, size in enumerate(x.shape)], x)]


def _reduce(node: Node, x: Array, axes: Array) -> list[Array]:
    reduced = {*axes_of(axes, x)}
    require(bool(reduced))
    kept = [1 if i in reduced else size for i, size in enumerate(x.shape)]
    if not node.attributes.get("keepdims", 1):
        kept = [size for i, size in enumerate(kept) if i not in reduced]
    return [new_array(kept, x)]


def _reshape(node: Node, x: Array, sizes: Array) -> list[Array]:
    wanted = [x.shape[i] if size == 0 else size for i, size in enumerate(numbers_of(sizes))]
    if -1 in wanted:
        rest = prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = prod(x.shape) // rest
    require(prod(wanted) == prod(x.shape))
    return [new_array(wanted, x, numbers=x.numbers if len(wanted) <= 1 else None)]


def _shape(node: Node, x: Array) -> list[Array]:
    sizes = x.shape[slice(node.attributes.get("start"), node.attributes.get("end"))]
    return [Array((len(sizes),), sizes, constant=True)]


def _slice(
    node: Node, x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None
) -> list[Array]:
    shape, numbers, n = list(x.shape), x.numbers, len(numbers_of(starts))
    places = range(n) if axes is None else axes_of(axes, x)
    by = (1,) * n if steps is None else numbers_of(steps)
    for start, end, place, step in zip(numbers_of(starts), numbers_of(ends), places, by, strict=True):
        part = slice(start, end, step)
        # Backwards, an end before the first place is written in another way than in Python; it is never exported.
        require(step > 0)
        shape[place] = len(range(shape[place])[part])
        is_small = len(shape) == 1 and shape[0] <= MOST_NUMBERS
        numbers = numbers[part] if numbers is not None and is_small else None
    return [new_array(shape, x, numbers=numbers)]


def _split(node: Node, x: Array, sizes: Array | None = None) -> list[Array]:
    axis = axis_of(node.attributes.get("axis", 0), x)
    count = len(node.outputs)
    require(node.attributes.get("num_outputs", count) == count)
    parts = [x.shape[axis] // count] * count if sizes is None else numbers_of(sizes)
    require(sum(parts) == x.shape[axis] and min(parts) >= 0)
    return [new_array((*x.shape[:axis], part, *x.shape[axis + 1 :]), x) for part in parts]


def _squeeze(node: Node, x: Array, axes: Array) -> list[Array]:
    gone = {*axes_of(axes, x)}
    require(all(x.shape[axis] == 1 for axis in gone))
    return [new_array((size for i, size in enumerate(x.shape) if i not in gone), x, numbers=x.numbers)]


def _unsqueeze(node: Node, x: Array, axes: Array) -> list[Array]:
    n = len(x.shape) + len(numbers_of(axes))
    new = {axis % n for axis in numbers_of(axes) if -n <= axis < n}
    require(len(new) == len(numbers_of(axes)))
    sizes = iter(x.shape)
    return [new_array((1 if i in new else next(sizes) for i in range(n)), x, numbers=x.numbers)]


def _transpose(node: Node, x: Array) -> list[Array]:
    order = node.attributes["perm"]
    require(sorted(order) == list(range(len(x.shape))))
    return [new_array((x.shape[axis] for axis in order), x)]


SHAPE_RULES: Rules = {
    **{name: (set(), _elementwise) for name in ("Add", "Div", "Equal", "Mul", "PRelu", "Pow", "Sub", "Sum", "Where")},
    **{
        name: (set(), _elementwise)
        for name in ("Abs", "Cos", "Erf", "Identity", "Reciprocal", "Relu", "Sigmoid", "Sin", "Sqrt", "Tanh")
    },
    **{name: ({"alpha"}, _elementwise) for name in ("Elu", "LeakyRelu")},
    **{name: ({"keepdims"}, _reduce) for name in ("ReduceL2", "ReduceMean", "ReduceSum")},
    "Cast": ({"to"}, _cast),
    "Clip": (set(), _clip),
    "Concat": ({"axis"}, _concat),
    "ConstantOfShape": (set(), _constant_of_shape),
    "Expand": (set(), _expand),
    "Gather": ({"axis"}, _gather),
    "Pad": ({"mode"}, _pad),
    "Range": (set(), _range),
    "Reshape": (set(), _reshape),
    "Shape": ({"start", "end"}, _shape),
    "Slice": (set(), _slice),
    "Softmax": ({"axis"}, _elementwise),
    "Split": ({"axis", "num_outputs"}, _split),
    "Squeeze": (set(), _squeeze),
    "Transpose": ({"perm"}, _transpose),
    "Unsqueeze": (set(), _unsqueeze),
}

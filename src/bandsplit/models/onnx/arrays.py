"""Arrays of an ONNX graph whose costs are counted: their shapes, and the values of those that are sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from math import prod
from typing import NamedTuple

from bandsplit.models.onnx.metadata import MOST_AXES

MOST_NUMBERS = 64
"""Largest array whose values are tracked, since sizes are computed from them."""
MOST_LISTED = 4096
"""Largest array of integers in a file whose values matter: sizes of the bands, at most."""
LIMIT = 1 << 48
"""No size and no tracked value reaches it."""


class Array(NamedTuple):
    """Known properties of an array."""

    shape: tuple[int, ...]
    numbers: tuple[int, ...] | None = None
    """Its values, if they are sizes or indices and not audio."""
    constant: bool = False
    """Whether it does not depend on the mixture's numbers: it may be computed first and kept."""


def require(legal: bool) -> None:
    """Raise a ValueError unless ``legal``: rules are the only callers, and their caller writes the message."""
    if not legal:
        raise ValueError


def new_array(shape: Iterable[int], *made_from: Array, numbers: Sequence[int] | None = None) -> Array:
    """Return an array that is computed from others.

    Raises:
        ValueError: it has too many axes, or sizes or values beyond all that models need.
    """
    shape = tuple(shape)
    # Bounded, since a graph could square a number again and again until this arithmetic itself took forever.
    require(len(shape) <= MOST_AXES and all(0 <= size < LIMIT for size in shape))
    known = tuple(numbers) if numbers is not None and len(numbers) <= MOST_NUMBERS else None
    require(known is None or (len(known) == prod(shape) and all(abs(number) < LIMIT for number in known)))
    return Array(shape, known, all(array.constant for array in made_from))


def broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of an operation on several arrays, element by element."""
    sizes = []
    for column in zip_longest(*(shape[::-1] for shape in shapes), fillvalue=1):
        wide = {size for size in column if size != 1} or {1}
        require(len(wide) == 1)
        sizes.append(wide.pop())
    return tuple(sizes[::-1])


def axis_of(axis: int, array: Array) -> int:
    """Return an axis as a place, counted from the front."""
    require(-len(array.shape) <= axis < len(array.shape))
    return axis % len(array.shape)


def numbers_of(array: Array) -> tuple[int, ...]:
    """Return the values of an array of sizes.

    Raises:
        ValueError: they are not known.
    """
    require(array.numbers is not None)
    return array.numbers or ()


def axes_of(axes: Array, array: Array) -> list[int]:
    """Return axes of ``array`` that an array of sizes names, as places.

    Raises:
        ValueError: they are not known, not in ``array``, or more than it can have.
    """
    # Bounded, since many operations could name the same axis again and again.
    require(len(numbers_of(axes)) <= MOST_AXES)
    return [axis_of(axis, array) for axis in numbers_of(axes)]


def number_of(array: Array) -> int:
    """Return the only value of an array of sizes."""
    (number,) = numbers_of(array)
    return number

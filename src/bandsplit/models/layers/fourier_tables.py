"""Tables for the Fourier transform of a frame as two products of matrices, without PyTorch.

It is one step of the fast transform. With n = p q, sample q a + b and bin k + p m: sums over a for each k and b, a
rotation of each of them, sums over b for each k and m.
"""

from functools import cache
from math import isqrt
from typing import NamedTuple

import numpy as np


class FourierTables(NamedTuple):
    """Tables of float32 for the lowest n / 2 + 1 bins, and some more.

    The inverse takes the transposes of the products, and sines of opposite sign.
    """

    first: np.ndarray
    """The first sums: ``(r k) a``, real parts above imaginary ones."""
    cosines: np.ndarray
    """Of the rotations, ``k b``."""
    sines: np.ndarray
    """Of the rotations, ``k b``, so that the rotated numbers are multiplied by cosine - i sine."""
    last: np.ndarray
    """The last sums: ``(r b) (r m)``."""


@cache
def fourier_tables(n_fft: int) -> FourierTables:
    """Compute the tables for frames of ``n_fft`` samples."""
    p = _factor(n_fft)
    q = n_fft // p
    k, b, m = np.arange(p), np.arange(q), np.arange(q // 2 + 1)
    (first, first_sine), (cosine, sine), (last, last_sine) = _turn(k, k, p), _turn(k, b, n_fft), _turn(b, m, q)
    products = np.block([[last, -last_sine], [last_sine, last]])
    tables = np.concatenate([first, -first_sine]), cosine, sine, products
    return FourierTables(*(table.astype(np.float32) for table in tables))


def _turn(x: np.ndarray, y: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return cosines and sines of x y parts of a turn, in n parts."""
    angle = 2 * np.pi / n * np.outer(x, y)
    return np.cos(angle), np.sin(angle)


def count_products(n_fft: int) -> int:
    """Count the multiplications of one frame."""
    p = _factor(n_fft)
    q = n_fft // p
    return n_fft * (2 * p + 4 + 4 * (q // 2 + 1))


def _factor(n_fft: int) -> int:
    """Return the largest factor up to the square root."""
    return next(p for p in range(isqrt(n_fft), 0, -1) if n_fft % p == 0)

"""Attention by the CPU kernels, on NumPy arrays: keys and values are the weights of linear layers, packed at each call.

Packing costs as much as some forty queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bandsplit.core.kernels import Dense, KernelPrecision, Kernels, PackedStack, UnfitWeightsError

LEAST_QUERIES = 128
"""Of each group, from which packing is worthwhile, by measurement."""

_UNIT = 16  # inputs of a linear layer are a multiple
_MOST_FEATURES = 256  # in one sum of a score: it is a sum in order, and rounding shows most in scores


def attend(
    kernels: Kernels,
    query: Sequence[np.ndarray] | np.ndarray,
    key: Sequence[np.ndarray] | np.ndarray,
    value: Sequence[np.ndarray] | np.ndarray,
    threads: int,
    precision: KernelPrecision = "fp32",
) -> np.ndarray:
    """Return softmax(query key^T / sqrt(d)) value for each group: ``(g l d)``, ``(g j d)``, ``(g j v)`` to ``(g l v)``.

    All are float32, in one array or one for each group, which is a channel of a head, for example. Threads share the
    groups, and the queries of a group if there are more of them; their number changes no bit. NumPy computes a group
    with a key or value that is not finite, so that NaN is where it belongs. The precision is that of the products with
    values: rounding would show most in scores, which are always in single precision.
    """
    groups = len(query)
    if not groups:
        return np.empty((0, 0, 0), np.float32)
    found = np.empty((groups, len(query[0]), value[0].shape[-1]), np.float32)
    inner = max(1, threads // groups)

    def attend_group(g: int) -> None:
        with np.errstate(all="ignore"):  # they show in the outputs
            try:
                _attend(kernels, query[g], key[g], value[g], found[g], inner, precision)
            except UnfitWeightsError:  # they are not finite
                found[g] = _softmax(query[g] @ key[g].T, query[g].shape[-1]) @ value[g]

    if threads <= 1 or groups == 1:
        for g in range(groups):
            attend_group(g)
        return found
    with ThreadPoolExecutor(min(threads, groups)) as pool:
        list(pool.map(attend_group, range(groups)))
    return found


def _attend(
    kernels: Kernels,
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    found: np.ndarray,
    threads: int,
    precision: KernelPrecision,
) -> None:
    """Write the outputs of one group; the kernels refuse keys and values that are not finite."""
    pieces = -(-query.shape[-1] // _MOST_FEATURES)
    rows, weights = (_padded(one, pieces * _UNIT).reshape(len(one), pieces, -1).swapaxes(0, 1) for one in (query, key))
    scores = np.empty((pieces, 1, len(query), len(key)), np.float32)
    _multiply(kernels, rows, weights, scores, threads, "fp32")
    for piece in scores[1:, 0]:
        scores[0, 0] += piece
    shares = _padded(_softmax(scores[0, 0], query.shape[-1]), _UNIT)
    values = np.zeros((value.shape[-1], shares.shape[-1]), np.float32)
    values[:, : len(value)] = value.T
    _multiply(kernels, shares[None], values[None], found[None, None], threads, precision)


def _multiply(
    kernels: Kernels,
    rows: np.ndarray,
    weights: np.ndarray,
    found: np.ndarray,
    threads: int,
    precision: KernelPrecision,
) -> None:
    """Multiply ``(s l n)`` by ``(s m n)``: ``(s 1 l m)``."""
    stack = PackedStack(kernels, [Dense(weights, np.zeros(weights.shape[:2], np.float32), precision)])
    stack.apply(np.ascontiguousarray(rows[:, None]), threads, found)


def _padded(rows: np.ndarray, unit: int) -> np.ndarray:
    missing = -rows.shape[-1] % unit
    return np.pad(rows, ((0, 0), (0, missing))) if missing else rows


def _softmax(scores: np.ndarray, d: int) -> np.ndarray:
    """Return the softmax of ``(l j)`` over j, after a division by sqrt(d), in the same memory."""
    scores -= scores.max(-1, keepdims=True)
    scores *= np.float32(d**-0.5)
    np.exp(scores, out=scores)
    scores /= scores.sum(-1, keepdims=True)
    return scores

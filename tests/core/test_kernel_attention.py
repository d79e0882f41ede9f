"""Attention by the CPU kernels in every instruction set: against NumPy in double precision."""

import threading

import numpy as np
import pytest

from bandsplit.core.kernel_attention import attend
from bandsplit.core.kernels import KernelPrecision, PackedStack
from cpu_kernels import KINDS, installed_kernels, kernels_of

TOLERANCE: dict[KernelPrecision, float] = {"fp32": 2e-6, "bf16": 5e-3, "int8": 3e-2}
"""Of the norm of the outputs, on noise."""
SIZES = [(1, 1, 16, 1), (2, 2, 16, 7), (7, 7, 20, 64), (5, 33, 912, 100), (70, 70, 48, 65)]
"""Queries, keys, their features and those of values."""

every_kind = pytest.mark.parametrize(("name", "precision"), KINDS)
EVERY_SET = pytest.mark.parametrize("name", sorted({name for name, _ in KINDS}))

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def noise(groups: int, queries: int, keys: int, d: int, n: int) -> Arrays:
    draw = np.random.default_rng(queries)
    shapes = (groups, queries, d), (groups, keys, d), (groups, keys, n)
    query, key, value = (draw.normal(0.3, 1.2, shape).astype(np.float32) for shape in shapes)
    return query, key, value


def exactly(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    query, key, value = (array.astype(float) for array in (query, key, value))
    scores = query @ key.swapaxes(1, 2) / np.sqrt(query.shape[-1])
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True) @ value


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@every_kind
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size_gives_attention_in_double_precision(size: tuple[int, ...], name: str, precision: KernelPrecision):
    arrays = noise(3, *size)
    assert relative(attend(kernels_of(name), *arrays, 1, precision), exactly(*arrays)) <= TOLERANCE[precision]


@EVERY_SET
def test_many_frames_of_one_group_give_attention_in_double_precision(name: str):
    arrays = noise(1, 431, 431, 32, 80)
    assert relative(attend(kernels_of(name), *arrays, 1), exactly(*arrays)) <= TOLERANCE["fp32"]


@every_kind
def test_threads_change_no_bit(name: str, precision: KernelPrecision):
    arrays = noise(3, 101, 51, 32, 40)
    one = attend(kernels_of(name), *arrays, 1, precision)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(attend(kernels_of(name), *arrays, threads, precision), one)


@pytest.mark.parametrize("threads", range(1, 10))
def test_callers_and_their_threads_are_no_more_than_wanted(threads: int, monkeypatch: pytest.MonkeyPatch):
    asked: dict[int, int] = {}  # by each caller
    apply = PackedStack.apply

    def count(self: PackedStack, x: np.ndarray, threads: int, y: np.ndarray | None = None) -> np.ndarray:
        asked[threading.get_ident()] = max(threads, asked.get(threading.get_ident(), 0))
        return apply(self, x, threads, y)

    monkeypatch.setattr(PackedStack, "apply", count)
    for groups in (1, 2, 4, 7):
        asked.clear()
        attend(installed_kernels(), *noise(groups, 200, 200, 32, 40), threads)
        assert 1 <= sum(asked.values()) <= threads, groups
        assert len(set(asked.values())) == 1


def test_a_large_score_takes_all():
    query, key, value = noise(1, 9, 9, 16, 5)
    query[0] = key[0] = 100 * np.eye(9, 16, dtype=np.float32)
    np.testing.assert_array_equal(attend(installed_kernels(), query, key, value, 1), value)


@EVERY_SET
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_not_finite_is_nan_where_it_is_in_double_precision(which: int, bad: float, name: str):
    arrays = noise(2, 7, 7, 16, 5)
    arrays[which][1, 3, 2] = bad
    with np.errstate(invalid="ignore"):
        expected = exactly(*arrays)
    found = attend(kernels_of(name), *arrays, 2)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    assert np.isnan(found).any() or which == 2
    np.testing.assert_allclose(found[np.isfinite(expected)], expected[np.isfinite(expected)], atol=1e-5)


@EVERY_SET
def test_groups_may_be_arrays_of_their_own(name: str):
    query, key, value = noise(3, 7, 9, 32, 40)
    found = attend(kernels_of(name), list(query), list(key), list(value), 2)
    np.testing.assert_array_equal(found, attend(kernels_of(name), query, key, value, 2))
    assert attend(kernels_of(name), [], [], [], 2).size == 0

"""Small matrices for the rate that benchmarks compare to: what is measured with them is rough, and quick."""

from functools import partial

import pytest

from bandsplit.core.processes import worker_pool
from bandsplit.tools.bench import matrix_rate, separation


def multiply_small() -> None:
    """Take small matrices in this process."""
    matrix_rate.MATRIX_SIZE["cpu"] = 256


def multiply_small_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take small matrices in this process and in those of `bandsplit bench separate`, until the test ends."""
    monkeypatch.setitem(matrix_rate.MATRIX_SIZE, "cpu", 256)
    monkeypatch.setattr(separation, "worker_pool", partial(worker_pool, initializer=multiply_small))

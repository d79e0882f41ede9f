"""Threads that take complete items."""

import threading
from collections.abc import Iterator

import pytest
import torch

from bandsplit.models.layers.threads import map_apart


@pytest.fixture
def use_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("items", "threads_each"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_items_share_the_threads_and_keep_their_order(use_threads: None, items: int, threads_each: int):
    found = map_apart(lambda item: (item, torch.get_num_threads()), range(items))
    assert found == [(item, threads_each) for item in range(items)]
    assert torch.get_num_threads() == 4


def test_one_thread_works_where_it_is():
    assert torch.get_num_threads() == 1  # the suite's setting
    assert map_apart(lambda _: threading.get_ident(), range(3)) == [threading.get_ident()] * 3


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_work_is_in_the_callers_mode_of_autograd(use_threads: None, mode: type):
    with mode():
        expected = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        found = map_apart(lambda _: (torch.is_inference_mode_enabled(), torch.is_grad_enabled()), range(2))
    assert found == [expected] * 2


def test_an_error_comes_through_and_the_threads_are_as_before(use_threads: None):
    def fail(item: int) -> None:
        raise ZeroDivisionError(item)

    with pytest.raises(ZeroDivisionError):
        map_apart(fail, range(3))
    assert torch.get_num_threads() == 4

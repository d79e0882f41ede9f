"""Work that threads share out: results, gradients, memory, and what surrounds it."""

import multiprocessing
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bandsplit.models.layers import sequence, threads
from bandsplit.models.layers.sequence import RecurrentLayer
from bandsplit.models.layers.threads import apply_apart, is_apart, map_apart


@pytest.fixture(autouse=True)
def set_threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of torch's threads, until the test ends; three at first."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    torch.manual_seed(0)
    yield torch.set_num_threads
    torch.set_num_threads(before)


def gradients(layer: nn.Module, x: Tensor, run: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """The output and all gradients of a loss."""
    layer.zero_grad()
    x = x.clone().requires_grad_()
    y = run(x)
    y.square().sum().backward()
    return [y.detach(), *(one.grad for one in (x, *layer.parameters()) if one.grad is not None)]


def test_items_are_treated_in_their_order_by_threads_of_their_own():
    found = map_apart(lambda item: (item, threading.current_thread().name, torch.get_num_threads()), range(6))
    assert [item for item, _, _ in found] == list(range(6))
    assert all(name.startswith("bandsplit-apart") for _, name, _ in found)
    assert {count for _, _, count in found} == {1}
    assert not is_apart() and torch.get_num_threads() == 3


def test_two_items_in_six_threads_get_three_each(set_threads: Callable[[int], None]):
    set_threads(6)
    assert map_apart(lambda _: torch.get_num_threads(), [0, 0]) == [3, 3]


def test_a_thread_has_the_same_number_in_its_first_work_and_later():
    def count(_: int) -> int:
        everyone.wait()
        return torch.get_num_threads()

    for _ in range(100):
        threads._pool.cache_clear()
        map_apart(lambda _: torch.randn(5, 6).sum(), range(3))  # so short that one thread may do it all
        everyone = threading.Barrier(3)
        assert map_apart(count, range(3)) == [1, 1, 1]


def test_within_a_share_there_are_no_further_threads():
    names = map_apart(lambda _: set(map_apart(lambda _: threading.current_thread().name, range(4))), range(3))
    assert all(len(inner) == 1 for inner in names)


def test_an_error_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        map_apart(lambda item: 1 / item, [1, 0, 2])
    assert torch.get_num_threads() == 3


def test_the_mode_of_autograd_is_that_of_the_caller():
    def modes(_: int) -> tuple[bool, bool]:
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    assert map_apart(modes, range(3)) == [(True, False)] * 3
    with torch.no_grad():
        assert map_apart(modes, range(3)) == [(False, False)] * 3
    with torch.inference_mode():
        assert map_apart(modes, range(3)) == [(False, True)] * 3


def _sums() -> list[int]:
    return map_apart(lambda item: item + 1, range(3))


def test_a_forked_process_has_threads_of_its_own():
    _sums()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_sums).get(timeout=60) == [1, 2, 3]


@pytest.mark.parametrize("batch", [2, 3, 11])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_output_and_all_gradients_equal_those_of_one_piece(kind: type[nn.LSTM] | type[nn.GRU], batch: int):
    layer, x = RecurrentLayer(kind, 6, 10), torch.randn(batch, 9, 6)
    shared = gradients(layer, x, lambda x: apply_apart(layer._forward_plainly, x, list(layer.parameters())))
    expected = gradients(layer, x, layer._forward_plainly)
    assert len(shared) == len(expected) > 10
    for ours, theirs in zip(shared, expected, strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


def test_frozen_parameters_get_no_gradient():
    layer, x = nn.Linear(3, 2), torch.randn(5, 3)
    layer.weight.requires_grad_(False)
    shared = gradients(layer, x, lambda x: apply_apart(layer, x, list(layer.parameters())))
    assert layer.weight.grad is None
    torch.testing.assert_close(shared, gradients(layer, x, layer))


def test_a_graph_that_is_kept_gives_the_same_gradients_again():
    layer, x = RecurrentLayer(nn.LSTM, 6, 10), torch.randn(5, 9, 6)
    y = apply_apart(layer._forward_plainly, x, list(layer.parameters())).square().sum()
    first = torch.autograd.grad(y, list(layer.parameters()), retain_graph=True)
    second = torch.autograd.grad(y, list(layer.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_activation_checkpointing_finds_all_that_the_shares_keep():
    layer, x = RecurrentLayer(nn.LSTM, 6, 10), torch.randn(5, 9, 6)

    def run(x: Tensor) -> Tensor:
        return apply_apart(layer._forward_plainly, x, list(layer.parameters()))

    sizes: list[int] = []

    def weigh(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(weigh, lambda tensor: tensor):
        expected = gradients(layer, x, run)
    assert sum(sizes) > 5 * 9 * 2 * 10 * 4, "the gates, at the least"
    recomputed = gradients(layer, x, lambda x: checkpoint(run, x, use_reentrant=False))  # type: ignore[return-value]
    assert all(torch.equal(a, b) for a, b in zip(expected, recomputed, strict=True))


def test_what_the_shares_keep_is_freed_with_the_graph():
    ended: list[int] = []

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            weakref.finalize(ctx, ended.append, 1)
            return x.square()

        @staticmethod
        def backward(ctx, dy: Tensor) -> Tensor:  # type: ignore[override]
            (x,) = ctx.saved_tensors
            return 2 * x * dy

    x = torch.randn(6, 4, requires_grad=True)
    y = apply_apart(lambda share: Square.apply(share.exp() * 2), x, [])  # type: ignore[arg-type,return-value]
    y.sum().backward()
    assert not ended
    del y
    assert len(ended) == 3


def test_large_layers_are_shared_out_and_small_ones_are_not(monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []
    monkeypatch.setattr(
        sequence, "apply_apart", lambda run, x, parameters: calls.append(len(x)) or apply_apart(run, x, parameters)
    )
    layer = RecurrentLayer(nn.LSTM, 8, 4)
    enough = -(-sequence.LEAST_NUMBERS_APART // (8 * 50))
    expected = torch.randn(enough, 50, 8)
    with torch.inference_mode():
        layer(expected)
        layer(expected[1:])
    assert calls == [enough]


def test_within_a_share_a_layer_is_not_cut_again(monkeypatch: pytest.MonkeyPatch, set_threads: Callable[[int], None]):
    set_threads(4)
    monkeypatch.setattr(sequence, "LEAST_NUMBERS_APART", 1)
    layer, x = RecurrentLayer(nn.LSTM, 8, 4), torch.randn(6, 5, 8)
    calls: list[int] = []
    monkeypatch.setattr(sequence, "apply_apart", lambda run, x, parameters: calls.append(len(x)))
    with torch.inference_mode():
        first, second = map_apart(layer, x.split(3))  # two threads each
    assert calls == []
    torch.testing.assert_close(torch.cat([first, second]), layer._forward_plainly(x))

"""Independent threads: each processes complete items, and they wait for each other only at the end.

The threads of one small product wait for each other at its end, some thousand times a second in a recurrent network.
On a machine that does other work too, each such wait may last as long as the scheduler keeps one of them off its core.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Item = TypeVar("Item")
Result = TypeVar("Result")

_NAME = "bandsplit-apart"


def is_apart() -> bool:
    """Return whether this is one of several threads of `map_apart`."""
    return threading.current_thread().name.startswith(_NAME)


def map_apart(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply ``work`` to each item, in as many threads as torch uses; with fewer items, each gets several threads.

    The threads have the caller's mode of autograd, but not of autocast. Inside ``work``, this is a plain loop.

    Args:
        work: called with one item, in any thread.
        items: all items; their calls must not depend on each other.

    Returns:
        The results, in the order of the items.
    """
    threads = torch.get_num_threads()
    parts = min(threads, len(items))
    if parts <= 1 or is_apart():
        return [work(item) for item in items]
    inference, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def in_mode(item: Item) -> Result:
        with torch.inference_mode(inference), torch.set_grad_enabled(grad):
            return work(item)

    return list(_pool(parts, threads // parts).map(in_mode, items))


@lru_cache
def _pool(parts: int, threads_each: int) -> ThreadPoolExecutor:
    # Cached, since PyTorch takes milliseconds to set up a new thread. All start here: one that started in the middle of
    # the work would change the number of threads of others, and so the rounding.
    together = threading.Barrier(parts)

    def start() -> None:
        torch.get_num_threads()  # a thread's first use of PyTorch sets its number to the default, so this comes first
        torch.set_num_threads(threads_each)
        together.wait()

    pool, threads = ThreadPoolExecutor(parts, _NAME), torch.get_num_threads()
    try:
        for started in [pool.submit(start) for _ in range(parts)]:
            started.result()
    finally:
        together.abort()
        torch.set_num_threads(threads)  # a thread of the pool sets the default of others, too
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def apply_apart(module: Callable[[Tensor], Tensor], x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Apply ``module`` to ``x``; threads share its first axis by `map_apart`, in the backward pass too.

    Args:
        module: processes each item of the first axis independently.
        x: its input.
        parameters: all tensors with gradients that it uses.
    """
    if torch.is_grad_enabled():
        return _Apart.apply(module, x, *(one for one in parameters if one.requires_grad))  # type: ignore[return-value]
    return torch.cat(map_apart(module, _shares(x)))


def _shares(x: Tensor) -> tuple[Tensor, ...]:
    return x.tensor_split(min(torch.get_num_threads(), len(x)))


class _Graph(NamedTuple):
    """The autograd graph of a share, for the backward pass."""

    share: Tensor
    output: Tensor
    saved: list[Tensor]
    """Tensors that the graph reads; empty except during the backward pass."""
    n_saved: int


class _Apart(torch.autograd.Function):
    """A graph for each share; its tensors are saved here, so that activation checkpointing finds them."""

    @staticmethod
    def forward(ctx: Any, module: Callable[[Tensor], Tensor], x: Tensor, *parameters: Tensor) -> Tensor:
        def run(share: Tensor) -> tuple[_Graph, list[Tensor]]:
            kept: list[Tensor] = []
            saved: list[Tensor] = []

            def keep(tensor: Tensor) -> int:
                kept.append(tensor.detach())  # a tensor with its graph would keep itself alive
                return len(kept) - 1

            with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda at: saved[at]):
                share = share.detach().requires_grad_()
                y = module(share)
            graph, tensors = _Graph(share, y, saved, len(kept)), list(kept)
            kept.clear()  # the graph refers to `keep`, and must not keep the tensors alive
            return graph, tensors

        found = map_apart(run, _shares(x))
        ctx.graphs, ctx.parameters = [graph for graph, _ in found], parameters
        ctx.save_for_backward(*(tensor for _, tensors in found for tensor in tensors))
        return torch.cat([graph.output.detach() for graph in ctx.graphs])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        kept = list(ctx.saved_tensors)
        for graph in ctx.graphs:
            graph.saved[:], kept = kept[: graph.n_saved], kept[graph.n_saved :]

        def run(task: tuple[_Graph, Tensor]) -> tuple[Tensor, ...]:
            graph, dshare = task
            return torch.autograd.grad(graph.output, [graph.share, *ctx.parameters], dshare, retain_graph=True)

        shares = dy.split([len(graph.share) for graph in ctx.graphs])
        dx, *dparameters = zip(*map_apart(run, list(zip(ctx.graphs, shares, strict=True))), strict=True)
        for graph in ctx.graphs:
            graph.saved.clear()
        return None, torch.cat(dx), *(torch.stack(parts).sum(0) for parts in dparameters)

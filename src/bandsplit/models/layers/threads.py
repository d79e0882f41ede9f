"""Work that threads do apart from each other: each takes complete items, and they meet only at the end.

The threads of one small product wait for each other at its end, some thousand times a second in a recurrent network.
On a machine that does other work too, each such wait may last as long as the scheduler keeps one of them off its core.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_apart(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply ``work`` to each item, in as many threads as torch uses here; with fewer items, each gets several threads.

    The mode of autograd is that of the caller, that of autocast is not. In other threads that are first used while this
    lasts, `torch.get_num_threads` is smaller.

    Args:
        work: called with one item, in any thread.
        items: all of them; what one call does must not depend on another's.

    Returns:
        The results, in the order of the items.
    """
    threads = torch.get_num_threads()
    parts = min(threads, len(items))
    if parts <= 1:
        return [work(item) for item in items]
    inference, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def in_mode(item: Item) -> Result:
        with torch.inference_mode(inference), torch.set_grad_enabled(grad):
            return work(item)

    try:
        with ThreadPoolExecutor(parts, initializer=torch.set_num_threads, initargs=(threads // parts,)) as pool:
            return list(pool.map(in_mode, items))
    finally:
        torch.set_num_threads(threads)

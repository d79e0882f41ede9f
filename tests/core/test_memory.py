"""Freed memory stays with the process, whichever thread freed it, where the C library has a setting for it."""

import subprocess
import sys

import pytest

CHILD = """
import resource
from concurrent.futures import ThreadPoolExecutor

import torch
from bandsplit.core.memory import keep_freed_memory, share_heap

def new_pages(submit, size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        submit(torch.ones, size)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

share_heap()
with ThreadPoolExecutor(1) as earlier:
    earlier.submit(torch.ones, 1000).result()

SMALL, LARGE = 5_000_000, 25_000_000  # a thread's own heaps have at most 64 MB
call = lambda function, *arguments: function(*arguments)
given_back = [new_pages(call, size) for size in (SMALL, LARGE)]
done = keep_freed_memory()
with ThreadPoolExecutor(1) as thread:
    on_thread = lambda *work: thread.submit(*work).result()
    for submit in (call, on_thread) * 3:  # until the heap has grown to what is needed
        new_pages(submit, LARGE)
    print(int(done), *given_back, *(new_pages(submit, size) for submit in (call, on_thread) for size in (SMALL, LARGE)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has the setting")
def test_memory_that_is_freed_and_allocated_again_is_not_mapped_again():
    result = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    done, small, large, *kept = map(int, result.stdout.split())
    assert not done or all(new < old / 100 for new, old in zip(kept, (small, large) * 2, strict=True))

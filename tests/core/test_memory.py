"""Freed memory stays with the process where the C library has a setting for it."""

import subprocess
import sys

import pytest

CHILD = """
import resource
import torch
from bandsplit.core.memory import keep_freed_memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(25_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

new_pages()
given_back = new_pages()
done = keep_freed_memory()
for _ in range(3):  # until the heap has grown to what is needed
    new_pages()
print(int(done), given_back, new_pages())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has the setting")
def test_memory_that_is_freed_and_allocated_again_is_not_mapped_again():
    result = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    done, given_back, kept = map(int, result.stdout.split())
    assert not done or kept < given_back / 100

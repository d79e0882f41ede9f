"""The CPU kernels in processes of their own: their threads, their end, and what they check before they compute."""

import os
import subprocess
import sys

import pytest

from cpu_kernels import installed_kernels

LAYERS = """
import os, sys, threading, time
import numpy as np
from bandsplit.core.kernels import Dense, PackedRecurrent, PackedStack, search_kernels

kernels = search_kernels().kernels
draw = np.random.default_rng(0).normal

def recurrent(sequences, threads):
    n, m = 64, 64
    packed = PackedRecurrent(kernels, draw(size=(2, 4 * m, n + m + 1)), draw(size=(2, n, m)), np.zeros(n),
                             groups=1, eps=1e-5)
    x = draw(size=(1, 1, sequences, 1000, n)).astype(np.float32)
    y = np.empty_like(x)
    return lambda: packed.along(x, y, "time", 1, threads)

def stack(sequences, threads):
    packed = PackedStack(kernels, [Dense(draw(size=(1, m, n)), np.zeros((1, m))) for n, m in [(64, 512), (512, 64)]])
    x = draw(size=(1, 1, 1000 * sequences, 64)).astype(np.float32)
    y = np.empty_like(x)
    return lambda: packed.apply(x, threads, y)
"""
END = """
compute = {kind}(24, 1)

def go_on():
    while True:
        compute()

threading.Thread(target=go_on, daemon=True).start()
time.sleep(0.2)
"""
LAYER = """
import torch
from bandsplit.models.layers.dual_path import Along
from bandsplit.models.layers.sequence import RecurrentLayer

def layer(sequences, threads):
    assert torch.get_num_threads() == threads
    along = Along("time", RecurrentLayer(torch.nn.LSTM, 64, 64)).requires_grad_(False)
    x = torch.randn(1, 1, sequences, 1000, 64)
    return torch.no_grad()(lambda: along(x))
"""
COUNT = """
compute, counts, done = {kind}(24, {threads}), [0], threading.Event()
before = len(os.listdir("/proc/self/task"))

def count():
    while not done.is_set():
        counts.append(len(os.listdir("/proc/self/task")))

counter = threading.Thread(target=count)
counter.start()
for _ in range(10):  # each is a thousand times as long as a look at the threads
    compute()
done.set()
counter.join()
print(max(counts) - before - 1)
"""
WRONG = """
def refused(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except ValueError as error:
        assert str(error).startswith("kernels: ") and str(error).endswith(" do not fit"), error
        return
    raise SystemExit(f"not refused: {arguments} {named}")

def dense(n, m, sets=1, **named):
    return Dense(np.zeros((sets, m, n)), np.zeros((sets, m)), **named)

x, y = np.zeros((1, 1, 2, 3, 16), np.float32), np.zeros((1, 1, 2, 3, 16), np.float32)
gates, project, bias = np.zeros((2, 64, 33)), np.zeros((2, 16, 16)), np.zeros(16)
for wrong in [(gates[:, 1:], project, bias), (gates, project[:1], bias), (gates, project, bias[1:])]:
    refused(PackedRecurrent, kernels, *wrong, groups=1, eps=1e-5)
along = PackedRecurrent(kernels, gates, project, bias, groups=1, eps=1e-5).along
for wrong in [(x, y[:, :, 1:]), (x[..., :8], y[..., :8]), (x[0], y[0]), (x, x), (x, y.astype(float)), (x.T, y.T)]:
    refused(along, *wrong, "time", 1, 1)
refused(along, x, y, "time", 2, 1)

refused(PackedStack, kernels, [dense(16, 32), dense(16, 32)])
refused(PackedStack, kernels, [dense(16, 32, sets=2), dense(32, 32)])
refused(PackedStack, kernels, [dense(16, 32, activation="prelu")])
refused(PackedStack, kernels, [dense(16, 32, activation="prelu", slope=np.zeros(16))])
refused(PackedStack, kernels, [dense(16, 32, slope=np.zeros(32))])
refused(PackedStack, kernels, [Dense(np.zeros((1, 32, 16)), np.zeros((1, 16)))])
right = [dense(32, 48), dense(48, 16), dense(16, 32), dense(48, 32)]
PackedStack(kernels, right, mixes=True)
for at, wrong in [(0, (16, 48)), (1, (32, 16)), (2, (48, 32)), (2, (16, 48)), (3, (16, 32)), (3, (48, 16))]:
    refused(PackedStack, kernels, [*right[:at], dense(*wrong), *right[at + 1 :]], mixes=True)
refused(PackedStack, kernels, right[:3], mixes=True)

stack = PackedStack(kernels, [dense(16, 64)])
rows, found = np.zeros((1, 1, 6, 16), np.float32), np.zeros((1, 1, 6, 64), np.float32)
stack.apply(rows, 1, found)
refused(stack.apply, np.zeros((1, 2, 6, 16), np.float32), 1)  # channels, which only a stack that mixes has
for wrong in [(rows[0], found), (rows[..., 1:], found), (rows.astype(float), found), (rows, found[..., 1:])]:
    refused(stack.apply, wrong[0], 1, wrong[1])
refused(PackedStack(kernels, [dense(16, 16)]).apply, rows, 1, rows)
for wrong in [(rows[0, 0, 1:], found[0, 0]), (rows[0, 0], found[0, 0, 1:]), (rows[0, 0], found[0, 0].astype(float))]:
    refused(stack.multiply, *wrong)
print("all refused")
"""


def ended(script: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a Python of its own."""
    installed_kernels()
    command = [sys.executable, *options, "-c", LAYERS + script]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


@pytest.mark.parametrize("kind", ["recurrent", "stack"])
def test_a_process_may_end_while_a_thread_computes(kind: str):
    end = ended(END.format(kind=kind))
    assert (end.returncode, end.stderr) == (0, "")


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted by Linux")
@pytest.mark.parametrize(("kind", "threads"), [("recurrent", 1), ("recurrent", 3), ("stack", 1), ("stack", 3)])
def test_a_call_starts_one_thread_less_than_it_uses(kind: str, threads: int):
    end = ended(COUNT.format(kind=kind, threads=threads))
    assert (end.stdout.strip(), end.stderr) == (str(threads - 1), "")


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted by Linux")
def test_a_layer_starts_none_with_omp_num_threads_1():
    end = ended(LAYER + COUNT.format(kind="layer", threads=1), OMP_NUM_THREADS="1")
    assert (end.stdout.strip(), end.stderr) == ("0", "")


@pytest.mark.parametrize("option", ["-O", "-B"])
def test_arrays_that_do_not_fit_are_refused_without_assertions_too(option: str):
    end = ended(WRONG, option)
    assert (end.stdout.strip(), end.stderr) == ("all refused", "")

"""How fast networks separate, beside the rate at which the same machine multiplies large matrices."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from bandsplit.arithmetic import separation_flop
from bandsplit.models.card import ONNX_SUFFIX

Way = Literal["plain", "torch", "onnx"]
"""What computes a model: the plain path of PyTorch, chunk by chunk; `TorchNetwork`; onnxruntime."""

PROBE_S = 2.0
"""Length of the noise whose estimates are compared."""


class SeparationSpeed(NamedTuple):
    """One model, computed in one way; medians over the rounds."""

    wall_s: float
    """Time of the chunks that are estimated at once."""
    realtime: float
    """Seconds of audio per second."""
    gflop: float
    """Of these chunks' matrix products, as `separation_flop` counts them, in units of 1e9."""
    matrix_gflop_per_s: float
    """Rate of products of large square matrices in 32 bit, measured just before and after each round."""
    share: float
    """Rate of the chunks' products over the matrix rate of the same round."""
    peak_mb: float
    """CUDA: most memory allocated. CPU: the process's peak, with PyTorch in it for the matrix rate."""
    probe: np.ndarray
    """Estimates of a little noise, the same for all: ``b s c samples``."""

    def difference(self, other: SeparationSpeed) -> float:
        """Return the largest difference of the probes, as a part of the other's peak."""
        return float(np.abs(self.probe - other.probe).max() / np.abs(other.probe).max())


def measure(
    ways: Sequence[tuple[Way, Path]],
    *,
    chunk_s: float,
    rounds: int,
    device: str = "cpu",
    precision: str = "fp32",
    done: Callable[[], None] = lambda: None,
) -> Iterator[SeparationSpeed]:
    """Measure each way in a process of its own, one after the other; the first round of each does not count.

    Args:
        ways: how to compute which model file.
        chunk_s: length of a chunk.
        rounds: rounds that count; in each, as many chunks as the network likes to have at once.
        device: of the ways of PyTorch.
        precision: of "torch".
        done: is called after each way.
    """
    for way, file in ways:
        # Spawned: a forked child would share the threads' state, and count the parent's memory.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool.submit(_measure, way, file, chunk_s, rounds, device, precision).result()
        done()


def _measure(way: Way, file: Path, chunk_s: float, rounds: int, device_name: str, precision: str) -> SeparationSpeed:
    import torch

    from bandsplit.inference.network import open_networks
    from bandsplit.inference.torch_network import TorchNetwork
    from bandsplit.matrix_rate import matrix_rate, time_s
    from bandsplit.models import sequence

    assert (way == "onnx") == (file.suffix == ONNX_SUFFIX)
    device = torch.device("cpu" if way == "onnx" else device_name)
    fast = precision if way == "torch" else "fp32"
    (network,) = open_networks([file], device, precision=fast)  # type: ignore[arg-type]
    estimate, size = network.estimate, network.batch_size
    if way == "plain":
        assert isinstance(network, TorchNetwork)
        sequence.LEAST_SEQUENCES[False] = sys.maxsize  # torch's own LSTM
        estimate, size = network.estimate_plainly, 1
    config = network.config
    generator = np.random.default_rng(0)

    def noise(count: int, seconds: float) -> np.ndarray:
        shape = (count, config.channels, round(seconds * config.sample_rate_hz))
        return generator.normal(0, 0.1, shape).astype(np.float32)

    probe, chunks = estimate(noise(1, PROBE_S)), noise(size, chunk_s)
    flop = separation_flop(config, *chunks.shape[::2])
    times_s, rates = [], []
    for _ in range(rounds + 1):
        before = matrix_rate(device)
        times_s.append(time_s(lambda: estimate(chunks), device))
        rates.append((before + matrix_rate(device)) / 2)
    wall_s = statistics.median(times_s[1:])
    share = statistics.median(flop / time / rate for time, rate in zip(times_s[1:], rates[1:], strict=True))
    if device.type == "cuda":
        peak_mb = torch.cuda.max_memory_allocated(device) / 1e6
    else:
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rate = statistics.median(rates[1:]) / 1e9
    return SeparationSpeed(wall_s, size * chunk_s / wall_s, flop / 1e9, rate, share, peak_mb, probe)

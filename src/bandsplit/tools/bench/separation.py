"""Speed of separation, compared with the rate at which the same machine multiplies large matrices."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch

from bandsplit.core.errors import ConfigError
from bandsplit.core.kernels import KernelPrecision, search_kernels
from bandsplit.core.machine import peak_memory_mb
from bandsplit.core.processes import worker_pool
from bandsplit.models.card import ONNX_SUFFIX, read_card
from bandsplit.models.contract import ModelConfig
from bandsplit.models.families import FAMILIES, count_flop, onnx_core
from bandsplit.models.files import save_untrained
from bandsplit.models.layers.cpu_work import TwoPaths
from bandsplit.models.layers.kernel_recurrent import kernel_problem
from bandsplit.models.network import build_model
from bandsplit.recipes.catalogue import find_recipe
from bandsplit.separation.export import export_model
from bandsplit.separation.native_network import native_problem
from bandsplit.separation.opening import open_network
from bandsplit.separation.torch_network import TorchNetwork
from bandsplit.tools.bench.matrix_rate import matrix_rate, time_s

Way = Literal[
    "plain", "torch", "kernels", "kernels-bf16", "kernels-int8", "native", "native-bf16", "native-int8", "onnx"
]
"""Ways to compute a model.

PyTorch's own layers and a chunk at a time; `TorchNetwork` without the CPU kernels, and with them in each of their
precisions; the kernels without PyTorch; onnxruntime.
"""

RUNTIMES = (*get_args(Way), "int8")
"""The ways, and onnxruntime with 8-bit integers."""

_KERNELS: dict[str, KernelPrecision] = {"kernels": "fp32", "kernels-bf16": "bf16", "kernels-int8": "int8"}
_KERNELS |= {way.replace("kernels", "native"): precision for way, precision in _KERNELS.items()}

PROBE_S = 2.0
"""Length of the noise whose estimates are compared."""


class SeparationSpeed(NamedTuple):
    """One model, computed in one way; medians over the rounds."""

    chunk_s: float
    """Length of a chunk in seconds."""
    realtime: float
    """Seconds of audio per second."""
    gflop_per_10_s: float
    """Matrix products of ten seconds, as `count_flop` counts those of the chunks, in units of 1e9."""
    matrix_gflop_per_s: float
    """Rate of products of large square matrices in 32 bit, measured just before and after each round."""
    share: float
    """Rate of the chunks' products over the matrix rate of the same round."""
    peak_gop_per_s: float
    """Most that the kernels' products can reach in registers, in all threads, in the same rounds; NaN: no kernels."""
    quicker: float
    """Speed over that of the first way in the same round."""
    peak_mb: float
    """CUDA: most memory allocated. CPU: the process's peak, with PyTorch in it for the matrix rate."""
    difference: float
    """Largest difference from the first way's estimates of a little noise, as a part of their peak."""


def benchmark_files(
    names: Sequence[str | Path], target: str, runtimes: Sequence[str], folder: Path
) -> Iterator[tuple[str, dict[str, tuple[Way, Path]]]]:
    """Write the files to measure.

    Args:
        names: model files, or recipes, which get random weights.
        target: target of recipes for a single one.
        runtimes: some of `RUNTIMES`; an .onnx file determines its own.
        folder: folder of the written files.

    Yields:
        The name of a model, and for each runtime the way to compute it and the file.

    Raises:
        ConfigError: no such recipe or runtime, or onnxruntime is not installed.
        ModelFileError: a file is not a model.
    """
    if not names or not runtimes or (unknown := set(runtimes) - set(RUNTIMES)):
        given = ", ".join(sorted(unknown)) if names and runtimes else "nothing"
        raise ConfigError(f"runtime, recipe: {given} cannot be measured; runtimes: {', '.join(RUNTIMES)}")
    for name in names:
        if isinstance(name, Path) and name.suffix == ONNX_SUFFIX:
            yield name.stem, {"onnx": ("onnx", name)}
            continue
        file = name if isinstance(name, Path) else _untrained(name, target, folder)
        ways: dict[str, tuple[Way, Path]] = {}
        for runtime in runtimes:
            if runtime in ("onnx", "int8") and not _is_exported(read_card(file)[0], int8=runtime == "int8"):
                continue
            if runtime in _KERNELS and not _is_in_kernels(read_card(file)[0], runtime):
                continue
            if runtime not in ("onnx", "int8"):
                ways[runtime] = (runtime, file)  # type: ignore[assignment]
            else:
                exported = folder / f"{file.stem}-{runtime}{ONNX_SUFFIX}"
                ways[runtime] = ("onnx", export_model(file, exported, int8=runtime == "int8", force=True).path)
        yield file.stem, ways


def _is_exported(config: ModelConfig, *, int8: bool) -> bool:
    return FAMILIES[config.family].onnx is not None and (not int8 or onnx_core(config).int8_problem(config) is None)


def _is_in_kernels(config: ModelConfig, runtime: str) -> bool:
    precision = _KERNELS[runtime]
    if runtime.startswith("native"):
        return native_problem(config, precision) is None
    with torch.device("meta"):
        return kernel_problem(build_model(config), precision) is None


def _untrained(recipe: str, target: str, folder: Path) -> Path:
    """Write a model of a recipe with random weights, and return its file."""
    found = find_recipe(recipe)
    path = folder / f"{found.id}.safetensors"
    save_untrained(path, found.run_config([] if found.shared else [target]).model, found.id)
    return path


def measure_separation(
    ways: Sequence[tuple[Way, Path]],
    *,
    chunk_s: float | None = None,
    rounds: int,
    device: str = "cpu",
    precision: str = "fp32",
) -> list[SeparationSpeed]:
    """Measure ways of computing a model, each in a process of its own, in turns; the first round is a warm-up.

    Args:
        ways: ways to compute the model, each with a model file.
        chunk_s: length of a chunk in seconds; None: the model's own, as published.
        rounds: measured rounds; in each, every way has a turn with its network's best number of chunks at once.
        device: device for the ways of PyTorch.
        precision: precision of "torch".
    """
    with ExitStack() as stack:
        pools = [stack.enter_context(worker_pool(1)) for _ in ways]
        opened = [
            pool.submit(_open, way, file, chunk_s, device, precision).result()
            for pool, (way, file) in zip(pools, ways, strict=True)
        ]
        turns = [[pool.submit(_turn).result() for pool in pools] for _ in range(rounds + 1)]
        peaks_mb = [pool.submit(_peak_mb).result() for pool in pools]
    audio_s, lengths_s, flop_per_s, probes = zip(*opened, strict=True)
    wall_s, rates, peaks = np.moveaxis(np.array(turns[1:]), -1, 0)  # each: rounds, ways
    realtime = np.array(audio_s) / wall_s
    share = realtime * flop_per_s / rates
    return [
        SeparationSpeed(
            chunk_s=lengths_s[way],
            realtime=float(np.median(realtime[:, way])),
            gflop_per_10_s=10 * flop_per_s[way] / 1e9,
            matrix_gflop_per_s=float(np.median(rates[:, way])) / 1e9,
            share=float(np.median(share[:, way])),
            peak_gop_per_s=float(np.median(peaks[:, way])) / 1e9,
            quicker=float(np.median(realtime[:, way] / realtime[:, 0])),
            peak_mb=peaks_mb[way],
            difference=float(np.abs(probes[way] - probes[0]).max() / np.abs(probes[0]).max()),
        )
        for way in range(len(ways))
    ]


class _Work(NamedTuple):
    """Work of one way's process in each round."""

    estimate: Callable[[np.ndarray], np.ndarray]
    chunks: np.ndarray
    device: torch.device
    precision: KernelPrecision | None
    """That of the kernels, if they compute."""


_work: _Work


def _open(
    way: Way, file: Path, chunk_s: float | None, device_name: str, precision: str
) -> tuple[float, float, float, np.ndarray]:
    """Load a network in its process.

    Returns:
        The seconds of audio of a turn, those of a chunk, operations per second of audio, and estimates of noise.
    """
    global _work
    assert (way == "onnx") == (file.suffix == ONNX_SUFFIX)
    device = torch.device("cpu" if way == "onnx" or way in _KERNELS else device_name)
    if way not in _KERNELS:
        os.environ["BANDSPLIT_KERNELS"] = "off"
    fast = precision if way == "torch" else _KERNELS.get(way, "fp32")
    runtime = "onnx" if way == "onnx" else "native" if way.startswith("native") else "torch"
    network = open_network(file, device, precision=fast, runtime=runtime)  # type: ignore[arg-type]
    estimate, size = network.estimate, network.batch_size
    if way == "plain":
        assert isinstance(network, TorchNetwork)
        for layer in network.model.modules():
            if isinstance(layer, TwoPaths):
                layer.fast = False
        estimate, size = network.estimate_plainly, 1
    config = network.config
    geometry, rate_hz = config.geometry, config.sample_rate_hz
    generator = np.random.default_rng(0)

    def noise(count: int, seconds: float) -> np.ndarray:
        samples = round(seconds * rate_hz)
        shape = (count, config.channels, min(samples, geometry.fixed_samples or samples))
        return generator.normal(0, 0.1, shape).astype(np.float32)

    probe, chunks = estimate(noise(1, PROBE_S)), noise(size, chunk_s or geometry.best_s or geometry.published.chunk_s)
    _work = _Work(estimate, chunks, device, _KERNELS.get(way))
    length_s = chunks.shape[-1] / rate_hz
    flop = count_flop(config, geometry.fitting(chunks.shape[-1])).forward
    return size * length_s, length_s, flop / length_s, probe


def _turn() -> tuple[float, float, float]:
    """Estimate the chunks; return the time in seconds, and the matrix rate and the kernels' peak around it."""
    rate, peak = matrix_rate(_work.device), _kernel_peak()
    wall_s = time_s(lambda: _work.estimate(_work.chunks), _work.device)
    return wall_s, (rate + matrix_rate(_work.device)) / 2, (peak + _kernel_peak()) / 2


def _kernel_peak() -> float:
    """Return the operations per second of products in registers, in as many threads as torch uses."""
    kernels = search_kernels().kernels
    if kernels is None or _work.precision is None:
        return float("nan")
    began = time.thread_time()
    operations = kernels.dots(_work.precision, 1_000_000)
    return torch.get_num_threads() * operations / (time.thread_time() - began)


def _peak_mb() -> float:
    return peak_memory_mb(_work.device)

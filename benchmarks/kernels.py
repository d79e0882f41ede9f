"""Rates of the CPU kernels beside PyTorch's, in one thread, by CPU time: other programs disturb them little.

    .venv/bin/python benchmarks/kernels.py [--rounds 5] [--gru] [--network simo-optimised] [--seconds 0.8]

A layer of 128 features, 256 hidden features per direction, 48 sequences of 100 steps: normalisation, both directions,
projection and residual. Each instruction set of this CPU is forced in turn, beside the peak of its products, measured
in registers. Then, if the network has them, its first TAC block, attention and mask decoder, and scores of attention;
and the complete network with random weights on noise, in every precision, with its signal-to-noise ratio against
PyTorch's estimate in 32 bits. Everything takes turns; medians of the rounds.

    .venv/bin/python benchmarks/kernels.py --model MODEL --data SONGS

What lower precisions change in the estimates of a trained model, on the test songs of a data set: their
signal-to-noise ratio against PyTorch's, and their uSDR.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bandsplit.core.kernel_attention import attend
from bandsplit.core.kernels import KernelPrecision, describe_problem, instruction_sets, search_kernels
from bandsplit.core.machine import describe_machine
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.evaluation.metrics import usdr
from bandsplit.models.bsrnn.blocks import FrameAttention, Tac
from bandsplit.models.bsrnn.coders import MaskDecoder
from bandsplit.models.layers.dual_path import Along
from bandsplit.models.layers.kernel_products import products_in
from bandsplit.models.layers.kernel_recurrent import kernel_problem, pack_layer
from bandsplit.models.layers.sequence import RecurrentLayer
from bandsplit.models.network import SeparationModel, build_model
from bandsplit.recipes.catalogue import find_recipe
from bandsplit.separation.separator import Separator
from bandsplit.separation.torch_network import TorchNetwork

N, M, SEQUENCES, STEPS = 128, 256, 48, 100
PARTS = {"TAC": Tac, "attention": FrameAttention, "mask decoder": MaskDecoder}


@contextmanager
def without_kernels() -> Iterator[None]:
    """Leave all layers to PyTorch."""
    os.environ["BANDSPLIT_KERNELS"] = "off"
    search_kernels.cache_clear()
    yield
    del os.environ["BANDSPLIT_KERNELS"]
    search_kernels.cache_clear()


def in_turns(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the medians of the CPU times in seconds; the first round is a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            began = time.thread_time()
            work()
            times[name].append(time.thread_time() - began)
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def measure_layer(kind: type[nn.LSTM] | type[nn.GRU], rounds: int) -> None:
    """Print the table of one layer."""
    layer_operations = SEQUENCES * STEPS * 2 * 2 * ((N + M) * (4 if kind is nn.LSTM else 3) * M + M * N)
    kernels = search_kernels().kernels
    assert kernels is not None
    torch.manual_seed(0)
    layer = RecurrentLayer(kind, N, M).eval()
    along, x = Along("time", layer), torch.randn(1, 1, SEQUENCES, STEPS, N)
    y, square = np.empty(x.shape, np.float32), torch.ones(1024, 1024)

    def by_torch() -> None:
        with torch.inference_mode(), without_kernels():
            along(x)

    works: dict[str, Callable[[], object]] = {"torch": by_torch, "matrices": lambda: torch.mm(square, square)}
    dots: dict[str, float] = {}
    for one in instruction_sets(kernels.library):
        if not kernels.library.bandsplit_set_runs(one.number):
            continue
        for precision in one.precisions:
            packed, name = pack_layer(one, layer, precision), f"{one.name} {precision}"
            works[name] = lambda packed=packed: packed.along(x.numpy(), y, "time", 1, 1)
            works[f"peak of {name}"] = lambda one=one, precision=precision: one.dots(precision, 1_000_000)
            dots[name] = one.dots(precision, 1_000_000)
    times_s = in_turns(works, rounds)
    print(f"large matrix products: {2 * 1024**3 / times_s['matrices'] / 1e9:.0f} GFLOP/s")
    print(f"| {kind.__name__} | Gop/s | peak | of peak | x torch |\n|---|---:|---:|---:|---:|")
    print(f"| torch | {layer_operations / times_s['torch'] / 1e9:.0f} | | | 1.00 |")
    for name, operations in dots.items():
        rate, peak = layer_operations / times_s[name] / 1e9, operations / times_s[f"peak of {name}"] / 1e9
        times = times_s["torch"] / times_s[name]
        print(f"| {name} | {rate:.0f} | {peak:.0f} | {100 * rate / peak:.0f} % | {times:.2f} |")


def model_of(recipe: str) -> SeparationModel:
    """Build a network with random weights."""
    torch.manual_seed(0)
    found = find_recipe(recipe)
    return build_model(found.run_config([] if found.shared else ["vocals"]).model).eval().requires_grad_(False)


def measure_parts(model: SeparationModel, rounds: int) -> None:
    """Print the table of the first TAC block, attention and mask decoder."""
    parts = {name: next(one for one in model.modules() if isinstance(one, kind)) for name, kind in PARTS.items()}
    decoder = parts["mask decoder"]
    assert isinstance(decoder, MaskDecoder)
    bands, n = decoder.enter.weight.shape[:2]

    def work_of(part: nn.Module, x: torch.Tensor, precision: KernelPrecision | None) -> Callable[[], None]:
        part = deepcopy(part)  # which keeps its packed weights
        apply = part.mask if isinstance(part, MaskDecoder) else part

        def work() -> None:
            kernels = without_kernels() if precision is None else products_in(precision)
            with torch.inference_mode(), kernels:
                apply(x)

        return work

    print("\n| part | torch, ms | beside LSTMs in fp32 | x torch | in int8 | x torch |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, frames in [("TAC", 70), ("attention", 70), ("attention", 431), ("mask decoder", 70)]:
        x = torch.randn(1, model.config.channels, bands, frames, n)
        works = {str(precision): work_of(parts[name], x, precision) for precision in (None, "fp32", "int8")}
        times_s = in_turns(works, rounds)
        cells = [f"{1e3 * time_s:.1f} | {times_s['None'] / time_s:.2f}" for time_s in times_s.values()]
        print(f"| {name}, {frames} frames | {1e3 * times_s['None']:.1f} | {' | '.join(cells[1:])} |", flush=True)


def measure_scores(rounds: int) -> None:
    """Print the table of scores and outputs of attention, of two channels and two heads as in oBSRNN-SIMO."""
    kernels = search_kernels().kernels
    assert kernels is not None
    print("\n| scores and outputs | torch, ms | kernels, ms |\n|---|---:|---:|")
    for frames in (130, 431):
        tensors = *torch.randn(2, 4, frames, 912), torch.randn(4, frames, 3648)
        arrays = [tensor.numpy() for tensor in tensors]
        works: dict[str, Callable[[], object]] = {"torch": partial(F.scaled_dot_product_attention, *tensors)}
        works["kernels"] = partial(attend, kernels, *arrays, threads=1)
        cells = [f"{1e3 * time_s:.1f}" for time_s in in_turns(works, rounds).values()]
        print(f"| {frames} frames | {' | '.join(cells)} |", flush=True)


def measure_network(recipe: str, model: SeparationModel, seconds: float, rounds: int) -> None:
    """Print the table of a complete network."""
    rate_hz = model.config.sample_rate_hz
    chunk = np.random.default_rng(0).normal(0, 0.1, (1, 2, round(seconds * rate_hz))).astype(np.float32)
    estimates: dict[str, np.ndarray] = {}

    def estimate(name: str, precision: KernelPrecision, kernels: bool) -> Callable[[], None]:
        network = TorchNetwork(deepcopy(model), torch.device("cpu"), precision=precision)  # which keeps packed weights

        def work() -> None:
            with nullcontext() if kernels else without_kernels():
                estimates[name] = network.estimate(chunk)

        return work

    works = {"torch": estimate("torch", "fp32", False)}
    precisions: list[KernelPrecision] = ["fp32", "bf16", "int8"]
    for precision in precisions:
        if kernel_problem(model, precision) is None:
            works[precision] = estimate(precision, precision, True)
        elif precision == "bf16":
            works["torch's bf16"] = estimate("torch's bf16", precision, False)
    times_s, exact = in_turns(works, rounds), estimates["torch"]
    print(f"\n| {recipe}, {seconds:g} s | CPU, s | x torch | SNR, dB | largest difference, of the peak |")
    print("|---|---:|---:|---:|---:|")
    for name, time_s in times_s.items():
        error = estimates[name] - exact
        largest = np.abs(error).max() / np.abs(exact).max()
        figures = "|" if name == "torch" else f"{snr_db(exact, error):.1f} | {largest:.1e}"
        print(f"| {name} | {time_s:.2f} | {times_s['torch'] / time_s:.2f} | {figures} |", flush=True)


def snr_db(exact: np.ndarray, error: np.ndarray) -> float:
    """Return a signal-to-noise ratio."""
    return float(10 * np.log10(np.square(exact).sum() / max(np.square(error).sum(), 1e-30)))


def measure_accuracy(model: Path, songs: Path) -> None:
    """Print the table of a trained model: over the test songs, the range of each figure."""
    dataset = index_dataset(songs)
    exact: dict[str, np.ndarray] = {}  # PyTorch's, by songs
    print("| precision | SNR, dB | uSDR, dB | changes by, at most |\n|---|---:|---:|---:|")
    ways: list[tuple[str, KernelPrecision]] = [("torch", "fp32"), ("fp32", "fp32"), ("bf16", "bf16"), ("int8", "int8")]
    for name, precision in ways:
        with without_kernels() if name == "torch" else nullcontext():
            if name != "torch" and describe_problem(precision) is not None:
                continue
            separator = Separator(model, runtime="torch", device="cpu", precision=precision)
            rows = []
            for track in dataset.songs("test"):
                estimates = separator.separate(track.read("mixture"), track.sample_rate_hz)
                targets = [target for target in dataset.stems if target in estimates]
                found = np.stack([estimates[target] for target in targets])
                first = exact.setdefault(track.name, found)
                true = np.stack([track.read(target) for target in targets])
                changes = np.abs(usdr(true, found) - usdr(true, first)).max()
                rows.append((snr_db(first, found - first), usdr(true, found).mean(), changes))
        snrs_db, usdrs_db, changes_db = zip(*rows, strict=True)
        snr = "" if name == "torch" else f"{min(snrs_db):.0f} to {max(snrs_db):.0f}"
        print(f"| {name} | {snr} | {min(usdrs_db):.2f} to {max(usdrs_db):.2f} | {max(changes_db):.4f} |", flush=True)


def main() -> None:
    """Print the tables that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gru", action="store_true", help="measure a GRU in place of the LSTM")
    parser.add_argument("--network", default="simo-optimised", help="recipe of the complete network")
    parser.add_argument("--seconds", type=float, default=0.8, help="length of its noise")
    parser.add_argument("--model", type=Path, help="a trained model: what lower precisions change")
    parser.add_argument("--data", type=Path, help="its songs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine(torch.device("cpu")))
    if arguments.model is not None:
        measure_accuracy(arguments.model, arguments.data)
        return
    measure_layer(nn.GRU if arguments.gru else nn.LSTM, arguments.rounds)
    model = model_of(arguments.network)
    kinds = tuple(type(module) for module in model.modules())
    if all(any(issubclass(kind, part) for kind in kinds) for part in PARTS.values()):
        measure_parts(model, arguments.rounds)
        measure_scores(arguments.rounds)
    measure_network(arguments.network, model, arguments.seconds, min(arguments.rounds, 3))


if __name__ == "__main__":
    main()

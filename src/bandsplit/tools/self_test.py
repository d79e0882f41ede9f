"""A small separation that takes seconds and verifies the numbers that this machine computes with PyTorch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from bandsplit.audio.stft import istft, stft
from bandsplit.audio.stft_config import StftConfig
from bandsplit.models.network import build_model
from bandsplit.recipes.catalogue import find_recipe
from bandsplit.separation.separator import Separator
from bandsplit.separation.torch_network import pick_device
from bandsplit.tools.bench.matrix_rate import matrix_rate
from bandsplit.tools.trial_separation import (
    CHUNKS,
    RATE_HZ,
    RECIPE,
    TARGET,
    Result,
    as_result,
    difference,
    make_noise,
    try_separation,
)

STFT_LIMIT = 1e-6
DEVICE_LIMIT = 1e-3
"""Limit for a GPU, which may round products differently, relative to the peak of the CPU's estimate."""

_FIX = "the installed PyTorch computes wrong numbers: install another version"


def self_test() -> Iterator[Result]:
    """Test the STFT and its inverse, separate noise with a tiny random network on all paths, time matrix products."""
    yield _stft_round_trip()
    mixture = make_noise()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(find_recipe(RECIPE).run_config([TARGET]).model)
    results, estimates = try_separation(Separator(model, device="cpu", chunks=CHUNKS), mixture, _FIX)
    yield from results
    device = pick_device("auto")
    if device.type != "cpu":
        elsewhere = Separator(model, device=device, chunks=CHUNKS).separate(mixture, RATE_HZ)
        share = difference(estimates, elsewhere) / max(float(np.abs(stem).max()) for stem in estimates.values())
        yield as_result(f"{device.type} and CPU", f"differ by {share:.1e} of the peak", share < DEVICE_LIMIT, _FIX)
    rate = matrix_rate(device) / 1e9
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    yield "matrix products", f"{rate:.0f} GFLOP/s ({device}, 32 bit{threads})", "ok", ""


def _stft_round_trip() -> Result:
    signal = torch.randn(2, 30000, generator=torch.Generator().manual_seed(0))
    config = StftConfig()
    error = float((istft(stft(signal, config), config, signal.shape[-1]) - signal).abs().max() / signal.abs().max())
    return as_result("STFT and back", f"error {error:.1e} of the peak", error < STFT_LIMIT, _FIX)

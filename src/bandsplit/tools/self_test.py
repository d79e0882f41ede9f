"""A small separation that takes seconds and verifies the numbers that this machine computes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from bandsplit.audio import files as audio
from bandsplit.audio.stft import istft, stft
from bandsplit.audio.stft_config import StftConfig
from bandsplit.core.unfinished import temporary_folder
from bandsplit.models.chunk_config import CrossfadeConfig
from bandsplit.models.network import build_model
from bandsplit.recipes.catalogue import find_recipe
from bandsplit.separation.separator import Separator
from bandsplit.separation.torch_network import pick_device
from bandsplit.tools.bench.matrix_rate import matrix_rate

Result = tuple[str, str, Literal["ok", "note", "fail"], str]
"""Name, value, status, fix."""

STFT_LIMIT = 1e-6
STREAM_LIMIT = 1e-6
DEVICE_LIMIT = 1e-3
"""Limit for a GPU, which may round products differently, relative to the peak of the CPU's estimate."""

RECIPE, TARGET = "mini-base", "vocals"
"""Settings of the network: small, with LSTMs."""

_FIX = "the installed PyTorch computes wrong numbers: install another version"


def self_test() -> Iterator[Result]:
    """Test the STFT and its inverse, separate noise with a tiny random network on all paths, time matrix products."""
    yield _stft_round_trip()
    rate_hz = 44100
    mixture = np.random.default_rng(0).normal(0, 0.1, (2, 2 * rate_hz)).astype(np.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(find_recipe(RECIPE).run_config([TARGET]).model)
    chunks = CrossfadeConfig(chunk_s=0.5)
    separator = Separator(model, device="cpu", chunks=chunks)
    began = time.perf_counter()
    estimates = separator.separate(mixture, rate_hz)
    wall_s = time.perf_counter() - began
    good = all(stem.shape == mixture.shape and np.isfinite(stem).all() for stem in estimates.values())
    heard = min(float(np.abs(stem).max()) for stem in estimates.values()) > 0
    value = f"2 s of noise -> {', '.join(estimates)} in {wall_s:.2f} s; finite, of the right shape"
    yield _result("separation", value if good and heard else "wrong", good and heard)
    yield _streaming(separator, mixture, rate_hz, estimates)
    device = pick_device("auto")
    if device.type != "cpu":
        elsewhere = Separator(model, device=device, chunks=chunks).separate(mixture, rate_hz)
        share = _difference(estimates, elsewhere) / max(float(np.abs(stem).max()) for stem in estimates.values())
        yield _result(f"{device.type} and CPU", f"differ by {share:.1e} of the peak", share < DEVICE_LIMIT)
    rate = matrix_rate(device) / 1e9
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    yield "matrix products", f"{rate:.0f} GFLOP/s ({device}, 32 bit{threads})", "ok", ""


def _stft_round_trip() -> Result:
    signal = torch.randn(2, 30000, generator=torch.Generator().manual_seed(0))
    config = StftConfig()
    error = float((istft(stft(signal, config), config, signal.shape[-1]) - signal).abs().max() / signal.abs().max())
    return _result("STFT and back", f"error {error:.1e} of the peak", error < STFT_LIMIT)


def _streaming(separator: Separator, mixture: np.ndarray, rate_hz: int, estimates: dict[str, np.ndarray]) -> Result:
    """Compare a stream from a file with estimates computed in memory."""
    with temporary_folder() as folder:
        path = Path(folder) / "noise.wav"
        audio.write(path, mixture, rate_hz)
        blocks = [block for _, block in separator.stream(path)]
    streamed = {target: np.concatenate([block[target] for block in blocks], axis=1) for target in estimates}
    error = _difference(estimates, streamed)
    return _result("streaming", f"a file equals memory to {error:.1e}", error < STREAM_LIMIT)


def _difference(some: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> float:
    """Return the largest difference of a sample; infinite if lengths differ."""
    if any(others[target].shape != stem.shape for target, stem in some.items()):
        return float("inf")
    return max(float(np.abs(stem - others[target]).max()) for target, stem in some.items())


def _result(name: str, value: str, good: bool) -> Result:
    return name, value, "ok" if good else "fail", "" if good else _FIX

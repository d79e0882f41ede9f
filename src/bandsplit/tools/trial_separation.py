"""The part of the self-test that separates, in any runtime; in the CPU kernels it is all, and PyTorch is not needed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors.numpy import save_file

from bandsplit.audio import files as audio
from bandsplit.core.unfinished import temporary_folder
from bandsplit.models.card import FORMAT, ModelCard, describe_file
from bandsplit.models.chunk_config import CrossfadeConfig
from bandsplit.models.contract import ModelConfig
from bandsplit.models.families import tensor_shapes
from bandsplit.recipes.catalogue import find_recipe
from bandsplit.separation.separator import Separator

Result = tuple[str, str, Literal["ok", "note", "fail"], str]
"""Name, value, status, fix."""

RATE_HZ = 44100
CHUNKS = CrossfadeConfig(chunk_s=0.5)
STREAM_LIMIT = 1e-6

RECIPE, TARGET = "mini-base", "vocals"
"""Settings of the network: small, with LSTMs."""

_FIX_KERNELS = "the CPU kernels compute wrong numbers: build them again, pip install --force-reinstall ./kernels"


def make_noise() -> np.ndarray:
    """Return two seconds of stereo noise."""
    return np.random.default_rng(0).normal(0, 0.1, (2, 2 * RATE_HZ)).astype(np.float32)


def native_self_test() -> Iterator[Result]:
    """Separate noise with a tiny random network in the CPU kernels, in memory and streamed."""
    with temporary_folder() as folder:
        path = Path(folder) / "random.safetensors"
        _write_random(path, find_recipe(RECIPE).run_config([TARGET]).model)
        separator = Separator(path, chunks=CHUNKS, runtime="native")
    results, _ = try_separation(separator, make_noise(), _FIX_KERNELS)
    yield from results


def _write_random(path: Path, config: ModelConfig) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in tensor_shapes(config)}
    card = ModelCard(name="random", training_data="none: random weights", licence="none needed")
    save_file(arrays, path, describe_file(FORMAT, config, card))


def try_separation(
    separator: Separator, mixture: np.ndarray, fix: str
) -> tuple[list[Result], Mapping[str, np.ndarray]]:
    """Separate a mixture in memory and streamed; return the results, and the estimates.

    Args:
        separator: what separates.
        mixture: (channels, samples), at `RATE_HZ`.
        fix: advice if numbers are wrong.
    """
    began = time.perf_counter()
    estimates = separator.separate(mixture, RATE_HZ)
    wall_s = time.perf_counter() - began
    good = all(stem.shape == mixture.shape and np.isfinite(stem).all() for stem in estimates.values())
    heard = min(float(np.abs(stem).max()) for stem in estimates.values()) > 0
    value = f"2 s of noise -> {', '.join(estimates)} in {wall_s:.2f} s; finite, of the right shape"
    separated = as_result("separation", value if good and heard else "wrong", good and heard, fix)
    return [separated, _streaming(separator, mixture, estimates, fix)], estimates


def _streaming(separator: Separator, mixture: np.ndarray, estimates: Mapping[str, np.ndarray], fix: str) -> Result:
    """Compare a stream from a file with estimates computed in memory."""
    with temporary_folder() as folder:
        path = Path(folder) / "noise.wav"
        audio.write(path, mixture, RATE_HZ)
        blocks = [block for _, block in separator.stream(path)]
    streamed = {target: np.concatenate([block[target] for block in blocks], axis=1) for target in estimates}
    error = difference(estimates, streamed)
    return as_result("streaming", f"a file equals memory to {error:.1e}", error < STREAM_LIMIT, fix)


def difference(some: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> float:
    """Return the largest difference of a sample; infinite if lengths differ."""
    if any(others[target].shape != stem.shape for target, stem in some.items()):
        return float("inf")
    return max(float(np.abs(stem - others[target]).max()) for target, stem in some.items())


def as_result(name: str, value: str, good: bool, fix: str) -> Result:
    """Return a result that is fine or a failure."""
    return name, value, "ok" if good else "fail", "" if good else fix

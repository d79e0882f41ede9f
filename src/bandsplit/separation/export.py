"""Export of models as ONNX files, which are compared with PyTorch before they are kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.core.files import replacing
from bandsplit.models.card import ONNX_FORMAT, ONNX_SUFFIX, describe_file, read_card
from bandsplit.models.families import onnx_core
from bandsplit.models.files import load_model
from bandsplit.separation.onnx_network import OnnxNetwork
from bandsplit.separation.torch_network import TorchNetwork

LIMIT = 1e-4
"""A file is kept up to this difference from PyTorch's estimates, as a part of their peak. Usually it is 1e-6; if the
output is far smaller than the activations, as in untrained networks, both programs are 1e-5 from exact estimates."""
INT8_LIMIT_DB = 10.0
"""A file with 8-bit integers is kept if its error, on noise, is at least this far below PyTorch's estimates."""
CHECK_S = (0.01, 0.7, 2.5)
"""Lengths of the comparison, in seconds."""


@dataclass(frozen=True)
class Exported:
    """An ONNX file that was written and compared with PyTorch."""

    path: Path
    bytes: int
    lengths: tuple[int, ...]
    """Lengths of the compared noise signals, in samples."""
    difference: float
    """Largest difference of a sample of the estimates, as a part of their peak."""
    distance_db: float
    """Energy of PyTorch's estimates over that of the difference, the smallest of all lengths."""


def export_model(model_file: Path | str, path: Path | str, *, int8: bool = False, force: bool = False) -> Exported:
    """Write a model as an ONNX file, under a temporary name until it has been compared with PyTorch.

    Args:
        model_file: a .safetensors model.
        path: the .onnx file to write.
        int8: LSTMs with 8-bit integers: faster on CPUs with instructions for it, with slightly different estimates.
        force: replace an existing file.

    Raises:
        ModelFileError: ``model_file`` is not a model; ``path`` exists or cannot be written; the file's estimates differ
            from PyTorch's.
        ConfigError: onnx or onnxruntime is not installed, or ``int8`` would change nothing.
    """
    path, model_file = Path(path), Path(model_file)
    if path.suffix != ONNX_SUFFIX:
        raise ModelFileError(f"{path}: is not a name of an ONNX model; choose one that ends with {ONNX_SUFFIX}")
    if model_file.suffix == ONNX_SUFFIX:
        raise ModelFileError(f"{model_file}: is an ONNX file already; give the .safetensors model it was made from")
    if path.exists() and not force:
        raise ModelFileError(f"{path}: exists already; choose another name, or replace it with --force")
    try:
        import_module("onnx")
    except ImportError as error:
        raise ConfigError(f"export: needs onnx and onnxruntime ({error}); pip install 'bandsplit[onnx]'") from None
    model, (config, card) = load_model(model_file), read_card(model_file)
    core = onnx_core(config)
    if int8 and (problem := core.int8_problem(config)):
        raise ConfigError(f"--int8: would change nothing in {model_file}: {problem}; leave --int8 out")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, suffix=f".part{ONNX_SUFFIX}") as temporary:
            temporary.write_bytes(core.build(model, describe_file(ONNX_FORMAT, config, card), int8))
            exported = _compare(TorchNetwork(model, torch.device("cpu")), temporary, path)
            _require_equal(exported, int8)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be written ({error.strerror or error}); choose another folder") from None
    return exported


def _require_equal(exported: Exported, int8: bool) -> None:
    if not (exported.distance_db >= INT8_LIMIT_DB if int8 else exported.difference <= LIMIT):
        limit = f"less than {INT8_LIMIT_DB:g} dB below them" if int8 else f"the limit is {LIMIT:g} of their peak"
        raise ModelFileError(
            f"{exported.path}: not written, since its estimates differ from PyTorch's by {exported.difference:.1e} of "
            f"their peak ({exported.distance_db:.1f} dB below them; {limit}); "
            + ("leave --int8 out" if int8 else "please report this model")
        )


def _compare(expected: TorchNetwork, file: Path, path: Path) -> Exported:
    found = OnnxNetwork(file)
    differences, distances_db, lengths = [], [], []
    for noise in _signals(expected):
        lengths.append(noise.shape[-1])
        right, wrong = expected.estimate(noise), found.estimate(noise)
        wrong -= right
        differences.append(float(np.abs(wrong).max() / max(np.abs(right).max(), 1e-9)))
        energies = np.square(right, dtype=np.float64).sum(), np.square(wrong, dtype=np.float64).sum()
        distances_db.append(float(10 * np.log10((energies[0] + 1e-20) / (energies[1] + 1e-20))))
    return Exported(path, file.stat().st_size, tuple(lengths), max(differences), min(distances_db))


def _signals(network: TorchNetwork) -> Iterator[np.ndarray]:
    """Yield noise of three lengths, the second as a batch of two."""
    generator = np.random.default_rng(0)
    config = network.config
    longest = config.geometry.fixed_samples or sys.maxsize
    for number, seconds in enumerate(CHECK_S):
        samples = min(int(seconds * config.sample_rate_hz), longest)
        shape = (2 if number == 1 else 1, config.channels, samples)
        yield generator.normal(0, 0.1, shape).astype(np.float32)

"""The authors' golden networks in the CPU kernels, whose sizes are larger: each feature is there several times."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bandsplit.core.kernels import KernelPrecision
from bandsplit.models.bsrnn.checkpoint import config_from_authors
from bandsplit.models.bsrnn.tensor_names import tensors_from_authors
from bandsplit.models.families import tensor_shapes
from bandsplit.models.files import model_from_tensors, save_model
from bandsplit.models.network import SeparationModel
from bandsplit.separation.native_network import NativeNetwork
from bandsplit.separation.torch_network import TorchNetwork
from cpu_kernels import installed_kernels
from golden_files import read_golden
from onnx_models import CARD

COPIES = {
    "attention-2x16": 2, "base-bass": 2, "base-drums": 2, "base-vocals": 2, "gru-time-lstm-band": 2, "multi-head-2": 4,
    "naive-stereo": 2, "simo-optimised": 4, "simo-residual": 2, "stft-4096": 2, "tac-prelu": 2, "tac-tanh": 2,
}  # fmt: skip
"""How often a feature is there, so that the features of a head and group are a multiple of 16."""
LEAST_DB: dict[KernelPrecision, float] = {"fp32": 120, "bf16": 60, "int8": 45}


def widened(name: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Repeat the features of a parameter; the weights of an input are shared among its copies."""
    for axis, (size, wanted) in enumerate(zip(tensor.shape, shape, strict=True)):
        if size != wanted:
            copies = wanted // size
            tensor = tensor.repeat_interleave(copies, axis)
            if axis == 1 and "norm" not in name:
                tensor = tensor / copies
    return tensor


def wide_model(shared: Path, name: str) -> tuple[SeparationModel, dict[str, Tensor]]:
    """Build the network with wider layers that computes the same, and return the golden numbers."""
    golden, metadata = read_golden(shared / "golden" / "models" / f"{name}.safetensors")
    config = config_from_authors(json.loads(metadata["config"]))
    theirs = {key.removeprefix("weight/"): tensor for key, tensor in golden.items() if key.startswith("weight/")}
    narrow = tensors_from_authors(config, {key: tuple(one.shape) for key, one in theirs.items()}, theirs.__getitem__)
    wide = config.model_copy(update={"n_features": COPIES[name] * config.n_features})
    shapes = dict(tensor_shapes(wide))
    model = model_from_tensors(wide, {key: widened(key, one, shapes[key]) for key, one in narrow.items()})
    return model.requires_grad_(False), golden


@pytest.mark.parametrize("name", COPIES)
def test_the_kernels_give_the_authors_outputs(shared: Path, name: str, tmp_path: Path):
    kernels = installed_kernels()
    model, golden = wide_model(shared, name)
    save_model(tmp_path / "wide.safetensors", model, CARD)
    expected, mixture = golden["output"].numpy(), golden["input"].numpy()
    for precision in kernels.precisions:
        networks = [NativeNetwork(tmp_path / "wide.safetensors", precision=precision)]
        networks += [TorchNetwork(model, torch.device("cpu"), precision=precision)]
        for network in networks:
            error = np.square(network.estimate(mixture) - expected).sum() / np.square(expected).sum()
            assert -10 * np.log10(error) >= LEAST_DB[precision], (precision, type(network))

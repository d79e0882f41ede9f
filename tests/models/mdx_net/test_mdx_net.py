"""KUIELab-MDX-Net against the numbers of its authors' code, their counts, and its contract."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from authors_networks import Golden, checkpoint, read_golden, relative_difference
from bandsplit.core.errors import ConfigError
from bandsplit.models.contract import Checkpoint, Imported
from bandsplit.models.families import count_flop, tensor_shapes
from bandsplit.models.files import model_from_tensors
from bandsplit.models.layers.complex_channels import to_channels
from bandsplit.models.mdx_net.config import MdxNetConfig
from bandsplit.models.mdx_net.network import MdxNetwork
from bandsplit.models.mdx_net.weights import read_checkpoint
from bandsplit.models.network import build_model
from bandsplit.models.tensors import count_parameters
from bandsplit.separation.separator import Separator

TARGETS = ("vocals", "drums", "bass", "other")
SMALL: dict[str, Any] = {
    "targets": ["vocals"], "sample_rate_hz": 8000, "stft": {"n_fft": 128, "hop_samples": 32}, "bins": 48,
    "unet": {"block": "plain", "n_features": 4, "levels": 2, "convs": 1},
}  # fmt: skip


def config(**changes: Any) -> MdxNetConfig:
    return MdxNetConfig.parse(SMALL | changes)


def read_shared(shared: Path, name: str) -> Golden:
    return read_golden(shared / "golden" / "systems" / "demucs_mdx_presunet" / f"{name}.safetensors")


def network_of(file: Checkpoint) -> MdxNetwork:
    imported = read_checkpoint(file)
    assert isinstance(imported, Imported)
    model = model_from_tensors(imported.config, imported.tensors)
    assert isinstance(model, MdxNetwork)
    return model


def separated(model: MdxNetwork, song: Tensor) -> Tensor:
    """The target of ``c samples`` by the plan of the model."""
    with torch.inference_mode():
        (estimate,) = Separator(model, device="cpu").separate(song, model.config.sample_rate_hz).values()
    return estimate


@pytest.mark.parametrize("name", ["mdxnet-tfctdf2", "mdxnet-tfctdf2-bias-full-tdf"])
def test_the_authors_weights_give_the_authors_output(shared: Path, name: str):
    found = read_shared(shared, name)
    model = network_of(found.checkpoint())
    assert count_parameters(model.config) == int(found.metadata["parameters"])
    with torch.inference_mode():
        separation = model(found.tensors["input"])
    assert separation.spec is not None
    assert relative_difference(separation.signal[:, 0], found.tensors["output"]) <= 1e-5
    spec = to_channels(separation.spec[:, 0], model.config.bins)
    assert relative_difference(spec, found.tensors["spectrogram_out"]) <= 1e-5
    song = separated(model, found.tensors["song/input"][0])
    assert relative_difference(song, found.tensors["song/output"]) <= 1e-5


def test_four_models_give_what_the_submission_mixes_and_blends(shared: Path):
    found = read_shared(shared, "mdxnet-submission")
    order, song = json.loads(found.metadata["order"]), found.tensors["input"][0]
    estimates = []
    for target in order:
        weights = {name[len(target) + 1 :]: value for name, value in found.weights.items() if name.startswith(target)}
        estimates.append(separated(network_of(checkpoint(weights, found.arguments[target])), song))
    separate = torch.stack(estimates)
    assert relative_difference(separate, found.tensors["output/separate"]) <= 1e-5
    mixed = found.weights["mixer.linear.weight"] @ torch.cat([separate, song[None]]).flatten(0, 1)
    mixed = mixed.unflatten(0, (4, 2))
    assert relative_difference(mixed, found.tensors["output/mixed"]) <= 1e-5
    share = torch.tensor(json.loads(found.metadata["blend"]))[:, None, None]
    output = share * mixed + (1 - share) * found.tensors["demucs"]
    assert relative_difference(output, found.tensors["output"]) <= 1e-5

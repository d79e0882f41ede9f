"""The golden numbers of TFC-TDF UNet v3: weights of public software in, its outputs and training steps out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from bandsplit.models.contract import Checkpoint
from bandsplit.models.files import model_from_tensors
from bandsplit.models.network import build_model
from bandsplit.models.tfc_tdf.config import TfcTdfConfig
from bandsplit.models.tfc_tdf.weights import read_checkpoint, rename
from bandsplit.training.losses import masked_mse

DATA = Path(__file__).parent / "data"
FILES = ["batch-norm-relu", "four-stems-two-scales", "one-stem-three-scales"]
OWN = {
    "instance": {"activation": {"kind": "gelu"}, "n_subbands": 2},
    "group": {"activation": {"kind": "elu", "alpha": 0.5}, "norm": {"kind": "group", "groups": 2}, "n_bins": 48},
    "batch": {"activation": {"kind": "relu"}, "norm": {"kind": "batch"}, "scale_frames": 4, "n_scales": 1},
    "none": {"norm": None, "scale_bins": 1, "targets": ["vocals"], "n_blocks": 2, "channels": 1},
}
"""Variants of `own_config`; their estimates are in the data by these names."""


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors and the metadata of a file."""
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118


def import_weights(tensors: Mapping[str, Tensor], document: Any) -> Any:
    theirs = {key.removeprefix("weights/"): value for key, value in tensors.items() if key.startswith("weights/")}
    found = read_checkpoint(
        Checkpoint({k: tuple(v.shape) for k, v in theirs.items()}, theirs.__getitem__, None, document)
    )
    assert found is not None
    return model_from_tensors(found.config, found.tensors)


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference as a fraction of the peak."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def test_every_golden_file_of_the_family_is_tested(shared: Path):
    assert {path.stem for path in (shared / "golden" / "systems" / "tfc_tdf_v3").iterdir()} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_imported_weights_give_the_reference_output(shared: Path, name: str):
    tensors, metadata = read(shared / "golden" / "systems" / "tfc_tdf_v3" / f"{name}.safetensors")
    model = import_weights(tensors, json.loads(metadata["config"]))
    with torch.inference_mode():
        output = model(tensors["input"].unsqueeze(0)).signal.squeeze(0)
    assert relative_difference(output, tensors["output"]) <= 2e-6
    assert sum(parameter.numel() for parameter in model.parameters()) == int(metadata["parameters"])


def test_five_training_steps_follow_the_reference(shared: Path):
    tensors, metadata = read(shared / "golden" / "systems" / "training" / "tfc_tdf_v3.safetensors")
    model = import_weights(tensors, json.loads(metadata["config"])).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    losses, norms = [], []
    for mixture, targets in zip(tensors["inputs"], tensors["targets"], strict=True):
        loss = masked_mse(model(mixture).signal, targets, 0.5, coarse=True)
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), torch.inf).item())
        losses.append(loss.item())
        optimizer.step()
    assert losses == pytest.approx(tensors["losses"].tolist(), rel=1e-5)
    assert norms == pytest.approx(tensors["gradient_norms"].tolist(), rel=1e-4)
    state = model.state_dict()
    final = {rename(key.removeprefix("final/")): value for key, value in tensors.items() if key.startswith("final/")}
    assert len(final) > 40
    for name, value in final.items():
        torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-5)


def own_config(changes: Mapping[str, Any]) -> TfcTdfConfig:
    return TfcTdfConfig.parse(
        {
            "targets": ["vocals", "other"], "stft": {"n_fft": 128, "hop_samples": 32}, "n_bins": 64, "n_subbands": 1,
            "n_features": 4, "growth": 2, "n_scales": 2, "n_blocks": 1, "sample_rate_hz": 8000, **changes,
        }
    )  # fmt: skip


def own_output(config: TfcTdfConfig) -> Tensor:
    """Estimates of numbers from a generator that gives the same bits everywhere."""
    random = np.random.Generator(np.random.PCG64(16))

    def draw(*shape: int) -> Tensor:
        return torch.from_numpy(random.random(shape)).float()

    model = build_model(config).eval()
    for tensor in model.state_dict().values():
        width = max(tensor[0].numel(), 1)
        tensor.copy_(draw(*tensor.shape) + 0.5 if tensor.dim() == 1 else (draw(*tensor.shape) - 0.5) * 3 / width**0.5)
    with torch.inference_mode():
        return model(draw(1, config.channels, 32 * 15) - 0.5).signal


@pytest.mark.parametrize("name", OWN)
def test_our_own_numbers_stay_as_they_are(name: str):
    tensors, _ = read(DATA / "tfc-tdf.safetensors")
    assert relative_difference(own_output(own_config(OWN[name])), tensors[name]) <= 1e-5

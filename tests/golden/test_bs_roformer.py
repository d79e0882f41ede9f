"""Every BS-RoFormer and Mel-Band RoFormer of the golden numbers: their weights in, their outputs out."""

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from bandsplit.models.bs_roformer.bands import mel_runs
from bandsplit.models.bs_roformer.config import BsRoformerConfig
from bandsplit.models.bs_roformer.weights import read_checkpoint
from bandsplit.models.contract import Checkpoint, Imported
from bandsplit.models.families import count_flop
from bandsplit.models.files import model_from_tensors
from bandsplit.models.network import build_model
from bandsplit.models.tensors import count_parameters, tensor_shapes
from bandsplit.runs.losses import MultiResolutionLoss
from bandsplit.training.losses import compute_loss

DATA = Path(__file__).parent / "data"
MODELS = [
    "bs_roformer/mono-linear-skip", "bs_roformer/published-bands", "bs_roformer/two-stems-depth-2",
    "mel_band_roformer/mono-linear", "mel_band_roformer/published-bands", "mel_band_roformer/two-stems",
]  # fmt: skip


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors and the metadata of a file."""
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118


def imported(tensors: dict[str, Tensor], config: dict[str, Any]) -> Imported:
    """Read their weights as if they were a checkpoint with its configuration file."""
    theirs = {key.removeprefix("weights/"): tensor for key, tensor in tensors.items() if key.startswith("weights/")}
    document = {
        "audio": {"sample_rate": 44100},
        "model": config,
        "training": {"instruments": ["vocals", "drums"][: config["num_stems"]]},
    }
    shapes = {key: tuple(tensor.shape) for key, tensor in theirs.items()}
    found = read_checkpoint(Checkpoint(shapes, theirs.__getitem__, document=document))
    assert found is not None
    return found


def test_every_golden_file_is_tested(shared: Path):
    folders = ("bs_roformer", "mel_band_roformer")
    found = {f"{name}/{path.stem}" for name in folders for path in (shared / "golden/systems" / name).iterdir()}
    assert found == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_model_with_their_weights_gives_their_output(shared: Path, name: str):
    tensors, metadata = read(shared / "golden" / "systems" / f"{name}.safetensors")
    found = imported(tensors, json.loads(metadata["config"]))
    model = model_from_tensors(found.config, found.tensors)
    signal = tensors["input"].unsqueeze(0)
    with torch.inference_mode():
        output = model(signal).signal[0]
    # Mono networks leave the channels out, most networks of one stem the stems; some cut the end.
    expected = tensors["output"].reshape(len(found.config.targets), found.config.channels, -1)
    # Their count includes the frequencies of the rotary embedding, once for each axis.
    assert isinstance(found.config, BsRoformerConfig)
    assert count_parameters(found.config) + found.config.head_features == int(metadata["parameters"])
    difference = (output[..., : expected.shape[-1]] - expected).abs().max() / expected.abs().max()
    assert difference <= 1e-5


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("mel")])
def test_bands_of_the_mel_filters_are_theirs(shared: Path, name: str):
    tensors, metadata = read(shared / "golden" / "systems" / f"{name}.safetensors")
    expected = tensors["freqs_per_band"] > 0
    found = torch.zeros_like(expected)
    runs = mel_runs(len(expected), json.loads(metadata["config"])["stft_n_fft"], 44100)
    bands = (run.bins()[i * run.width : (i + 1) * run.width] for run in runs for i in range(run.count))
    for row, bins in zip(found, bands, strict=True):
        row[bins] = True
    assert torch.equal(found, expected)
    assert torch.equal(found.sum(dim=0), tensors["num_bands_per_freq"].long())


def test_five_training_steps_follow_theirs(shared: Path):
    tensors, metadata = read(shared / "golden" / "systems" / "training" / "bs_roformer.safetensors")
    settings = json.loads(metadata["config"])
    found = imported(tensors, settings)
    model = model_from_tensors(found.config, found.tensors).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss = MultiResolutionLoss(n_fft=512)
    losses, norms = [], []
    for mixture, targets in zip(tensors["inputs"], tensors["targets"], strict=True):
        optimizer.zero_grad()
        value = compute_loss(loss, model(mixture).signal, targets)
        value.backward()
        losses.append(value.item())
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]).item())
        optimizer.step()
    assert losses == pytest.approx(tensors["losses"].tolist(), rel=1e-5)
    assert norms == pytest.approx(tensors["gradient_norms"].tolist(), rel=1e-4)
    final = {key.removeprefix("final/"): tensor for key, tensor in tensors.items() if key.startswith("final/")}
    initial = {key.removeprefix("weights/"): tensor for key, tensor in tensors.items() if key.startswith("weights/")}
    expected = imported({f"weights/{name}": tensor for name, tensor in (initial | final).items()}, settings).tensors
    ours = model.state_dict()
    stored = [name for name in ours if name.endswith(("gain", "bias"))]
    assert max(float((ours[name] - expected[name]).abs().max()) for name in stored) < 1e-5


SIZES: dict[str, dict[str, Any]] = {
    "bs_roformer/paper-L6-dim384-head48": {},
    "bs_roformer/paper-L9-dim384-head48": {"n_blocks": 9},
    "bs_roformer/paper-L12-dim384-head48": {"n_blocks": 12},
    "bs_roformer/L6-dim384-head64": {"head_features": 64},
    "bs_roformer/viperx-317-vocals": {"n_features": 512, "n_blocks": 12, "head_features": 64},
    "bs_roformer/viperx-937-other": {
        "n_blocks": 12, "head_features": 64, "stft": {"n_fft": 2048, "hop_samples": 512},
    },
    "bs_roformer/zfturbo-musdb18-4stems-384-8-2": {
        "targets": ["drums", "bass", "other", "vocals"], "n_blocks": 8, "head_features": 64,
        "mask": {"hidden_factor": 2},
    },
    "bs_roformer/msst-config-musdb18": {
        "n_features": 192, "head_features": 64, "stft": {"n_fft": 2048, "hop_samples": 512},
    },
    "bs_roformer/msst-config-vocals": {
        "n_features": 192, "head_features": 64, "stft": {"n_fft": 2048, "hop_samples": 512},
    },
    "mel_band_roformer/viperx-3005-vocals": {"n_blocks": 12},
    "mel_band_roformer/kimberley-jensen-vocals": {},
    "mel_band_roformer/msst-config-musdb18": {
        "n_features": 192, "n_blocks": 8, "stft": {"n_fft": 2048, "hop_samples": 512},
    },
}  # fmt: skip
"""Published configurations."""
MEL = {"bands": {"kind": "mel"}, "norm": "each", "head_features": 64, "mask": {"hidden_layers": 2}}
COUNTS = {
    "bs_roformer/paper-L6-dim384-head48": 72_173_292, "bs_roformer/viperx-317-vocals": 159_758_028,
    "bs_roformer/zfturbo-musdb18-4stems-384-8-2": 131_704_100, "mel_band_roformer/viperx-3005-vocals": 251_869_572,
    "mel_band_roformer/kimberley-jensen-vocals": 228_202_788,
}  # fmt: skip


def sized(name: str) -> BsRoformerConfig:
    return BsRoformerConfig.parse({"targets": ["vocals"]} | (MEL if name.startswith("mel") else {}) | SIZES[name])


@pytest.mark.parametrize("name", COUNTS)
def test_published_sizes_have_their_parameters(name: str):
    config = sized(name)
    with torch.device("meta"):
        built = build_model(config)
    assert count_parameters(config) == COUNTS[name] == sum(parameter.numel() for parameter in built.parameters())


def test_every_published_size_has_its_parameters_and_operations(shared: Path):
    published = json.loads((shared / "systems" / "counts-roformer-tfctdf-dttnet.json").read_text())
    expected = {name: facts for name, facts in published.items() if "_roformer/" in name or name.startswith("bs_")}
    assert expected.keys() == SIZES.keys()
    for name, facts in expected.items():
        config = sized(name)
        assert count_parameters(config) == facts["parameters"], name
        parts = {"band_split": "split", "mask_estimators": "estimators", "layers": "blocks"}
        for theirs, ours in parts.items():
            numbers = sum(
                prod(shape)
                for key, shape in tensor_shapes(config)
                if key.startswith(f"{ours}.") and not key.endswith("frequencies")
            )
            assert numbers == facts["by_part"][theirs], (name, theirs)
        flop = count_flop(config, facts["chunk_samples"]).forward
        assert flop == pytest.approx(facts["flop_one_chunk"], rel=0.02), name


OWN: dict[str, dict[str, Any]] = {
    "bins": {"bands": {"kind": "bins", "widths": [2, 2, 2, 3, 3, 21]}},
    "mel": {"bands": {"kind": "mel", "n_bands": 4}, "norm": "each", "mask": {"hidden_factor": 2, "hidden_layers": 2}},
    "linear": {
        "bands": {"kind": "bins", "widths": [2, 2, 2, 3, 3, 21]}, "linear_layers": 1, "time_layers": 2, "channels": 1,
        "skip_connections": True, "zero_dc": False,
    },
}  # fmt: skip
"""Variants of a small network; the estimates of each are in the data under its name."""


def own_output(change: dict[str, Any]) -> Tensor:
    """Estimates of numbers from a generator that gives the same bits everywhere."""
    small = {
        "targets": ["vocals", "bass"], "sample_rate_hz": 8000, "stft": {"n_fft": 64, "hop_samples": 14},
        "n_features": 8, "n_blocks": 2, "heads": 2, "head_features": 6,
    }  # fmt: skip
    model = build_model(BsRoformerConfig.parse(small | change)).eval()
    random = np.random.Generator(np.random.PCG64(62))

    def draw(*shape: int) -> Tensor:
        return torch.from_numpy(random.random(shape)).float()

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            numbers = draw(*parameter.shape)
            parameter.copy_(numbers + 0.5 if name.endswith("gain") else numbers - 0.5)
        return model(draw(1, model.config.channels, 1500) - 0.5).signal


@pytest.mark.parametrize("name", OWN)
def test_our_own_numbers_stay_as_they_are(name: str):
    tensors, _ = read(DATA / "bs-roformer.safetensors")
    output = own_output(OWN[name])
    assert (output - tensors[name]).abs().max() <= 1e-5 * tensors[name].abs().max()

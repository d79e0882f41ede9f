"""Every BS-RoFormer and Mel-Band RoFormer of the golden numbers: their weights in, their outputs out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from bandsplit.models.bs_roformer.bands import mel_runs
from bandsplit.models.bs_roformer.weights import read_checkpoint
from bandsplit.models.contract import Checkpoint, Imported
from bandsplit.models.files import model_from_tensors
from bandsplit.models.tensors import count_parameters

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
    assert count_parameters(found.config) + found.config.head_features == int(metadata["parameters"])
    difference = (output[..., : expected.shape[-1]] - expected).abs().max() / expected.abs().max()
    print(name, float(difference))
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

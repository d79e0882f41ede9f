"""Every model, block and checkpoint of the golden numbers: the authors' weights in, the authors' outputs out."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bandsplit.models.bsrnn.build import build_layer
from bandsplit.models.bsrnn.checkpoint import config_from_authors
from bandsplit.models.bsrnn.config import DilatedConfig
from bandsplit.models.bsrnn.tensor_names import _SEQUENCE_PARTS, tensors_from_authors
from bandsplit.models.files import model_from_tensors
from bandsplit.models.importing import import_checkpoint
from bandsplit.models.layers.dual_path import Along
from bandsplit.models.tensors import count_parameters
from golden_files import read_golden

DATA = Path(__file__).parent / "data"
MODELS = [
    "attention-2x16", "base-bass", "base-drums", "base-vocals", "conv-conv", "gru-time-lstm-band", "multi-head-2",
    "naive-stereo", "simo-optimised", "simo-residual", "stft-4096", "tac-prelu", "tac-tanh",
]  # fmt: skip
BLOCKS = ["dilated-conv-3-3", "dilated-conv-time-only-4"]
CHECKPOINTS = ["bass", "separator"]


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference as a fraction of the peak."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def test_every_golden_file_is_tested(shared: Path):
    golden = shared / "golden"
    assert {path.stem for path in (golden / "models").iterdir()} == set(MODELS)
    assert {path.stem for path in (golden / "blocks").iterdir()} == set(BLOCKS)
    assert {path.stem for path in (golden / "checkpoints").glob("*.ckpt")} == set(CHECKPOINTS)


@pytest.mark.parametrize("name", MODELS)
def test_model_with_the_authors_weights_gives_the_authors_output(shared: Path, name: str):
    tensors, metadata = read_golden(shared / "golden" / "models" / f"{name}.safetensors")
    config = config_from_authors(json.loads(metadata["config"]))
    theirs = {key.removeprefix("weight/"): tensor for key, tensor in tensors.items() if key.startswith("weight/")}
    shapes = {key: tuple(tensor.shape) for key, tensor in theirs.items()}
    model = model_from_tensors(config, tensors_from_authors(config, shapes, theirs.__getitem__))
    with torch.inference_mode():
        separation = model(tensors["input"])
    assert count_parameters(config) == int(metadata["parameters"])
    assert relative_difference(separation.signal, tensors["output"]) <= 1e-6
    spec = torch.view_as_real(separation.spec[..., :8])
    assert relative_difference(spec, tensors["output_stft_first_8_frames"]) <= 1e-6


@pytest.mark.parametrize("name", BLOCKS)
def test_dilated_block_gives_the_authors_output(name: str, request: pytest.FixtureRequest):
    here = DATA / f"{name}.safetensors"
    path = here if here.exists() else request.getfixturevalue("shared") / "golden" / "blocks" / here.name
    tensors, metadata = read_golden(path)
    settings = json.loads(metadata["config"])
    output = tensors["input"].permute(0, 1, 3, 2).unsqueeze(1)  # their b k n t is our b c k t n
    for axis in ("time", "band"):
        if settings[f"{axis}_layer"] is None:
            continue
        theirs = settings[f"{axis}_layer"]
        config = DilatedConfig(depth=theirs["n_dil_conv"], kernel=theirs["ks"], hidden_factor=theirs["hs_fac"])
        layer = build_layer(config, settings["feature_dim"], norm_groups=1)
        renamed = {}
        for key in layer.state_dict():
            part, rest = key.split(".", 1)
            renamed[key] = tensors[f"weight/{axis}_net.{_SEQUENCE_PARTS[part]}.{rest}"]
        layer.load_state_dict(renamed, strict=True)
        with torch.inference_mode():
            output = Along(axis, layer)(output)
    expected = tensors["output"].permute(0, 1, 3, 2).unsqueeze(1)
    assert relative_difference(output, expected) <= 1e-6


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_imported_checkpoint_gives_the_authors_output(name: str, request: pytest.FixtureRequest):
    folder = DATA if (DATA / f"{name}.ckpt").exists() else request.getfixturevalue("shared") / "golden" / "checkpoints"
    model, card = import_checkpoint(folder / f"{name}.ckpt")
    tensors, _ = read_golden(folder / f"{name}.io.safetensors")
    with torch.inference_mode():
        output = model(tensors["input"]).signal
    assert relative_difference(output, tensors["output"]) <= 1e-6
    assert "not stated" in card.licence

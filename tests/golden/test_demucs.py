"""The golden numbers of the Demucs lineage: weights and packages of the reference in, its outputs out."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from bandsplit.data.examples.dataset import Example
from bandsplit.models.contract import Checkpoint, ModelConfig
from bandsplit.models.demucs.time_config import DemucsV2Config
from bandsplit.models.demucs.weights import read_checkpoint
from bandsplit.models.families import count_flop, parse_model, tensor_shapes
from bandsplit.models.files import model_from_tensors
from bandsplit.models.importing import read_model
from bandsplit.models.network import SeparationModel, build_model
from bandsplit.models.tensors import count_parameters
from bandsplit.runs.config import RunConfig
from bandsplit.runs.losses import WaveformL1Loss
from bandsplit.training.execution import BatchPlan, Execution, make_fabric
from bandsplit.training.learner import Learner
from bandsplit.training.losses import compute_loss

DATA = Path(__file__).parent / "data"
FORWARD = [
    "htdemucs-4stems", "htdemucs-6stems", "htdemucs-class-defaults", "htdemucs-stft4096", "hdemucs-cac-small",
    "hdemucs-cac-stft4096", "hdemucs-mask-wiener-bands", "demucs3-time", "demucs3-time-rewrite",
]  # fmt: skip
PACKAGES = ["tiny0001-2831134c.th", "tiny0001-hf.safetensors", "tiny0002-37bc3275.th", "tiny0002-hf.safetensors"]
OTHERS = {"demucs2", "train-htdemucs", "htdemucs-apply-bag", "demucs-apply-toy", "tiny0001.io", "tiny0002.io"}
FOUR = ["drums", "bass", "other", "vocals"]
OUTER = {"norm_from": 999, "targets": FOUR}
PUBLISHED: dict[str, dict[str, Any]] = {
    "htdemucs (955717e8)": {"dconv": {"decoder": True, "compression": 8}},
    "htdemucs_6s (5c90dfd2)": {"targets": [*FOUR, "guitar", "piano"], "bottleneck": None},
    "htdemucs paper count, encoder DConv only, width 512": {"dconv": {"decoder": False, "compression": 8}},
    "htdemucs 7 layers, width 512": {"layers": 7},
    "hdemucs_mmi (75fc33f5)": {"family": "hdemucs"},
    "hdemucs mdx 7d865c68 (CaC, multi_freqs)": {
        "family": "hdemucs", **OUTER, "regions": [0.1, 0.3], "region_depth": 2
    },
    "hdemucs mdx c511e2ab (magnitude + Wiener, old padding)": {
        "family": "hdemucs", **OUTER, "spectrum": "magnitude", "old_padding": True
    },
    "demucs v3 time mdx 0d19c1c6 / 7ecf8ec1": {"family": "demucs", "rewrite": False},
    "demucs v3 time repro 9a6b4851 / 1ef250f1": {"family": "demucs"},
    "demucs v2 64 channels (e07c671f, extra 3646af93)": {"family": "demucs_v2"},
    "demucs v2 48 channels (48_hq 28a1282c)": {"family": "demucs_v2", "n_features": 48},
}  # fmt: skip
"""Published networks -> their differences from the default of their family, which is htdemucs."""
OWN: dict[str, dict[str, Any]] = {
    "htdemucs": {
        "family": "htdemucs", "depth": 2, "n_fft": 256, "heads": 2, "layers": 2, "bottleneck": 12,
        "fixed_length": False, "dconv": {"decoder": True, "compression": 2},
    },
    "hdemucs": {
        "family": "hdemucs", "depth": 4, "n_fft": 256, "norm_from": 2, "spectrum": "magnitude", "old_padding": True,
        "dconv": {"lstm_from": 2, "attention_from": 2}, "regions": [0.4], "region_depth": 1,
    },
    "demucs": {"family": "demucs", "depth": 3, "norm_from": 1, "dconv": {"lstm_from": 2, "attention_from": None}},
    "demucs_v2": {"family": "demucs_v2", "depth": 2},
}  # fmt: skip


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors and the metadata of a file."""
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118


def folder(shared: Path) -> Path:
    return shared / "golden" / "systems" / "demucs_mdx_presunet"


def import_weights(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], prefix: str) -> SeparationModel:
    """The model of a golden file; v2 has no package, but a configuration file."""
    theirs = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    kwargs = json.loads(metadata["config"])
    if isinstance(kwargs.get("segment"), dict):
        kwargs["segment"] = kwargs["segment"]["fraction"]
    package = {"klass": metadata["klass"], "args": [], "kwargs": kwargs}
    arguments, document = (None, kwargs) if "model.Demucs" in metadata["klass"] else (package, None)
    shapes = {name: tuple(tensor.shape) for name, tensor in theirs.items()}
    found = read_checkpoint(Checkpoint(shapes, theirs.__getitem__, arguments, document))
    assert found is not None
    return model_from_tensors(found.config, found.tensors)


def separate(model: SeparationModel, mixture: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.eval().separate(mixture)


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference as a fraction of the peak."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def test_every_golden_file_of_the_lineage_is_tested(shared: Path):
    names = {path.name.removesuffix(".safetensors") for path in folder(shared).iterdir()}
    ours = {name for name in names if re.search("demucs|tiny000", name)}
    assert ours == {*FORWARD, *(name.removesuffix(".safetensors") for name in PACKAGES), *OTHERS}


@pytest.mark.parametrize("name", FORWARD)
def test_imported_weights_give_the_reference_output(shared: Path, name: str):
    tensors, metadata = read(folder(shared) / f"{name}.safetensors")
    model = import_weights(tensors, metadata, "weights/")
    assert sum(parameter.numel() for parameter in model.parameters()) == int(metadata["parameters"])
    assert relative_difference(separate(model, tensors["input"]), tensors["output"]) <= 2e-6


def test_demucs_v2_gives_the_reference_output_of_a_chunk_and_of_a_song(shared: Path):
    tensors, metadata = read(folder(shared) / "demucs2.safetensors")
    model = import_weights(tensors, metadata, "weights/").eval()
    config = model.config
    assert isinstance(config, DemucsV2Config)
    with torch.inference_mode():
        found = model(tensors["input"]).signal
        edge = config.edge_samples
        assert relative_difference(found[..., edge:-edge], tensors["output"]) <= 2e-6
        assert not found[..., :edge].any()
        song = tensors["song/input"]
        assert config.fitting_around(song.shape[-1]) == json.loads(metadata["valid_length"])["5003"]
        segment = json.loads(metadata["config"])["segment_length"]
        joined = join_triangles(song, segment, 0.5, lambda chunk: model(chunk).signal, config.fitting_around)
    assert relative_difference(joined[0], tensors["song/output"]) <= 2e-6


def join_triangles(song: Tensor, segment: int, overlap: float, estimate: Any, fitting: Any) -> Tensor:
    """Demucs' chunks in a plain loop: the song around each chunk, triangular weights."""
    length, stride = song.shape[-1], int((1 - overlap) * segment)
    rise = torch.arange(1, segment // 2 + 1)
    triangle = torch.cat([rise, torch.arange(segment - segment // 2, 0, -1)]) / (segment - segment // 2)
    total, weights = torch.zeros(1), torch.zeros(length)
    for start in range(0, length, stride):
        n = min(segment, length - start)
        room = fitting(n) - n
        first = start - room // 2
        inside = song[..., max(first, 0) : first + n + room]
        padded = F.pad(inside, (max(-first, 0), max(first + n + room - length, 0)))
        found = estimate(padded)[..., room // 2 : room // 2 + n]
        total = total + F.pad(found * triangle[:n], (start, length - start - n))
        weights[start : start + n] += triangle[:n]
    return total / weights


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_gives_the_reference_output(shared: Path, name: str):
    tensors, _ = read(folder(shared) / f"{name[:8]}.io.safetensors")
    found = read_model(folder(shared) / name)
    assert {*found.types.values()} == {torch.float16}
    assert found.model.config.targets == tuple(FOUR)
    assert relative_difference(separate(found.model, tensors["input"]), tensors["output"]) <= 2e-6


def unfixed(config: ModelConfig) -> dict[str, Any]:
    """The settings of a model that takes any length."""
    return config.model_dump() | {"fixed_length": False}


def test_four_training_steps_follow_the_reference(shared: Path):
    golden, _ = read(folder(shared) / "train-htdemucs.safetensors")
    model = import_weights(*read(folder(shared) / "htdemucs-6stems.safetensors"), "weights/").train()
    targets = model.config.targets
    weights = dict(zip(targets, [1, 1, 0.1, 0.1, 2, 1], strict=True))
    training = {
        "loss": {"kind": "l1-waveform", "weights": weights}, "learning_rate": 3e-3, "learning_rate_rule": "none",
        "decay": {"kind": "constant"}, "clip_norm": None, "excerpt_s": 2500 / 44100,
        "average": {"kind": "competing", "update_decays": [0.9, 0.9995]},
        "chunks": {"kind": "triangle", "chunk_s": 2500 / 44100, "overlap": 0.0, "multiple_samples": 0},
    }  # fmt: skip
    config = RunConfig.parse({"recipe": "test", "model": unfixed(model.config), "training": training})
    learner = Learner(config, BatchPlan(2, 1, 1), Execution("cpu"), make_fabric(config.training, Execution("cpu")))
    learner.plain_model.load_state_dict(model.state_dict())
    losses, norms = [], []
    for step in range(4):
        sources = golden[f"sources/{step}"]
        for name, expected in zip(targets, golden["losses_per_source"][step].tolist(), strict=True):
            alone = WaveformL1Loss(weights={**dict.fromkeys(targets, 0.0), name: 3.0})
            signal = learner.model(sources.sum(1)).signal
            assert compute_loss(alone, signal, sources, names=targets).item() == pytest.approx(expected, rel=1e-3)
        losses.append(learner.backward(Example(sources.sum(1), sources, ["", ""]), last=True).item())
        norms.append(learner.update(config.training.learning_rate).item())
    assert losses[0] == pytest.approx(float(golden["losses"][0]), rel=1e-5)
    assert losses == pytest.approx(golden["losses"].tolist(), rel=1e-3)
    assert norms == pytest.approx(golden["gradient_norms"].tolist(), rel=1e-3)
    names = {"after": "weights", "ema/0.9": "average over updates 0.9", "ema/0.9995": "average over updates 0.9995"}
    states = {prefix: learner.candidates[name].state_dict() for prefix, name in names.items()}
    compared = 0
    for prefix, state in states.items():
        for key in golden:
            if key.startswith(f"{prefix}/"):
                compared += 1
                torch.testing.assert_close(state[key.removeprefix(f"{prefix}/")], golden[key], rtol=1e-3, atol=2e-4)
    assert compared == 12


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_the_published_parameters_tensors_and_operations(shared: Path, name: str):
    counts = json.loads((shared / "systems" / "counts-demucs-mdxnet-presunet.json").read_text())[name]
    config = parse_model({"family": "htdemucs", "targets": FOUR} | PUBLISHED[name])
    assert count_parameters(config) == counts["parameters"]
    assert len([*tensor_shapes(config)]) == counts["state_tensors"]
    samples = config.geometry.fitting(round(counts["forward_seconds"] * 44100))
    assert count_flop(config, samples).forward == pytest.approx(
        counts["flops_forward"] - lstm_flop(config, samples), rel=0.02
    )


def lstm_flop(config: Any, samples: int) -> float:
    """Operations of the LSTM layers without the linear layers behind them; the published counts have them twice."""
    if config.family == "htdemucs":
        return 0
    if config.family == "demucs_v2":
        steps = (2 * samples - 5460) // 4096
        return steps * 80 * config.features(config.depth - 1) ** 2
    without = config.model_copy(update={"dconv": config.dconv.model_copy(update={"lstm_from": None})})
    return (count_flop(config, samples).forward - count_flop(without, samples).forward) * 80 / 84


def own_output(changes: dict[str, Any]) -> Tensor:
    """Estimates of numbers from a generator that gives the same bits everywhere."""
    random = np.random.Generator(np.random.PCG64(17))

    def draw(*shape: int) -> Tensor:
        return torch.from_numpy(random.random(shape)).float()

    model = build_model(
        parse_model({"targets": ["vocals", "other"], "n_features": 4, "sample_rate_hz": 8000} | changes)
    )
    for tensor in model.state_dict().values():
        width = max(tensor[0].numel(), 1)
        tensor.copy_(draw(*tensor.shape) + 0.5 if tensor.dim() == 1 else (draw(*tensor.shape) - 0.5) * 3 / width**0.5)
    return separate(model, draw(1, 2, 801) - 0.5)


@pytest.mark.parametrize("name", OWN)
def test_our_own_numbers_stay_as_they_are(name: str):
    tensors, _ = read(DATA / "demucs.safetensors")
    assert relative_difference(own_output(OWN[name]), tensors[name]) <= 1e-5

"""Export of traced networks: each option of each family equals PyTorch, at any length and batch, within its limits."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from bandsplit.core.errors import ConfigError
from bandsplit.models.card import read_card
from bandsplit.models.families import onnx_core
from bandsplit.models.onnx import exporting
from bandsplit.models.onnx.core import TracedCore
from bandsplit.models.onnx.metadata import parse_onnx
from bandsplit.models.onnx.sizes import count_costs
from bandsplit.separation.export import export_model
from bandsplit.separation.onnx_network import OnnxNetwork
from bandsplit.separation.separator import Separator
from bandsplit.separation.torch_network import TorchNetwork
from command_line import run_command
from tolerances import assert_same_signal
from traced_models import FAMILIES, RELATIVE, TRACED, make_traced, write_traced

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(("family", "option"), TRACED)
def test_every_option_equals_pytorch_and_takes_half_of_its_limits_at_most(family: str, option: str, tmp_path: Path):
    file = write_traced(tmp_path, family, TRACED[family, option])
    done = export_model(file, tmp_path / "model.onnx")
    assert done.difference < RELATIVE[family]
    config, card = read_card(done.path)
    assert (config, card) == read_card(file)
    core = onnx_core(config)
    assert isinstance(core, TracedCore)
    graph = parse_onnx(done.path.read_bytes()).graph
    limits = core.limit_costs(graph, config)
    taken = count_costs(graph, core.mixture_shape(config), limits)
    assert 2 * taken.numbers < limits.numbers
    assert 2 * taken.operations < limits.operations


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_takes_any_length_and_batch(family: str, tmp_path: Path):
    file = write_traced(tmp_path, family)
    path = export_model(file, tmp_path / "model.onnx").path
    ours, theirs = OnnxNetwork(path, threads=2), TorchNetwork.open(file, torch.device("cpu"))
    generator = np.random.default_rng(1)
    for batch, samples in ((1, 2), (3, 1000), (2, 4001)):
        noise = generator.normal(0, 0.1, (batch, 2, samples)).astype(np.float32)
        assert_same_signal(ours.estimate(noise), theirs.estimate(noise), noise, RELATIVE[family])


def test_silence_gives_what_pytorch_gives(tmp_path: Path):
    option = "magnitude, old padding, regions"  # with phases, which silence does not have
    file = write_traced(tmp_path, "hdemucs", TRACED["hdemucs", option])
    path = export_model(file, tmp_path / "model.onnx").path
    half = np.random.default_rng(1).normal(0, 0.1, (2, 2, 3000)).astype(np.float32)
    half[0] = half[1, :, 1000:] = 0
    found = OnnxNetwork(path).estimate(half)
    assert_same_signal(found, TorchNetwork.open(file, torch.device("cpu")).estimate(half), half)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_commands_export_a_model_and_separate_with_it_as_without(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    song = np.random.default_rng(0).uniform(-0.3, 0.3, (12_000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "song.wav", song, 8000, subtype="FLOAT")
    file, exported = write_traced(tmp_path, family, {}), tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ended = run_command(capsys, "export", file, exported)
    assert ended.code == 0
    assert ended.err == ""
    assert ended.out.count("\n") == 1
    for model in (file, exported):
        assert (
            run_command(capsys, "separate", tmp_path / "song.wav", "-n", model, "-o", tmp_path / model.suffix).code == 0
        )
    found, expected = (
        soundfile.read(tmp_path / suffix / "song" / "vocals.wav", dtype="float32")[0]
        for suffix in (".onnx", ".safetensors")
    )
    assert_same_signal(found, expected, song, RELATIVE[family])
    # In memory the song is one array; from the file it is read and written part by part.
    in_memory = Separator(exported).separate(song.T, 8000)["vocals"].T
    assert_same_signal(found, in_memory, song, RELATIVE[family])


@pytest.mark.parametrize("family", FAMILIES)
def test_8_bit_integers_are_refused_for_traced_families(family: str, tmp_path: Path):
    file = write_traced(tmp_path, family)
    with pytest.raises(ConfigError) as caught:
        export_model(file, tmp_path / "model.onnx", int8=True)
    assert str(caught.value) == (
        f"--int8: would change nothing in {file}: models of family '{family}' are exported in 32 bits only; leave "
        f"--int8 out"
    )


def test_more_weights_than_a_file_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exporting, "MOST_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"export: the model has 0.00 GB of weights, and an ONNX file holds at most"):
        export_model(write_traced(tmp_path, "dttnet"), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("bs_roformer", {"n_features": 64}),
        ("tfc_tdf", {"n_features": 128}),
        ("dttnet", {"unet": {"n_features": 128, "levels": 1}}),
        ("mdx_net", {"unet": {"block": "plain", "n_features": 64, "levels": 2}}),
        ("htdemucs", {"n_features": 64}),
        ("hdemucs", {"n_features": 64}),
        ("demucs", {"n_features": 64}),
        ("demucs_v2", {"n_features": 64}),
        ("presunet", {"widths": [64, 64]}),
    ],
)
def test_a_configuration_of_a_larger_model_than_the_file_holds_is_refused(family: str, changes: dict[str, Any]):
    model = make_traced(family, {})
    core = onnx_core(model.config)
    file = parse_onnx(core.build(model, {}, False))
    core.check(file, model.config)
    larger = type(model.config).parse(model.config.model_dump() | changes)
    with pytest.raises(ValueError, match=r"it has \d+ weights, but a model of its configuration has at least \d+"):
        core.check(file, larger)

"""Export to ONNX: every architecture equals PyTorch, nothing half is left, and errors say what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.models.card import read_card
from bandsplit.separation import export
from bandsplit.separation.export import export_model
from bandsplit.separation.onnx_network import OnnxNetwork
from bandsplit.separation.torch_network import TorchNetwork
from command_line import run_command
from onnx_models import ARCHITECTURES, write_model
from tolerances import assert_same_signal

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("changes", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_every_architecture_equals_pytorch_at_any_length_and_batch(changes: dict[str, Any], tmp_path: Path):
    file = write_model(tmp_path, changes)
    done = export_model(file, tmp_path / "model.onnx")
    assert done.difference < 1e-5
    assert done.bytes == done.path.stat().st_size
    assert read_card(done.path) == read_card(file)

    ours, theirs = OnnxNetwork(done.path, threads=2), TorchNetwork.open(file, torch.device("cpu"))
    generator = np.random.default_rng(1)
    for batch, samples in ((1, 1), (3, 1000), (2, 4001)):
        noise = generator.normal(0, 0.1, (batch, ours.config.channels, samples)).astype(np.float32)
        expected = theirs.estimate(noise)
        assert_same_signal(ours.estimate(noise), expected, noise)


@pytest.mark.parametrize("channels", [1, 3])
def test_independent_channels_may_be_any_number(channels: int, tmp_path: Path):
    file = write_model(tmp_path)
    path = export_model(file, tmp_path / "model.onnx").path
    noise = np.random.default_rng(0).normal(0, 0.1, (2, channels, 1000)).astype(np.float32)
    expected = TorchNetwork.open(file, torch.device("cpu")).estimate(noise)
    for threads in (1, 2, 4):
        found = OnnxNetwork(path, threads).estimate(noise)
        assert_same_signal(found, expected, noise)


@pytest.mark.parametrize("name", ["lstm", "TAC prelu", "heads", "targets"])
def test_8_bit_integers_change_little(name: str, tmp_path: Path):
    file = write_model(tmp_path, ARCHITECTURES[name])
    done = export_model(file, tmp_path / "model.onnx", int8=True)
    assert 40 < done.distance_db < 90  # sums of products that clip, as on CPUs without VNNI, leave 25 to 30
    assert export_model(file, tmp_path / "same.onnx").distance_db > 100


def test_8_bit_integers_for_what_has_no_lstm_are_refused(tmp_path: Path):
    file = write_model(tmp_path, ARCHITECTURES["conv"])
    with pytest.raises(ConfigError, match=r"model.safetensors: it has no LSTM, and 8-bit integers are for LSTMs only"):
        export_model(file, tmp_path / "model.onnx", int8=True)


def test_a_graph_that_computes_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = write_model(tmp_path)
    monkeypatch.setattr(export, "LIMIT", 1e-12)
    with pytest.raises(ModelFileError, match=r"model.onnx: not written, since its estimates differ .* by \d"):
        export_model(file, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == [file]


def test_the_command_tells_the_difference_and_does_not_replace_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file, out = write_model(tmp_path), tmp_path / "new" / "model.onnx"
    ended = run_command(capsys, "export", file, out)
    assert ended.code == 0
    assert "differs from PyTorch by" in ended.out
    before = out.read_bytes()
    ended = run_command(capsys, "export", file, out)
    assert ended.code == 1
    assert "model.onnx: exists already; choose another name, or replace it with --force" in ended.err
    assert out.read_bytes() == before
    assert run_command(capsys, "export", file, out, "--force", "--int8").code == 0
    assert out.read_bytes() != before
    assert list(out.parent.iterdir()) == [out]


def test_a_folder_of_models_becomes_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "models").mkdir()
    for target in ("vocals", "bass"):
        write_model(tmp_path / "models", {"targets": [target]}).rename(tmp_path / "models" / f"{target}.safetensors")
    ended = run_command(capsys, "export", tmp_path / "models", tmp_path / "one.onnx")
    assert ended.code == 1
    assert "has 2 files" in ended.err
    assert run_command(capsys, "export", tmp_path / "models", tmp_path / "onnx").code == 0
    assert sorted(path.name for path in (tmp_path / "onnx").iterdir()) == ["bass.onnx", "vocals.onnx"]


@pytest.mark.parametrize(
    ("model", "out", "message"),
    [
        (
            "model.safetensors",
            "model.bin",
            "model.bin: is not a name of an ONNX model; choose one that ends with .onnx",
        ),
        ("model.onnx", "other.onnx", "model.onnx: is an ONNX file already; give the .safetensors"),
        ("missing.safetensors", "other.onnx", "missing.safetensors: no such model file"),
        ("model.safetensors", "file/x.onnx", "file/x.onnx: cannot be written"),
    ],
)
def test_what_cannot_be_exported_is_named(model: str, out: str, message: str, tmp_path: Path):
    write_model(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ModelFileError) as caught:
        export_model(tmp_path / model, tmp_path / out)
    assert message in str(caught.value)

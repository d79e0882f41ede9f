"""Separation by onnxruntime: the same stems as PyTorch's, where PyTorch is missing too; bad files are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.models.pretrained.registry import find_models
from bandsplit.separation.export import export_model
from bandsplit.separation.separator import Separator
from command_line import run_command
from environments import Environment
from onnx_models import ARCHITECTURES, write_model
from traced_models import write_traced

if TYPE_CHECKING:
    from onnx import ModelProto
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.safetensors and model.onnx, and a song."""
    folder = tmp_path_factory.mktemp("onnx")
    export_model(write_model(folder, ARCHITECTURES["targets"]), folder / "model.onnx")
    song = np.random.default_rng(0).uniform(-0.3, 0.3, (30_000, 2))
    soundfile.write(folder / "song.wav", song, 8000, subtype="FLOAT")
    return folder


def largest_difference(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    assert list(ours) == list(theirs)
    return max(float(np.abs(ours[name] - theirs[name]).max() / np.abs(theirs[name]).max()) for name in theirs)


def test_the_stems_equal_those_of_pytorch(exported: Path):
    song, rate = soundfile.read(exported / "song.wav", dtype="float32", always_2d=True)
    theirs = Separator(exported / "model.safetensors", device="cpu").separate(song.T, rate)
    for threads in (1, 2):
        onnx_separator = Separator(exported / "model.onnx", threads=threads)
        assert onnx_separator.device == "cpu"
        assert largest_difference(onnx_separator.separate(song.T, rate), theirs) < 1e-5
    one = Separator(exported / "model.onnx", targets=["bass"], batch_size=2).separate(song.T, rate)
    assert largest_difference(one, {"bass": theirs["bass"]}) < 1e-5


def test_without_pytorch_the_command_and_the_class_separate_as_with_it(exported: Path, tmp_path: Path):
    environment = Environment(tmp_path / "venv", extras=["onnx"], without=["torch"])
    run = environment.run
    assert "ModuleNotFoundError" in run("-c", "import torch").stderr
    ended = run("-m", "bandsplit", "separate", exported / "song.wav", "-n", exported / "model.onnx", "-o", "stems")
    assert ended.returncode == 0, ended.stderr
    theirs = Separator(exported / "model.safetensors", device="cpu")
    theirs.separate_file(exported / "song.wav", environment.folder / "expected")
    expected, found = (
        {path.stem: soundfile.read(path)[0] for path in sorted((environment.folder / folder / "song").iterdir())}
        for folder in ("expected", "stems")
    )
    assert largest_difference(found, expected) < 1e-5

    script = "import sys, numpy, bandsplit; s = bandsplit.Separator(sys.argv[1]); "
    script += "stems = s.separate(numpy.zeros((2, 100), 'float32'), 8000); print(*stems, 'torch' in sys.modules)"
    assert run("-c", script, exported / "model.onnx").stdout.split() == ["vocals", "bass", "drums", "False"]
    signals = export_model(write_traced(tmp_path, "htdemucs"), tmp_path / "signals.onnx").path
    assert run("-c", script, signals).stdout.split() == ["vocals", "False"]
    ended = run("-m", "bandsplit", "separate", exported / "song.wav", "-n", exported / "model.safetensors")
    assert ended.returncode == 2
    assert "model.safetensors: needs PyTorch, which is not installed here" in ended.stderr
    assert "Traceback" not in ended.stderr
    ended = run("-m", "bandsplit", "export", exported / "model.safetensors", "x.onnx")
    assert ended.returncode == 1
    assert "this needs PyTorch" in ended.stderr
    assert "Traceback" not in ended.stderr
    ended = run("-m", "bandsplit", "doctor")
    assert ended.returncode == 0, ended.stdout
    assert "missing: only .onnx models can be used" in ended.stdout
    assert " 0 failed" in ended.stdout


def test_a_folder_is_taken_by_its_runtime(exported: Path):
    assert find_models(exported) == [exported / "model.safetensors"]
    assert find_models(exported, runtime="onnx") == [exported / "model.onnx"]


def test_the_runtime_is_an_option_of_the_command(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = ("separate", exported / "song.wav", "-o", tmp_path, "--runtime")
    assert run_command(capsys, *options, "onnx", "-n", exported).code == 0
    ended = run_command(capsys, *options, "onnx", "-n", exported / "model.safetensors")
    assert ended.code == 2
    assert "make one with: bandsplit export" in ended.err
    ended = run_command(capsys, *options, "torch", "-n", exported / "model.onnx")
    assert ended.code == 2
    assert "is an ONNX file, and runtime is 'torch'" in ended.err
    assert "make one" not in ended.err


def test_a_device_that_onnx_files_do_not_take_is_refused(exported: Path):
    with pytest.raises(ConfigError, match=r"device: 'cuda' cannot compute .*model\.onnx; ONNX files run on 'cpu'"):
        Separator(exported / "model.onnx", device="cuda")
    with pytest.raises(ConfigError, match="runtime: 'tensorrt' is unknown; choose one of auto, torch, onnx"):
        Separator(exported / "model.onnx", runtime="tensorrt")  # type: ignore[arg-type]


@pytest.mark.parametrize("part", range(10))
def test_a_cut_file_is_refused(part: int, exported: Path, tmp_path: Path):
    whole = (exported / "model.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(whole[: len(whole) * part // 10])
    with pytest.raises(ModelFileError, match=r"cut\.onnx: .*export"):
        Separator(path)


def other_data(model: ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")


def other_data_in_a_node(model: ModelProto) -> None:
    tensor = onnx.TensorProto(dims=[1], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/hostname")
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["more"], value=tensor))


def unknown_operator(model: ModelProto) -> None:
    model.graph.node[0].domain = "evil.example"
    model.opset_import.add(domain="evil.example", version=1)


def no_metadata(model: ModelProto) -> None:
    del model.metadata_props[:]


def other_config(model: ModelProto) -> None:
    entry = next(entry for entry in model.metadata_props if entry.key == "config")
    entry.value = entry.value.replace('"n_fft":128', '"n_fft":256')


def broken_config(model: ModelProto) -> None:
    next(entry for entry in model.metadata_props if entry.key == "config").value = '{"targets": 3}'


def huge_config(model: ModelProto) -> None:
    entry = next(entry for entry in model.metadata_props if entry.key == "config")
    entry.value = entry.value.replace('"n_blocks":2', '"n_blocks":500')


def missing_weights(model: ModelProto) -> None:
    del model.graph.initializer[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_data, "takes weights from another file"),
        (other_data_in_a_node, "its attribute has a field 5 of type 2, which `bandsplit export` does not write"),
        (unknown_operator, "its operators are of"),
        (no_metadata, "was not written by `bandsplit export`"),
        (other_config, "was changed after the export"),
        (broken_config, "its metadata does not describe a model"),
        (huge_config, "its configuration needs"),
        (missing_weights, "is not one that `bandsplit export` writes"),
    ],
)
def test_a_foreign_or_changed_file_is_refused(
    change: Callable[[ModelProto], None], message: str, exported: Path, tmp_path: Path
):
    model = onnx.load(exported / "model.onnx")
    change(model)
    path = tmp_path / "changed.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError) as caught:
        Separator(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\x00" * 100, b"RIFF" * 50, b"\xff" * 64, b"{}", bytes(range(256))])
def test_what_is_no_onnx_file_is_refused(data: bytes, tmp_path: Path):
    path = tmp_path / "x.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"x\.onnx: "):
        Separator(path)


def test_threads_may_use_one_separator(exported: Path):
    from concurrent.futures import ThreadPoolExecutor

    separator = Separator(exported / "model.onnx", threads=2)
    songs = [np.random.default_rng(i).uniform(-0.5, 0.5, (2, 9000)).astype(np.float32) for i in range(4)]
    alone = [separator.separate(song, 8000)["vocals"] for song in songs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda song: separator.separate(song, 8000)["vocals"], songs))
    for ours, theirs in zip(together, alone, strict=True):
        np.testing.assert_array_equal(ours, theirs)

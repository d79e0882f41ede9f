"""Separation by the CPU kernels without PyTorch: the same stems as PyTorch's; chosen where it is quickest."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.core.kernels import KernelPrecision, search_kernels
from bandsplit.models.arrays import read_arrays
from bandsplit.models.card import read_card
from bandsplit.models.files import load_model, save_model
from bandsplit.separation.native_network import NativeNetwork, native_problem
from bandsplit.separation.opening import open_network, runtime_for
from bandsplit.separation.separator import Separator
from bandsplit.separation.torch_network import TorchNetwork
from command_line import run_command
from cpu_kernels import installed_kernels
from environments import Environment
from onnx_models import ARCHITECTURES, CARD, write_model
from songs import noise

WIDE = {"n_features": 32}
OTHER_LAYERS = ["conv", "dilated", "heads and groups"]
LEAST_DB: dict[KernelPrecision, float] = {"bf16": 45, "int8": 30}


@pytest.fixture(autouse=True)
def _kernels():
    installed_kernels()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path, ARCHITECTURES["targets"] | WIDE)


def by_torch(path: Path, mixture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Estimate without kernels."""
    with monkeypatch.context() as change:
        change.setenv("BANDSPLIT_KERNELS", "off")
        search_kernels.cache_clear()
        estimate = TorchNetwork.open(path, torch.device("cpu")).estimate(mixture)
    search_kernels.cache_clear()
    return estimate


def snr_db(found: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10(np.square(expected).sum() / np.square(found - expected).sum()))


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in OTHER_LAYERS])
def test_every_architecture_equals_that_of_pytorch(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_model(tmp_path, ARCHITECTURES[name] | WIDE)
    for count, samples, allowed in ((3, 5001, 1e-6), (1, 1, 1e-5)):  # a sample alone is small beside its frame
        mixture = np.random.default_rng(0).normal(0, 0.1, (count, 2, samples)).astype(np.float32)
        expected = by_torch(path, mixture, monkeypatch)
        found = NativeNetwork(path, threads=2).estimate(mixture)
        assert np.abs(found - expected).max() <= allowed * np.abs(expected).max(), samples


@pytest.mark.parametrize("precision", LEAST_DB)
@pytest.mark.parametrize("name", ["TAC norm", "gru", "attention", "overlapping bands, merged, context"])
def test_lower_precisions_are_near_it(
    name: str, precision: KernelPrecision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if precision not in installed_kernels().precisions:
        pytest.skip(f"no {precision} here")
    path, mixture = write_model(tmp_path, ARCHITECTURES[name] | WIDE), noise(2, 9000)[None]
    found = NativeNetwork(path, precision=precision).estimate(mixture)
    assert LEAST_DB[precision] <= snr_db(found, by_torch(path, mixture, monkeypatch)) < 100


def test_the_number_of_threads_changes_no_bit(model: Path):
    mixture = noise(2, 9000).reshape(3, 2, 3000)
    one = NativeNetwork(model, threads=1).estimate(mixture)
    for threads in (2, 3, 8):
        np.testing.assert_array_equal(NativeNetwork(model, threads=threads).estimate(mixture), one)


def test_silence_is_silence_and_nan_is_not_hidden(model: Path):
    network = NativeNetwork(model)
    assert not network.estimate(np.zeros((1, 2, 3000), np.float32)).any()
    broken = noise(2, 3000)[None].copy()
    broken[0, 0, 1000] = np.nan
    assert np.isnan(network.estimate(broken)).any()


def test_only_the_decoders_of_wanted_targets_run(model: Path):
    mixture = noise(2, 3000)[None]
    one = open_network(model, "cpu", ["bass"], runtime="native")
    assert one.config.targets == ("bass",)
    np.testing.assert_array_equal(one.estimate(mixture)[:, 0], NativeNetwork(model).estimate(mixture)[:, 1])


def test_half_precision_in_a_file_is_read_as_pytorch_reads_it(model: Path):
    loaded = load_model(model)
    types = [torch.float32, torch.float16, torch.bfloat16]
    stored = {name: types[number % 3] for number, name in enumerate(loaded.state_dict())}
    for kinds in (stored, {name: torch.float16 for name in stored}):
        save_model(model, loaded, CARD, kinds)
        _, arrays = read_arrays(model)
        for name, tensor in load_model(model).state_dict().items():
            np.testing.assert_array_equal(arrays[name], tensor.numpy())


def test_damaged_files_are_refused_by_name(model: Path):
    loaded, data = load_model(model), model.read_bytes()
    model.write_bytes(data[:-100])
    with pytest.raises(ModelFileError, match=r"model\.safetensors: is not a model file or is damaged"):
        NativeNetwork(model)
    for value, reason in (
        (float("nan"), ".* not finite: encoder"),
        (1e38, "weights are not finite, or above 1e30; use --runtime torch"),
    ):
        with torch.no_grad():
            next(loaded.parameters()).fill_(value)
        save_model(model, loaded, CARD)
        with pytest.raises(ModelFileError, match=rf"model\.safetensors: {reason}"):
            NativeNetwork(model)
    save_model(model, load_model_in_double(data, model), CARD, {"encoder.projections.0.weight": torch.float64})
    with pytest.raises(ModelFileError, match=r"of another type: encoder\.projections\.0\.weight is F64, expected F32"):
        NativeNetwork(model)


def test_auto_leaves_weights_above_1e30_to_pytorch(model: Path):
    loaded = load_model(model)
    with torch.no_grad():
        next(loaded.parameters()).view(-1)[0] = 2e30
    save_model(model, loaded, CARD)
    assert isinstance(open_network(model, "cpu"), TorchNetwork)
    with pytest.raises(ModelFileError, match=r"model\.safetensors: weights are not finite, or above 1e30; use"):
        open_network(model, "cpu", runtime="native")


def load_model_in_double(data: bytes, path: Path):
    path.write_bytes(data)
    return load_model(path)


def test_auto_chooses_it_on_a_cpu_for_what_it_computes(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    quick = installed_kernels().is_quick
    assert runtime_for(model, "cpu", "auto", "fp32") == ("native" if quick else "torch")
    assert runtime_for(model, "cpu", "auto", "fp16") == "torch"
    assert runtime_for(model, "cuda", "auto", "fp32") == "torch"
    assert runtime_for(model, "cpu", "torch", "fp32") == "torch"
    assert runtime_for(load_model(model), "cpu", "auto", "fp32") == "torch"
    monkeypatch.setattr("bandsplit.separation.opening.may_have_gpu", lambda: True)
    assert runtime_for(model, "auto", "auto", "fp32") == (
        "torch" if torch.cuda.is_available() or not quick else "native"
    )
    (tmp_path / "conv").mkdir()
    conv = write_model(tmp_path / "conv", ARCHITECTURES["conv"] | WIDE)
    assert runtime_for(conv, "cpu", "auto", "fp32") == "torch"


def test_what_it_lacks_is_said(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(path: Path, device: str = "auto", precision: str = "fp32") -> str:
        with pytest.raises(ConfigError) as error:
            Separator(path, device=device, runtime="native", precision=precision)  # type: ignore[arg-type]
        return str(error.value)

    assert refused(model, "cuda") == f"{model}: runtime 'native' computes on 'cpu' only; use 'torch'"
    assert "runtime 'native' has no products in fp16; use 'torch'" in refused(model, precision="fp16")
    with pytest.raises(ConfigError, match=r"^runtime: 'native' is for files, not for a model object$"):
        Separator(load_model(model), runtime="native")
    for name in OTHER_LAYERS:
        path = write_model(tmp_path, ARCHITECTURES[name] | WIDE)
        assert "has recurrent layers only, and the layer 'time' of this model is" in refused(path)
    narrow = write_model(tmp_path, ARCHITECTURES["heads"])
    assert "needs features in multiples of 16 per head and group; this model has 4" in refused(narrow)
    search_kernels.cache_clear()
    monkeypatch.setenv("BANDSPLIT_KERNELS", "avx2")
    assert "runtime 'native' has no products in bf16: the kernels' set avx2 has fp32, int8; use 'torch'" in refused(
        model, precision="bf16"
    )
    monkeypatch.setenv("BANDSPLIT_KERNELS", "off")
    search_kernels.cache_clear()
    try:
        assert "needs the CPU kernels (off (BANDSPLIT_KERNELS))" in refused(narrow)
        assert native_problem(read_card(narrow)[0], "fp32") is not None
    finally:
        search_kernels.cache_clear()


def test_the_command_separates_without_pytorch(model: Path, tmp_path: Path):
    song = np.random.default_rng(0).uniform(-0.3, 0.3, (30_000, 2))
    soundfile.write(tmp_path / "song.wav", song, 8000, subtype="FLOAT")
    environment = Environment(tmp_path / "venv", extras=["kernels"], without=["torch"])
    assert "ModuleNotFoundError" in environment.run("-c", "import torch").stderr
    command = "-m", "bandsplit", "separate", tmp_path / "song.wav", "-n", model
    ended = environment.run(*command, "-o", "stems")
    assert ended.returncode == 0, ended.stderr
    Separator(model, device="cpu", runtime="torch").separate_file(tmp_path / "song.wav", tmp_path / "expected")
    for path in sorted((tmp_path / "expected" / "song").iterdir()):
        theirs, ours = soundfile.read(path)[0], soundfile.read(environment.folder / "stems" / "song" / path.name)[0]
        assert np.abs(ours - theirs).max() <= 1e-6 * np.abs(theirs).max()
    ended = environment.run(*command, "-o", "rough", "--precision", "int8")
    assert ended.returncode == 0, ended.stderr
    conv = write_model(tmp_path, ARCHITECTURES["conv"] | WIDE)
    ended = environment.run("-m", "bandsplit", "separate", tmp_path / "song.wav", "-n", conv)
    assert ended.returncode == 2
    assert "needs PyTorch, which is not installed here (runtime 'native' has recurrent layers only" in " ".join(
        ended.stderr.split()
    )
    report = environment.run("-m", "bandsplit", "doctor").stdout
    assert "only models that the CPU kernels compute can be used" in " ".join(report.split())


def test_the_option_is_there(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    soundfile.write("song.wav", np.zeros((9000, 2)), 8000, subtype="FLOAT")
    ended = run_command(capsys, "separate", "song.wav", "-n", model, "--runtime", "native", "-o", "out")
    assert ended.code == 0, ended.err
    assert not soundfile.read("out/song/bass.wav")[0].any()

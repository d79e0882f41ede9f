"""Complete networks by the CPU kernels: equal to PyTorch in single precision, near it in lower ones."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bandsplit.core.errors import ConfigError
from bandsplit.core.kernels import KernelPrecision, search_kernels
from bandsplit.models.network import SeparationModel, build_model
from bandsplit.recipes.catalogue import find_recipe
from bandsplit.separation.separator import Separator
from bandsplit.separation.torch_network import TorchNetwork
from cpu_kernels import installed_kernels
from places import ROOT
from songs import noise, write_dataset
from tiny_models import RATE_HZ, separator, tiny_model, write_tiny_model

LEAST_DB: dict[KernelPrecision, float] = {"fp32": 110, "bf16": 45, "int8": 30}
"""Signal-to-noise ratios of small networks; those of large ones are 10 dB higher."""
NETWORKS: dict[str, dict[str, Any]] = {
    "base": {},
    "groups and heads": {"n_features": 64, "norm_groups": 2, "heads": 2},
    "tac": {"stereo": {"kind": "tac", "activation": "prelu"}, "attention": {"heads": 2, "encoding_dim": 4}},
    "merged": {"stereo": {"kind": "merged"}},
    "one layer of two": {"band": {"kind": "conv"}},
    "gru": {"time": {"kind": "gru"}, "band": {"kind": "gru"}},
}


@pytest.fixture
def _without_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("BANDSPLIT_KERNELS", "off")
    search_kernels.cache_clear()
    yield
    search_kernels.cache_clear()


def model_of(**changes: Any) -> SeparationModel:
    """A network with bands and features enough for integers, and parameters away from their start."""
    model = tiny_model("vocals", "bass", **{"n_features": 32, "n_blocks": 2, "bands": [[500, 8]]} | changes)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


def by_torch(model: SeparationModel, mixture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Estimate without kernels."""
    with monkeypatch.context() as change:
        change.setenv("BANDSPLIT_KERNELS", "off")
        search_kernels.cache_clear()
        estimate = TorchNetwork(model, torch.device("cpu")).estimate(mixture)
    search_kernels.cache_clear()
    return estimate


def snr_db(found: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10(np.square(expected).sum() / np.square(found - expected).sum()))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_near_those_of_pytorch(name: str, precision: KernelPrecision, monkeypatch: pytest.MonkeyPatch):
    if precision not in installed_kernels().precisions:
        pytest.skip(f"no {precision} here")
    model, mixture = model_of(**NETWORKS[name]), noise(2, 9000)[None]
    expected = by_torch(model, mixture, monkeypatch)
    found = TorchNetwork(model, torch.device("cpu"), precision=precision).estimate(mixture)
    if precision == "fp32":
        assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()
    else:
        assert np.abs(found - expected).max() > 0
    assert snr_db(found, expected) >= LEAST_DB[precision]


@pytest.mark.parametrize(("precision", "least_db"), [("fp32", 110), ("int8", 25)])
@pytest.mark.parametrize("recipe", ["mini-bs-roformer", "mini-htdemucs"])
def test_transformers_are_near_those_of_pytorch(
    recipe: str, precision: KernelPrecision, least_db: float, monkeypatch: pytest.MonkeyPatch
):
    if not installed_kernels().is_quick:
        pytest.skip("torch computes linear layers here")
    torch.manual_seed(0)
    model = build_model(find_recipe(recipe).run_config(["vocals"]).model).eval().requires_grad_(False)
    mixture = noise(2, model.config.geometry.fixed_samples or 20_480)[None]
    expected = by_torch(model, mixture, monkeypatch)
    found = TorchNetwork(model, torch.device("cpu"), precision=precision).estimate(mixture)
    assert least_db <= snr_db(found, expected) < 200


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_the_number_of_threads_changes_no_bit(precision: KernelPrecision):
    if precision not in installed_kernels().precisions:
        pytest.skip(f"no {precision} here")
    network = TorchNetwork(model_of(), torch.device("cpu"), precision=precision)
    mixture = noise(2, 9000)[None]
    one = network.estimate(mixture)
    torch.set_num_threads(3)
    try:
        np.testing.assert_array_equal(network.estimate(mixture), one)
    finally:
        torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "least_db"), [("fp32", 110), ("bf16", 60), ("int8", 45)])
def test_the_full_size_network_loses_little(
    precision: KernelPrecision, least_db: float, monkeypatch: pytest.MonkeyPatch
):
    if precision not in installed_kernels().precisions:
        pytest.skip(f"no {precision} here")
    torch.manual_seed(0)
    model = build_model(find_recipe("simo-optimised").run_config([]).model).eval()
    mixture = noise(2, 22_050)[None]
    expected = by_torch(model, mixture, monkeypatch)
    found = TorchNetwork(model, torch.device("cpu"), precision=precision).estimate(mixture)
    assert snr_db(found, expected) >= least_db


def test_songs_are_separated_in_integers():
    if "int8" not in installed_kernels().precisions:
        pytest.skip("no int8 here")
    model, song = model_of(), noise(2, 3 * RATE_HZ)
    exact, rough = (separator(model, precision=name).separate(song, RATE_HZ) for name in ("fp32", "int8"))
    for target, stem in exact.items():
        assert 30 <= snr_db(rough[target], stem) < 100


@pytest.mark.usefixtures("_without_kernels")
def test_without_kernels_integers_are_refused_and_bf16_is_pytorchs():
    model = model_of()
    with pytest.raises(
        ConfigError, match=r"^precision: 'int8' needs the CPU kernels \(off \(BANDSPLIT_KERNELS\)\); use"
    ):
        Separator(model, device="cpu", precision="int8")
    song = noise(2, 9000)
    exact, rough = (separator(model, precision=name).separate(song, RATE_HZ) for name in ("fp32", "bf16"))
    assert all(np.abs(rough[target] - stem).max() > 0 for target, stem in exact.items())


def test_models_without_such_layers_are_refused_in_integers():
    installed_kernels()
    for model in (tiny_model(), model_of(time={"kind": "conv", "kernel": 3}, band={"kind": "dilated"})):
        with pytest.raises(
            ConfigError, match=r"^precision: 'int8' is for bidirectional recurrent layers of 16, 32, 48"
        ):
            Separator(model, device="cpu", precision="int8")


def test_a_set_without_bf16_leaves_it_to_pytorch(monkeypatch: pytest.MonkeyPatch):
    installed_kernels()
    monkeypatch.setenv("BANDSPLIT_KERNELS", "avx2")
    search_kernels.cache_clear()
    try:
        network = TorchNetwork(model_of(), torch.device("cpu"), precision="bf16")
        assert np.isfinite(network.estimate(noise(2, 4000)[None])).all()
    finally:
        search_kernels.cache_clear()


def test_the_benchmark_prints_what_lower_precisions_change_in_a_model(tmp_path: Path):
    kernels = installed_kernels()
    write_dataset(tmp_path / "songs", train=1, test=2)
    write_tiny_model(tmp_path / "model.safetensors", "vocals", n_features=16)
    script = ROOT / "benchmarks" / "kernels.py"
    arguments = "--model", tmp_path / "model.safetensors", "--data", tmp_path / "songs"
    command = list(map(str, (sys.executable, script, *arguments)))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[3:]]
    assert [row[0] for row in rows] == ["torch", *kernels.precisions]
    changes_db = {name: float(change) for name, _, _, change in rows}
    assert changes_db["torch"] == 0 and changes_db["fp32"] <= 0.001 and changes_db["int8"] <= 0.1
    for name, snrs_db, *_ in rows[1:]:
        assert float(snrs_db.split(" to ")[0]) >= LEAST_DB[name], rows  # type: ignore[index]

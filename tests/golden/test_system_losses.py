"""The losses of other systems against numbers of their reference code."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file

from bandsplit.runs.losses import LossConfig
from bandsplit.training.losses import compute_loss

CASES = {"two-stems": 512, "one-stem-2048": 2048}
"""Name of the signals -> n_fft of the model."""


@pytest.fixture
def golden(shared: Path) -> dict[str, torch.Tensor]:
    return load_file(shared / "golden" / "systems" / "loss" / "losses.safetensors")


def loss(golden: dict[str, torch.Tensor], case: str, **settings: Any) -> float:
    config = TypeAdapter(LossConfig).validate_python(settings)
    return compute_loss(config, golden[f"{case}/estimate"], golden[f"{case}/target"]).item()


@pytest.mark.parametrize("case", CASES)
def test_losses_of_the_waveform_equal_the_reference(golden: dict[str, torch.Tensor], case: str):
    assert loss(golden, case, kind="l1-waveform") == pytest.approx(golden[f"{case}/BSRoformer/time"].item(), rel=1e-6)
    assert loss(golden, case, kind="mse-waveform") == pytest.approx(golden[f"{case}/mse"].item(), rel=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("rule", "reference"), [("fixed", "BSRoformer"), ("quarter", "lucidrains-mel-2025")])
def test_the_loss_of_several_windows_equals_the_reference(
    golden: dict[str, torch.Tensor], case: str, rule: str, reference: str
):
    settings = {"kind": "multi-resolution-stft", "n_fft": CASES[case], "hop_rule": rule}
    time = golden[f"{case}/BSRoformer/time"].item()
    each = golden[f"{case}/{reference}/per_window"].tolist()
    found = [loss(golden, case, **settings, windows=[window]) - time for window in (4096, 2048, 1024, 512, 256)]
    assert found == pytest.approx(each, rel=1e-6)
    assert loss(golden, case, **settings) == pytest.approx(time + sum(each), rel=1e-6)
    assert loss(golden, case, **settings, weight=0.5) == pytest.approx(time + sum(each) / 2, rel=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("quantile", "coarse"), [(0.5, True), (0.75, False), (0.95, True)])
def test_the_masked_loss_equals_the_reference(
    golden: dict[str, torch.Tensor], case: str, quantile: float, coarse: bool
):
    expected = golden[f"{case}/masked_loss/q{quantile}-coarse{coarse}"].item()  # 0 for one example: nothing is below it
    assert loss(golden, case, kind="masked-mse", quantile=quantile, coarse=coarse) == pytest.approx(expected, rel=1e-6)

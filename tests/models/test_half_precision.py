"""Every family with products in half precision on a CPU: estimates change little, and stay in single precision."""

import pytest
import torch

from bandsplit.models.network import build_model
from small_recipes import SMALL, small_run


@pytest.mark.parametrize("name", SMALL)
def test_estimates_in_half_precision_are_those_in_single_precision_but_for_a_little_noise(name: str):
    torch.manual_seed(0)
    model = build_model(small_run(name).model).eval()
    mixture = 0.1 * torch.randn(1, model.config.channels, model.config.geometry.fitting(12_000))
    with torch.inference_mode():
        expected = model.separate(mixture)
        with torch.autocast("cpu", torch.bfloat16):
            found = model.separate(mixture)
    assert found.dtype == torch.float32
    assert (found - expected).square().sum() <= 1e-2 * expected.square().sum()

"""Layers that take another path on a CPU, against their plain path and torch's own layers."""

import pytest
import torch
from torch import Tensor, nn

from bandsplit.models.layers import dconv
from bandsplit.models.layers.convolutions import (
    PointwiseConv1d,
    PointwiseConv2d,
    StridedConv1d,
    StridedConv2d,
    TransposedConv1d,
    TransposedConv2d,
)
from bandsplit.models.layers.cpu_work import TwoPaths
from bandsplit.models.layers.dconv import DConv, LinearLstm


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference as a fraction of the peak."""
    return float((found - expected).abs().max() / expected.abs().max())


def both_paths(layer: TwoPaths, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        found = layer(x)
        layer.fast = False
        return found, layer(x)


def disturb(layer: nn.Module) -> None:
    """Move all parameters away from their start."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))


@pytest.mark.parametrize("inner", [{}, {"lstm": True, "attention": True}], ids=["plain", "recurrent"])
@pytest.mark.parametrize("shape", [(2, 16, 90), (1, 16, 3), (1, 16, 1), (2, 16, 7, 50)], ids=str)
def test_residual_branches_in_blocks_equal_their_modules(
    shape: tuple[int, ...], inner: dict[str, bool], monkeypatch: pytest.MonkeyPatch
):
    torch.manual_seed(0)
    monkeypatch.setattr(dconv, "BLOCK", 2000)  # several blocks of positions, or of bins, of unequal size
    layer, x = DConv(16, 8, 3, **inner), torch.randn(shape) + 1
    disturb(layer)
    before = x.clone()
    found, expected = both_paths(layer, x)
    assert difference(found, expected) <= 2e-6
    assert x.equal(before)


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("positions", [3, 40])
def test_transposed_convolutions_equal_those_of_torch(stride: int, positions: int):
    torch.manual_seed(0)
    for layer, shape in (
        (TransposedConv2d(6, 5, stride), (2, 6, positions, 3)),
        (TransposedConv1d(6, 5, stride), (2, 6, positions)),
    ):
        found, expected = both_paths(layer, torch.randn(shape))
        assert found.shape[2] == stride * (positions + 1)
        assert difference(found, expected) <= 2e-6
        assert found.equal(expected) == (positions == 3)  # so few are computed by torch


def test_pointwise_convolutions_equal_those_of_torch():
    torch.manual_seed(0)
    for layer, shape in ((PointwiseConv1d(6, 5), (2, 6, 9)), (PointwiseConv2d(6, 5), (2, 6, 3, 4))):
        found, expected = both_paths(layer, torch.randn(shape))
        assert difference(found, expected) <= 2e-6


def test_the_faster_path_is_for_inference(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(DConv, "_apply_in_blocks", lambda self, x: pytest.fail("taken"))
    layer, x = DConv(8, 4, 1), torch.rand(1, 8, 20)
    layer(x)
    with torch.inference_mode(), pytest.raises(pytest.fail.Exception, match="taken"):
        layer(x)


def test_residual_branches_in_half_precision_round_only_what_they_take_and_return():
    torch.manual_seed(0)
    layer, x = DConv(16, 8, 2), torch.randn(1, 16, 7, 50).bfloat16()
    disturb(layer)
    with torch.inference_mode():
        expected = layer(x.float())
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).equal(expected.bfloat16())


@pytest.mark.parametrize("n", [2, 8, 16, 24, 48])
def test_strided_convolutions_in_half_precision_are_those_in_single_precision(n: int):
    torch.manual_seed(0)
    for layer, x in (
        (StridedConv1d(n, 40, 8, 4), torch.randn(1, n, 500)),
        (StridedConv1d(n, 40, 4, 2), torch.randn(1, n, 500)),
        (StridedConv2d(n, 40, (8, 1), (4, 1)), torch.randn(1, n, 40, 123)),
    ):
        expected = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(x)
        assert (found - expected).square().sum() <= 1e-4 * expected.square().sum()


def test_an_lstm_without_half_precision_is_computed_in_single_precision(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dconv, "lacks_bf16_lstm", lambda x: torch.is_autocast_enabled("cpu"))
    torch.manual_seed(0)
    layer, x = LinearLstm(6), torch.rand(2, 6, 9)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x.bfloat16()).dtype == torch.float32
        assert layer(x).equal(expected)

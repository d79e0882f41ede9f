"""The TFC-TDF block: both memory layouts against torch.nn and against each other."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.models.layers.batch_norm import BatchNorm
from bandsplit.models.layers.tfc_tdf import (
    AlongBins,
    GroupNorm,
    PreActivated,
    TfcTdfBlock,
    features_last,
    has_features_last,
)


def image(*shape: int) -> Tensor:
    """Numbers with a level and an offset of their own for each feature."""
    torch.manual_seed(1)
    b, n, *rest = shape
    return torch.randn(b, n, *rest) * (torch.rand(n, 1, 1) + 0.1) + torch.randn(n, 1, 1)


def scatter(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.data += torch.randn_like(parameter) * 0.2
    return module


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_group_norm_of_rows_equals_torch(groups: int):
    x = image(2, 6, 40, 700)  # several blocks of rows
    layer = PreActivated(6, partial(GroupNorm, groups=groups), nn.GELU, nn.Identity())
    scatter(layer)
    expected = F.gelu(F.group_norm(x.double(), groups, layer.norm.weight.double(), layer.norm.bias.double()))
    with torch.inference_mode():
        found = layer(features_last(x))
    assert has_features_last(features_last(x)) is False  # with gradients
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=3e-6)


def test_instance_norm_is_group_norm_of_each_feature():
    x, layer = image(2, 5, 4, 8), GroupNorm(5, 5)
    torch.testing.assert_close(layer(x), nn.InstanceNorm2d(5, affine=True)(x))


def test_norm_of_equal_numbers_is_the_shift_alone():
    layer = PreActivated(3, partial(GroupNorm, groups=3), nn.ReLU, nn.Identity())
    nn.init.constant_(layer.norm.bias, 0.5)
    with torch.inference_mode():
        x = features_last(torch.full((1, 3, 300, 200), 7.0))
        assert layer(x).equal(torch.full_like(x, 0.5))


@pytest.mark.parametrize("norm", [partial(GroupNorm, groups=2), BatchNorm, nn.Identity], ids=["group", "batch", "none"])
def test_block_gives_the_same_in_both_layouts(norm):
    block = scatter(TfcTdfBlock(6, 4, 24, 6, norm, nn.GELU)).eval()
    x = image(2, 6, 10, 24)
    with torch.inference_mode():
        last = features_last(x)
        assert has_features_last(last) and not has_features_last(x)
        found = block(last)
        assert has_features_last(found)
        assert last.equal(x)  # the input is not changed in place
    torch.testing.assert_close(found, block(x), rtol=1e-5, atol=1e-5)


def test_block_equals_its_definition():
    block = scatter(TfcTdfBlock(2, 4, 8, 2, partial(GroupNorm, groups=2), nn.ReLU))
    x = image(1, 2, 3, 8)
    narrow, wide = block.tdf

    def prepared(part: PreActivated, x: Tensor) -> Tensor:
        return F.relu(F.group_norm(x, 2, part.norm.weight, part.norm.bias))

    first = F.conv2d(prepared(block.tfc1, x), block.tfc1.layer.weight, padding=1)
    along = prepared(wide, prepared(narrow, first) @ narrow.layer.weight.T) @ wide.layer.weight.T
    second = F.conv2d(prepared(block.tfc2, first + along), block.tfc2.layer.weight, padding=1)
    shortcut = torch.einsum("bntf,on->botf", x, block.shortcut.weight[:, :, 0, 0])
    torch.testing.assert_close(block(x), second + shortcut, rtol=1e-5, atol=1e-5)


def test_linear_layer_is_along_the_last_axis():
    layer, x = AlongBins(8, 3), image(2, 5, 4, 8)
    assert layer.bias is None
    with torch.inference_mode():
        torch.testing.assert_close(layer(features_last(x)), x @ layer.weight.T)


def test_half_precision_and_gradients_keep_the_layout():
    x = image(1, 3, 4, 8)
    assert features_last(x) is x
    with torch.inference_mode():
        assert features_last(x.double()) is not None and not has_features_last(features_last(x.bfloat16()))
        with torch.autocast("cpu", torch.bfloat16):
            assert not has_features_last(features_last(x))

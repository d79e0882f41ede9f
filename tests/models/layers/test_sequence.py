"""Sequence layers against plain torch.nn."""

import pytest
import torch
from torch import nn

from bandsplit.models.bsrnn.build import build_layer
from bandsplit.models.bsrnn.config import ConvConfig, DilatedConfig, GruConfig, LayerConfig, LstmConfig
from bandsplit.models.layers.sequence import SequenceNorm

LAYERS: list[LayerConfig] = [LstmConfig(), GruConfig(hidden_factor=1), ConvConfig(), DilatedConfig(depth=4)]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_sequence_norm_equals_group_norm_on_channels_first(groups: int):
    torch.manual_seed(0)
    x = torch.randn(3, 7, 8)
    ours, theirs = SequenceNorm(8, groups), nn.GroupNorm(groups, 8, eps=1e-7)
    with torch.no_grad():
        weight, bias = torch.randn(8), torch.randn(8)
        for norm in (ours, theirs):
            norm.weight.copy_(weight)
            norm.bias.copy_(bias)
    torch.testing.assert_close(ours(x), theirs(x.mT).mT)


@pytest.mark.parametrize("config", LAYERS, ids=lambda config: config.kind)
@pytest.mark.parametrize("length", [1, 2, 9])
def test_layers_keep_the_shape_at_any_length(config: LayerConfig, length: int):
    layer = build_layer(config, n_features=8, norm_groups=1)
    assert layer(torch.randn(3, length, 8)).shape == (3, length, 8)


@pytest.mark.parametrize("config", LAYERS, ids=lambda config: config.kind)
def test_every_parameter_of_a_layer_gets_a_gradient(config: LayerConfig):
    torch.manual_seed(0)
    layer = build_layer(config, n_features=8, norm_groups=2)
    layer(torch.randn(3, 9, 8)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


def test_a_sequence_does_not_depend_on_others_in_the_batch():
    torch.manual_seed(0)
    layer = build_layer(LstmConfig(), n_features=8, norm_groups=1).eval()
    x = torch.randn(3, 9, 8)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x)[1:2], layer(x[1:2]))


def test_a_dilated_stack_of_depth_one_has_no_neighbours_to_fuse():
    layer = build_layer(DilatedConfig(depth=1), n_features=4, norm_groups=1)
    assert layer(torch.randn(1, 5, 4)).shape == (1, 5, 4)

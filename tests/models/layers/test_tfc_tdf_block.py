"""The TFC-TDF block against its definition, in functions of torch."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.models.layers.tfc_tdf import PreActivated, TfcTdfBlock


def image(*shape: int) -> Tensor:
    """Numbers with a level and an offset of their own for each feature."""
    torch.manual_seed(1)
    b, n, *rest = shape
    return torch.randn(b, n, *rest) * (torch.rand(n, 1, 1) + 0.1) + torch.randn(n, 1, 1)


def scatter(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.data += torch.randn_like(parameter) * 0.2
    return module


def test_block_equals_its_definition():
    block = scatter(TfcTdfBlock(2, 4, 8, 2, partial(nn.GroupNorm, 2), nn.ReLU))
    x = image(1, 2, 3, 8)
    narrow, wide = block.tdf

    def prepared(part: PreActivated, x: Tensor) -> Tensor:
        return F.relu(F.group_norm(x, 2, part.norm.weight, part.norm.bias))

    first = F.conv2d(prepared(block.tfc1, x), block.tfc1.layer.weight, padding=1)
    along = prepared(wide, prepared(narrow, first) @ narrow.layer.weight.T) @ wide.layer.weight.T
    second = F.conv2d(prepared(block.tfc2, first + along), block.tfc2.layer.weight, padding=1)
    shortcut = torch.einsum("bntf,on->botf", x, block.shortcut.weight[:, :, 0, 0])
    torch.testing.assert_close(block(x), second + shortcut, rtol=1e-5, atol=1e-5)

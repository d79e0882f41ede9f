"""The TFC-TDF block against its definition, in functions of torch."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.models.layers.tfc_tdf import TfcTdfBlock


def test_block_equals_its_definition():
    torch.manual_seed(1)
    block, x = TfcTdfBlock(2, 4, 8, 2, partial(nn.GroupNorm, 2), nn.ReLU), torch.randn(1, 2, 3, 8)
    for parameter in block.parameters():
        parameter.data += torch.randn_like(parameter) * 0.2
    weights = block.state_dict()

    def prepared(part: str, x: Tensor) -> Tensor:
        return F.relu(F.group_norm(x, 2, weights[f"{part}.norm.weight"], weights[f"{part}.norm.bias"]))

    first = F.conv2d(prepared("tfc1", x), weights["tfc1.layer.weight"], padding=1)
    narrow = prepared("tdf.0", first) @ weights["tdf.0.layer.weight"].T
    along = prepared("tdf.1", narrow) @ weights["tdf.1.layer.weight"].T
    second = F.conv2d(prepared("tfc2", first + along), weights["tfc2.layer.weight"], padding=1)
    shortcut = torch.einsum("bntf,on->botf", x, weights["shortcut.weight"][:, :, 0, 0])
    torch.testing.assert_close(block(x), second + shortcut, rtol=1e-5, atol=1e-5)


def test_block_has_no_bias_outside_its_normalisations():
    block = TfcTdfBlock(2, 4, 8, 2, partial(nn.GroupNorm, 2), nn.ReLU)
    biases = [name for name in block.state_dict() if name.endswith("bias")]
    assert biases == [f"{part}.norm.bias" for part in ("tfc1", "tdf.0", "tdf.1", "tfc2")]

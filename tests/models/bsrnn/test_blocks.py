"""Block parts against plain formulas."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bandsplit.models.bsrnn.blocks import FrameAttention, Tac
from bandsplit.models.layers.dual_path import Along


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Reverse(nn.Module):
    """Turn the positions round: shows which axis a layer runs along."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flip(1)


@pytest.mark.parametrize(("axis", "dim"), [("band", 2), ("time", 3)])
def test_along_runs_the_layer_on_its_axis_and_adds_the_input(axis: str, dim: int):
    x = torch.randn(2, 3, 4, 5, 6)
    torch.testing.assert_close(Along(axis, Reverse())(x), x + x.flip(dim))  # type: ignore[arg-type]


@pytest.mark.parametrize("axis", ["band", "time"])
def test_heads_run_the_same_layer_on_consecutive_features(axis: str):
    x = torch.randn(2, 2, 4, 5, 6)
    layer = nn.Linear(3, 3)
    both = Along(axis, layer, heads=2)(x)  # type: ignore[arg-type]
    each = torch.cat([Along(axis, layer)(part) for part in x.chunk(2, dim=-1)], dim=-1)  # type: ignore[arg-type]
    torch.testing.assert_close(both, each)


def test_tac_equals_its_formula():
    x = torch.randn(2, 3, 4, 5, 6)
    tac = Tac(6, 18, "tanh", norm=False)
    v = torch.tanh(tac.transform(x))
    r = torch.tanh(tac.average(v.mean(1)))
    expected = [x[:, c] + torch.tanh(tac.concatenate(torch.cat([v[:, c], r], -1))) for c in range(3)]
    torch.testing.assert_close(tac(x), torch.stack(expected, 1))


def test_tac_treats_channels_alike():
    x = torch.randn(2, 2, 4, 5, 6)
    tac = Tac(6, 18, "prelu", norm=True)
    torch.testing.assert_close(tac(x.flip(1)), tac(x).flip(1))


def test_attention_equals_its_formula_head_by_head():
    n, k, heads, dim = 6, 4, 2, 3
    x = torch.randn(1, 2, k, 5, n)
    attention = FrameAttention(n, k, heads, dim)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))

    def project(part: Any, frames: torch.Tensor, head: int, size: int) -> torch.Tensor:
        weight, bias = (
            part.linear.weight[head * size : (head + 1) * size],
            part.linear.bias[head * size : (head + 1) * size],
        )
        y = F.prelu(F.linear(frames, weight, bias), part.slope[head])
        y = (y - y.mean((-2, -1), keepdim=True)) / (y.var((-2, -1), correction=0, keepdim=True) + 1e-7).sqrt()
        return y * part.weight[head] + part.bias[head]

    frames = x[0].permute(0, 2, 1, 3)  # c t k n
    joined = []
    for head in range(heads):
        query, key = (project(p, frames, head, dim).flatten(-2) for p in (attention.query, attention.key))
        value = project(attention.value, frames, head, n // heads)
        scores = torch.softmax(query @ key.mT / (dim * k) ** 0.5, dim=-1)
        joined.append((scores @ value.flatten(-2)).unflatten(-1, (k, n // heads)))
    expected = frames + project(attention.project, torch.cat(joined, -1), 0, n)
    torch.testing.assert_close(attention(x)[0].permute(0, 2, 1, 3), expected)

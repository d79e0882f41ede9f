"""Attention, rotary embedding and normalisation, against their formulae."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.models.layers.attention import CrossCovarianceAttention, GatedAttention
from bandsplit.models.layers.rms_norm import RmsNorm
from bandsplit.models.layers.rotary import Rotary, _rotate_complex, _rotate_real
from bandsplit.models.layers.transformer import FeedForward, Transformer, TransformerLayer


def randomised(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return module.eval()


def signal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def rotated(x: Tensor) -> Tensor:
    """Rotate each pair of ``(l n)`` by its own angle, one number at a time."""
    y = x.clone()
    for position in range(x.shape[0]):
        for j in range(x.shape[1] // 2):
            angle = position * 10000 ** (-2 * j / x.shape[1])
            a, b = x[position, 2 * j].item(), x[position, 2 * j + 1].item()
            y[position, 2 * j] = a * math.cos(angle) - b * math.sin(angle)
            y[position, 2 * j + 1] = b * math.cos(angle) + a * math.sin(angle)
    return y


def test_norm_gives_vectors_a_root_mean_square_of_one():
    x = signal(3, 5, 8)
    assert torch.allclose(RmsNorm(8)(x).square().mean(dim=-1), torch.ones(3, 5))
    assert torch.allclose(RmsNorm(8)(x), nn.RMSNorm(8, eps=0)(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_norm_of_silence_is_silence_in_every_precision(dtype: torch.dtype):
    assert torch.equal(RmsNorm(8)(torch.zeros(2, 8, dtype=dtype)), torch.zeros(2, 8))


def test_neighbouring_features_rotate_by_their_position():
    x = signal(7, 6)
    assert torch.allclose(Rotary(6)(x), rotated(x), atol=1e-6)


def test_both_ways_to_rotate_agree():
    pairs, angles = signal(2, 5, 3, 2), signal(5, 3)
    assert torch.allclose(_rotate_complex(pairs, angles), _rotate_real(pairs, angles), atol=1e-6)


def test_stored_frequencies_are_used():
    rotary, x = Rotary(6), signal(7, 6)
    rotary.load_state_dict({"frequencies": torch.zeros(3)})
    assert torch.equal(rotary(x), x)


def test_gated_attention_is_its_formula():
    layer, x = randomised(GatedAttention(6, heads=3, head_features=4)), signal(1, 7, 6)
    assert isinstance(layer, GatedAttention)
    normed = nn.RMSNorm(6, eps=0)(x[0]) * layer.norm.gain
    query, key, value = layer.qkv(normed).view(7, 3, 3, 4).unbind(1)
    heads = []
    for h in range(3):
        scores = rotated(query[:, h]) @ rotated(key[:, h]).mT / 2
        gate = torch.sigmoid(layer.gate(normed)[:, h, None])
        heads.append(gate * (scores.softmax(dim=-1) @ value[:, h]))
    expected = torch.cat(heads, dim=-1) @ layer.out.weight.mT
    assert torch.allclose(layer(x)[0], expected, atol=1e-5)


def test_cross_covariance_attention_is_its_formula():
    layer, x = randomised(CrossCovarianceAttention(6, heads=2, head_features=4)), signal(1, 9, 6)
    assert isinstance(layer, CrossCovarianceAttention)
    qkv = layer.qkv(nn.RMSNorm(6, eps=0)(x[0]) * layer.norm.gain).view(9, 3, 2, 4)
    heads = []
    for h in range(2):
        query, key, value = (part[:, h].mT for part in qkv.unbind(1))  # features, positions
        query, key = query / query.norm(dim=1, keepdim=True), key / key.norm(dim=1, keepdim=True)
        weights = (8 * layer.temperature[h].exp() * (query @ key.mT)).softmax(dim=-1)
        heads.append((weights @ value).mT)
    assert torch.allclose(layer(x)[0], torch.cat(heads, dim=-1) @ layer.out.weight.mT, atol=1e-5)


def test_transformer_adds_its_inputs_and_ends_with_the_norm():
    attention, feed_forward = GatedAttention(6, 3, 4), FeedForward(6, 24)
    transformer = randomised(Transformer([TransformerLayer(attention, feed_forward)], RmsNorm(6)))
    x = signal(2, 5, 6)
    y = x + attention(x)
    normed = nn.RMSNorm(6, eps=0)(y) * feed_forward.norm.gain
    y = y + feed_forward.leave(F.gelu(feed_forward.enter(normed)))
    assert torch.allclose(transformer(x), transformer.get_submodule("norm")(y), atol=1e-5)


@pytest.mark.parametrize("kind", [GatedAttention, CrossCovarianceAttention])
def test_dropout_acts_in_training_only(kind: type[nn.Module]):
    layer, x = randomised(kind(6, 3, 4, 0.5)), signal(1, 7, 6)
    assert torch.equal(layer(x), layer(x))
    layer.train()
    assert not torch.equal(layer(x), layer(x))

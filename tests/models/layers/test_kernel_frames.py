"""Attention over frames by the CPU kernels: against torch in double precision."""

import copy

import numpy as np
import pytest
import torch

from bandsplit.core.kernel_attention import LEAST_QUERIES
from bandsplit.core.kernels import KernelPrecision
from bandsplit.models.bsrnn.blocks import FrameAttention
from bandsplit.models.layers.epsilon import EPS
from bandsplit.models.layers.kernel_frames import attended_frames
from bandsplit.models.layers.kernel_products import products_in
from cpu_kernels import installed_kernels

FRAMES = [1, 2, 7, 70, LEAST_QUERIES, 431]


def attention_of(heads: int, bands: int = 5, encoding_dim: int = 4) -> FrameAttention:
    torch.manual_seed(0)
    attention = FrameAttention(32, bands, heads, encoding_dim).requires_grad_(False)
    for parameter in attention.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    return attention


def latent(frames: int, bands: int = 5) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(0.5, 2, (2, 2, bands, frames, 32)).astype(np.float32))


def attended(attention: FrameAttention, x: torch.Tensor) -> torch.Tensor:
    """Attend by the kernels; skip the test where torch does."""
    installed_kernels()
    with torch.no_grad():
        found = attended_frames(attention, x, EPS)
    if found is None:
        pytest.skip("linear layers are served with AVX-512")
    return found


def relative(found: torch.Tensor, attention: FrameAttention, x: torch.Tensor) -> float:
    """Return the error of what attention adds, relative to its norm."""
    with torch.no_grad():
        exact = copy.deepcopy(attention).double()(x.double())
    return float((found - exact).norm() / (exact - x).norm())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("frames", FRAMES)
def test_attention_is_that_of_torch(frames: int, heads: int, precision: KernelPrecision):
    attention, x = attention_of(heads), latent(frames)
    with products_in(precision):
        found = attended(attention, x)
    # Beside integers the products of many frames with their values are in bfloat16 where the kernels have it.
    rounded = precision == "int8" and frames >= LEAST_QUERIES
    assert relative(found, attention, x) <= (5e-3 if rounded else 2e-6)


def test_a_forward_pass_without_gradients_uses_the_kernels():
    attention, x = attention_of(2), latent(131)
    with torch.no_grad():
        assert torch.equal(attended(attention, x), attention(x))
    attention.requires_grad_(True)
    assert attention(x).requires_grad


def test_many_bands_keep_the_error_of_scores_small():
    attention, x = attention_of(2, bands=57, encoding_dim=16), latent(140, bands=57)
    assert relative(attended(attention, x), attention, x) <= 1e-6


@pytest.mark.parametrize("frames", [7, 431])
def test_threads_change_no_bit(frames: int):
    attention, x, before = attention_of(2), latent(frames), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 9):
            torch.set_num_threads(threads)
            found.append(attended(attention, x))
    finally:
        torch.set_num_threads(before)
    for one in found[1:]:
        assert torch.equal(one, found[0])


@pytest.mark.parametrize("frames", [7, 140])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_shows_where_it_does_in_torch(value: float, frames: int):
    attention, x = attention_of(2), latent(frames)
    x[1, 0, 3, 5, 7] = value
    found = attended(attention, x)
    with torch.no_grad():
        exact = copy.deepcopy(attention).double()(x.double())
    assert torch.equal(found.isnan(), exact.isnan())
    assert found[1, 0].isnan().all()
    assert found[0].isfinite().all()


def test_weights_that_are_not_finite_are_left_to_torch():
    attention, x = attention_of(2), latent(7)
    attended(attention, x)
    attention.value.linear.weight[3, 5] = np.nan
    with torch.no_grad():
        assert attended_frames(attention, x, EPS) is None
        assert attention(x).isnan().all()


def test_a_latent_of_other_strides_gives_the_same():
    attention, x = attention_of(2), latent(7)
    swapped = x.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(attended(attention, swapped), attended(attention, x))

"""Linear layers of the CPU kernels in every instruction set: against torch in double precision."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bandsplit.core.kernels import Activation, Dense, KernelPrecision, PackedStack
from bandsplit.models.bsrnn.blocks import Tac
from bandsplit.models.bsrnn.coders import MaskDecoder
from bandsplit.models.layers.bands import BandRun
from bandsplit.models.layers.kernel_packing import pack_mixing, pack_perceptrons
from bandsplit.models.layers.kernel_products import arrays_of, products_in
from bandsplit.models.layers.kernel_stack import kernels_for
from cpu_kernels import KINDS, installed_kernels, kernels_of

TOLERANCE: dict[KernelPrecision, float] = {"fp32": 2e-6, "bf16": 5e-3, "int8": 3e-2}
"""Of the norm of the outputs, on noise."""
ROWS = [*range(1, 14), 48, 49, 100]
SIZES = [(16, 1), (16, 16), (32, 7), (80, 100), (128, 384), (384, 65)]
"""Inputs and outputs of a layer."""

every_kind = pytest.mark.parametrize(("name", "precision"), KINDS)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0.5, 2, shape).astype(np.float32)


def layer_of(sets: int, n: int, m: int, precision: KernelPrecision = "fp32", activation: Activation = "none") -> Dense:
    """A layer initialised as `nn.Linear` is."""
    draw, bound = np.random.default_rng(0), n**-0.5
    weight, bias = (draw.uniform(-bound, bound, shape) for shape in ((sets, m, n), (sets, m)))
    slope = draw.uniform(-0.5, 1.5, m) if activation == "prelu" else None
    return Dense(weight.astype(np.float32), bias.astype(np.float32), precision, activation, slope)


def exactly(layer: Dense, x: np.ndarray) -> np.ndarray:
    """Apply a layer to ``(set c l n)`` in double precision."""
    y = np.einsum("gcln,gmn->gclm", x.astype(float), layer.weight.astype(float)) + layer.bias[:, None, None]
    if layer.activation == "tanh":
        return np.tanh(y)
    return y if layer.slope is None else np.where(y > 0, y, layer.slope * y)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@every_kind
@pytest.mark.parametrize("activation", ["none", "prelu", "tanh"])
def test_every_size_gives_the_product_in_double_precision(
    activation: Activation, name: str, precision: KernelPrecision
):
    kernels = kernels_of(name)
    for n, m in SIZES:
        layer = layer_of(2, n, m, precision, activation)
        packed = PackedStack(kernels, [layer])
        for rows in ROWS:
            x = noise(2, 1, rows, n) * 0.5
            allowed = TOLERANCE[precision] * (1 if rows * m > 200 else 4)  # the mean error is that of many outputs
            assert relative(packed.apply(x, 1), exactly(layer, x)) <= allowed, (n, m, rows)


@every_kind
def test_layers_follow_each_other_and_each_set_has_its_own(name: str, precision: KernelPrecision):
    layers = [layer_of(3, 32, 64, precision, "tanh"), layer_of(3, 64, 48, precision, "tanh"), layer_of(3, 48, 10)]
    x = noise(3, 1, 50, 32)
    expected = x
    for layer in layers:
        expected = exactly(layer, expected)
    found = PackedStack(kernels_of(name), layers).apply(x, 1)
    assert relative(found, expected) <= 2 * TOLERANCE[precision]
    twice = PackedStack(kernels_of(name), layers).apply(np.concatenate([x, x]), 1)
    np.testing.assert_array_equal(twice, np.concatenate([found, found]))


@every_kind
@pytest.mark.parametrize("activation", ["tanh", "prelu"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 2, 7, 9), (3, 5, 2, 13)], ids=str)
def test_tac_is_that_of_torch_in_double_precision(
    shape: tuple[int, ...], activation: Any, name: str, precision: KernelPrecision
):
    torch.manual_seed(0)
    tac = Tac(32, 48, activation, norm=False)
    packed = pack_mixing(kernels_of(name), arrays_of(tac), precision)
    x = noise(*shape, 32)
    b, c, k, t, n = x.shape
    found = packed.apply(x.reshape(b, c, k * t, n), 1).reshape(x.shape)
    wide = torch.from_numpy(x).double()
    with torch.no_grad():
        added = (tac.double()(wide) - wide).numpy()
    rounding = 1e-7 * np.linalg.norm(x) / np.linalg.norm(added)  # of the sum with x
    assert relative(found - x, added) <= TOLERANCE[precision] + rounding


@every_kind
def test_zero_rows_give_the_bias(name: str, precision: KernelPrecision):
    layer = layer_of(1, 32, 20, precision)
    x = noise(1, 1, 9, 32)
    x[:, :, ::2] = 0
    found = PackedStack(kernels_of(name), [layer]).apply(x, 1)
    for row in range(0, 9, 2):
        np.testing.assert_array_equal(found[0, 0, row], layer.bias[0])


@every_kind
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows_in_its_row_and_nowhere_else(value: float, name: str, precision: KernelPrecision):
    layers = [layer_of(1, 32, 48, precision, "tanh"), layer_of(1, 48, 20, precision, "prelu")]
    packed, x = PackedStack(kernels_of(name), layers), noise(1, 1, 20, 32)
    expected = packed.apply(x, 1)
    x[0, 0, 7, 30] = value
    found = packed.apply(x, 1)
    if np.isnan(value) or precision == "int8":
        assert np.isnan(found[0, 0, 7]).all()
    else:  # the tangent of an infinity is 1, as in torch
        exact = exactly(layers[1], exactly(layers[0], x))[0, 0, 7]
        np.testing.assert_allclose(found[0, 0, 7], exact, atol=4 * TOLERANCE[precision])
    others = [row for row in range(20) if row != 7]
    np.testing.assert_array_equal(found[:, :, others], expected[:, :, others])


@every_kind
def test_threads_change_no_bit(name: str, precision: KernelPrecision):
    tac = [layer_of(1, 32, 48, precision), layer_of(1, 48, 48, precision), layer_of(1, 48, 32, precision)]
    mixing = PackedStack(kernels_of(name), [*tac, tac[2]._replace(activation="tanh")], mixes=True)
    plain = PackedStack(kernels_of(name), [layer_of(2, 32, 20, precision, "tanh")])
    x = noise(2, 3, 149, 32)
    for packed in (mixing, plain):
        one = packed.apply(x if packed is mixing else x[:, :1].copy(), 1)
        for threads in (2, 3, 100):
            found = packed.apply(x if packed is mixing else x[:, :1].copy(), threads)
            np.testing.assert_array_equal(found, one)


def test_no_rows_are_nothing_to_do():
    packed = PackedStack(installed_kernels(), [layer_of(2, 16, 5)])
    for shape in ((2, 1, 0), (0, 1, 4)):
        assert packed.apply(noise(*shape, 16), 2).shape == (*shape, 5)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e31])
@pytest.mark.parametrize("field", ["weight", "bias"])
def test_weights_that_are_not_finite_or_absurd_are_refused(field: str, value: float):
    layer = layer_of(2, 16, 5)
    getattr(layer, field)[1, 3] = value
    with pytest.raises(ValueError, match="not finite"):
        PackedStack(installed_kernels(), [layer_of(2, 16, 16), layer])


def test_sizes_that_the_kernels_lack_are_refused():
    with pytest.raises(ValueError, match="not in the kernels"):
        PackedStack(installed_kernels(), [layer_of(1, 24, 16)])
    odd = [layer_of(1, 16, 40), layer_of(1, 40, 40), layer_of(1, 40, 16), layer_of(1, 40, 16)]
    with pytest.raises(ValueError, match="not in the kernels"):
        PackedStack(installed_kernels(), odd, mixes=True)


def serving(x: torch.Tensor) -> None:
    """Skip the test where torch computes linear layers."""
    installed_kernels()
    with torch.no_grad():
        if kernels_for(x, [16]) is None:
            pytest.skip("linear layers are served with AVX-512")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("merged", [1, 2])
def test_mask_decoders_are_those_of_torch(merged: int, precision: KernelPrecision):
    latent = torch.from_numpy(noise(2, 1, 5, 7, 32))
    serving(latent)
    torch.manual_seed(0)
    decoder = MaskDecoder([BandRun(0, 3, 4), BandRun(12, 2, 9)], 32, 64, 2, merged_channels=merged)
    with torch.no_grad(), products_in(precision):
        found = torch.view_as_real(decoder.mask(latent)).numpy()
        exact = torch.view_as_real(copy.deepcopy(decoder).double().mask(latent.double())).numpy()
    # In integers the middle layer is in bfloat16 where the kernels have it.
    assert relative(found, exact) <= (2e-6 if precision != "int8" else 5e-3)


def test_with_gradients_torch_computes():
    torch.manual_seed(0)
    tac, x = Tac(32, 48, "prelu", norm=False), torch.from_numpy(noise(1, 2, 3, 4, 32))
    serving(x)
    tac(x).sum().backward()
    assert all(parameter.grad is not None for parameter in tac.parameters())


def test_weights_that_are_not_finite_are_left_to_torch():
    torch.manual_seed(0)
    tac, x = Tac(32, 48, "tanh", norm=False), torch.from_numpy(noise(1, 2, 3, 4, 32))
    serving(x)
    with torch.no_grad():
        tac.transform.weight[3, 5] = np.nan
        assert tac(x).isnan().all()
    runs = [[(np.full((1, 16, 16), np.inf), np.zeros((1, 1, 16)))]]
    with pytest.raises(ValueError, match="not finite"):
        pack_perceptrons(installed_kernels(), runs, "fp32")


def test_tac_is_packed_again_once_it_changes():
    torch.manual_seed(0)
    tac, x = Tac(32, 48, "prelu", norm=False).requires_grad_(False), torch.from_numpy(noise(1, 2, 3, 4, 32))
    serving(x)
    with torch.no_grad():
        first, again = tac(x), tac(x)
        assert torch.equal(first, again)
        assert isinstance(tac.activation, nn.PReLU)
        tac.activation.weight.fill_(0.5)
        assert not torch.equal(tac(x), first)

"""Linear layers of transformers by the CPU kernels: equal to torch's, in the precision that is chosen."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from bandsplit.core.kernels import KernelPrecision
from bandsplit.models.layers.kernel_products import products_in
from bandsplit.models.layers.linear import Linear
from cpu_kernels import installed_kernels

LEAST_ROWS = 48
TOLERANCE: dict[KernelPrecision, float] = {"fp32": 1e-6, "bf16": 5e-3, "int8": 3e-2}


def pair(n: int, m: int, bias: bool = True) -> tuple[Linear, nn.Linear]:
    torch.manual_seed(0)
    ours, theirs = Linear(n, m, bias), nn.Linear(n, m, bias)
    theirs.load_state_dict(ours.state_dict())
    return ours.requires_grad_(False), theirs.requires_grad_(False).double()


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_are_those_of_torch_in_double_precision(precision: KernelPrecision, bias: bool):
    if precision not in installed_kernels().precisions:
        pytest.skip(f"no {precision} here")
    ours, theirs = pair(64, 40, bias)
    for shape in ((3, 50), (1, 200), (2, 3, 17)):
        x = torch.randn(*shape, 64)
        for given in (x, x.transpose(0, 1)):
            with torch.no_grad(), products_in(precision):
                found = ours(given)
            expected = theirs(given.double())
            assert found.shape == expected.shape
            assert torch.linalg.norm(found - expected) <= TOLERANCE[precision] * torch.linalg.norm(expected)


@pytest.mark.parametrize(("n", "rows"), [(60, 100), (64, LEAST_ROWS - 1)])
def test_other_sizes_and_few_rows_are_torchs(n: int, rows: int):
    installed_kernels()
    ours, x = pair(n, 32)[0], torch.randn(rows, n)
    with torch.no_grad(), products_in("int8"):
        assert torch.equal(ours(x), nn.functional.linear(x, ours.weight, ours.bias))


def test_with_gradients_and_after_training_steps_the_numbers_are_those_of_the_weights():
    installed_kernels()
    ours, x = pair(64, 32)[0], torch.randn(100, 64)
    with torch.no_grad():
        before = ours(x)
        ours.weight *= 2
        ours.bias.mul_(2)
        np.testing.assert_allclose(ours(x), 2 * before, rtol=1e-5, atol=1e-6)
    ours.requires_grad_(True)
    ours(x).sum().backward()
    assert ours.weight.grad is not None


class Halved(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight / 2


@pytest.mark.parametrize("name", ["weight", "bias"])
@pytest.mark.parametrize("how", ["pruned", "parametrised"])
def test_layers_with_other_weights_at_each_call_are_torchs(how: str, name: str):
    installed_kernels()
    ours, x = pair(64, 32)[0], torch.randn(100, 64)
    if how == "pruned":
        prune.l1_unstructured(ours, name, amount=0.5)
    else:
        parametrize.register_parametrization(ours, name, Halved())
    with torch.no_grad():
        found = ours(x)
        assert torch.equal(found, nn.functional.linear(x, ours.weight, ours.bias))


def test_nan_and_infinity_are_not_hidden():
    if not installed_kernels().is_quick:
        pytest.skip("torch computes linear layers here")
    ours, x = pair(64, 32)[0], torch.randn(100, 64)
    x[3, 5], x[7, 1] = float("nan"), float("inf")
    for precision in installed_kernels().precisions:
        with torch.no_grad(), products_in(precision):
            found = ours(x).isfinite().all(dim=1)
        assert not found[3] and not found[7] and found.sum() == 98

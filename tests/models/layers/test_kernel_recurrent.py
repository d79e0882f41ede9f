"""The LSTM layer of the CPU kernels in every instruction set: against torch in double precision, and in integers."""

import threading
from typing import Literal

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import nn
from torch.nn.utils import prune

from bandsplit.core.kernels import KernelPrecision, PackedRecurrent
from bandsplit.models.layers.dual_path import Along
from bandsplit.models.layers.kernel_products import products_in
from bandsplit.models.layers.kernel_recurrent import kernel_problem, pack_layer
from bandsplit.models.layers.sequence import RecurrentLayer
from cpu_kernels import KINDS, installed_kernels, kernels_of

NEW_LAYER: dict[KernelPrecision, float] = {"fp32": 2e-6, "bf16": 5e-3, "int8": 3e-2}
"""Of the norm of what a new layer adds, on noise."""
TOLERANCE: dict[KernelPrecision, float] = {"fp32": 2e-6, "bf16": 1e-2, "int8": 5e-2}
"""The same with weights that are twice as large as those of a new layer."""
SHAPES = [(1, 1, 1, 1), (1, 1, 1, 9), (1, 1, 9, 1), (1, 2, 3, 5), (2, 1, 13, 7), (1, 1, 5, 31)]
"""Shapes ``b c k t``, of 1 to 62 sequences of 1 to 31 steps."""
SIZES = [(16, 32, 1, 1), (32, 16, 2, 2), (80, 48, 1, 1), (128, 256, 4, 1)]
"""Features, hidden features, groups of the normalisation and heads."""

every_kind = pytest.mark.parametrize(("name", "precision"), KINDS)


def layer_of(n: int, m: int, groups: int = 1, kind: type[nn.LSTM] | type[nn.GRU] = nn.LSTM) -> RecurrentLayer:
    """A layer whose parameters are all away from their start."""
    torch.manual_seed(0)
    layer = RecurrentLayer(kind, n, m, groups)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) / m**0.5 / 2)
    return layer


def run(
    packed: PackedRecurrent, x: np.ndarray, axis: Literal["time", "band"] = "time", heads: int = 1, threads: int = 1
) -> np.ndarray:
    y = np.full_like(x, 7)
    packed.along(x, y, axis, heads, threads)
    return y


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0.5, 2, shape).astype(np.float32)


@every_kind
@pytest.mark.parametrize(("n", "m", "groups", "heads"), SIZES)
@pytest.mark.parametrize("new", [True, False], ids=["new", "larger"])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_every_shape_gives_what_torch_gives_in_double_precision(
    kind: type[nn.LSTM] | type[nn.GRU],
    new: bool,
    n: int,
    m: int,
    groups: int,
    heads: int,
    name: str,
    precision: KernelPrecision,
):
    kernels, layer = kernels_of(name), layer_of(n, m, groups, kind)
    if new:
        torch.manual_seed(0)
        layer = RecurrentLayer(kind, n, m, groups)
    tolerance = (NEW_LAYER if new else TOLERANCE)[precision]
    packed = pack_layer(kernels, layer, precision)
    layer.double()
    for shape in SHAPES:
        for axis in ("time", "band"):
            x = noise(*shape, heads * n)
            wide = torch.from_numpy(x).double()
            with torch.no_grad():
                added = (Along(axis, layer, heads)(wide) - wide).numpy()
            found = run(packed, x, axis, heads)
            error = np.linalg.norm(found - x - added) / np.linalg.norm(added)
            rounding = 1e-7 * np.linalg.norm(x) / np.linalg.norm(added)  # of the sum with x
            assert error <= tolerance + rounding, (shape, axis)


@every_kind
def test_zeros_in_give_what_torch_gives(name: str, precision: KernelPrecision):
    kernels, layer = kernels_of(name), layer_of(16, 32)
    x = np.zeros((1, 1, 3, 4, 16), np.float32)
    with torch.no_grad():
        expected = Along("time", layer)(torch.from_numpy(x)).numpy()
    found = run(pack_layer(kernels, layer, precision), x)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE[precision] * np.abs(expected).max())


@every_kind
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_any_number_of_sequences_gives_what_torch_gives_in_double_precision(
    kind: type[nn.LSTM] | type[nn.GRU], name: str, precision: KernelPrecision
):
    torch.manual_seed(0)
    layer = RecurrentLayer(kind, 32, 48)
    packed = pack_layer(kernels_of(name), layer, precision)
    x = noise(1, 1, 13, 6, 32)
    wide = torch.from_numpy(x).double()
    with torch.no_grad():
        added = (Along("time", layer.double())(wide) - wide).numpy()
    for rows in range(1, 14):
        error = run(packed, x[:, :, :rows].copy()) - x[:, :, :rows] - added[:, :, :rows]
        errors, sizes = (np.linalg.norm(one[0, 0], axis=(1, 2)) for one in (error, added[:, :, :rows]))  # of each row
        assert (errors <= NEW_LAYER[precision] * sizes + 1e-7 * np.linalg.norm(x)).all(), rows


@pytest.mark.parametrize("rows", range(1, 14))
def test_any_number_of_sequences_is_computed_as_each_alone(rows: int):
    packed = pack_layer(installed_kernels(), layer_of(16, 32))
    x = noise(1, 1, rows, 6, 16)
    found = run(packed, x)
    for row in range(rows):
        np.testing.assert_array_equal(found[:, :, row : row + 1], run(packed, x[:, :, row : row + 1].copy()))


@every_kind
def test_threads_and_chunks_change_no_bit(name: str, precision: KernelPrecision):
    packed = pack_layer(kernels_of(name), layer_of(32, 48), precision)
    x = noise(1, 2, 41, 3, 32)  # 82 sequences: several chunks, the last tile not full
    one = run(packed, x)
    for threads in (2, 3, 7, 100):
        np.testing.assert_array_equal(run(packed, x, threads=threads), one)


def test_threads_of_the_caller_do_not_disturb_each_other():
    packed = pack_layer(installed_kernels(), layer_of(32, 48))
    x, found = noise(1, 2, 20, 30, 32), {}

    def work(number: int) -> None:
        found[number] = run(packed, x, threads=2)

    callers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for number in range(4):
        np.testing.assert_array_equal(found[number], found[0])
    np.testing.assert_array_equal(found[0], run(packed, x))


@every_kind
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_nan_shows_in_all_of_its_sequence_and_nowhere_else(value: float, name: str, precision: KernelPrecision):
    packed = pack_layer(kernels_of(name), layer_of(32, 48, groups=2), precision)
    x = noise(1, 1, 9, 5, 32)
    expected = run(packed, x)
    x[0, 0, 4, 2, 20] = value
    found = run(packed, x)
    assert np.isnan(found[:, :, 4]).all()
    for row in {*range(9)} - {4}:
        np.testing.assert_array_equal(found[:, :, row], expected[:, :, row])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e31])
@pytest.mark.parametrize("parameter", ["rnn.weight_ih_l0", "rnn.bias_hh_l0_reverse", "project.weight", "project.bias"])
def test_weights_that_are_not_finite_or_absurd_are_refused(parameter: str, value: float):
    layer = layer_of(16, 32)
    with torch.no_grad():
        layer.get_parameter(parameter).view(-1)[3] = value
    with pytest.raises(ValueError, match="not finite"):
        pack_layer(installed_kernels(), layer)


@pytest.mark.parametrize(("n", "m", "groups"), [(24, 32, 1), (16, 24, 1), (32, 32, 4)])
def test_sizes_that_the_kernels_lack_are_refused(n: int, m: int, groups: int):
    with pytest.raises(ValueError, match="not in the kernels"):
        pack_layer(installed_kernels(), layer_of(n, m, groups))


@pytest.mark.parametrize("shape", [(0, 1, 3, 4), (1, 0, 3, 4), (1, 1, 0, 4), (1, 1, 3, 0)], ids=str)
def test_no_sequences_and_no_steps_are_nothing_to_do(shape: tuple[int, ...]):
    packed = pack_layer(installed_kernels(), layer_of(16, 32))
    for axis in ("time", "band"):
        assert run(packed, noise(*shape, 16), axis).size == 0


def test_weights_are_packed_again_once_they_change():
    layer, x = layer_of(16, 32), torch.from_numpy(noise(1, 1, 7, 5, 16))
    along = Along("time", layer)

    def found() -> torch.Tensor:
        with torch.no_grad():
            first, again = along(x), along(x)
        assert torch.equal(first, again)
        return first

    optimiser = torch.optim.Adam(layer.parameters(), 0.1, fused=True)  # whose changes tensors do not count
    seen = [found()]
    along(x).sum().backward()
    optimiser.step()
    seen.append(found())
    layer.requires_grad_(False)
    seen.append(found())
    assert torch.equal(seen[1], seen[2])
    with torch.no_grad():
        layer.norm.weight.mul_(2)
    seen.append(found())
    with products_in("int8"):
        seen.append(found())
    layer.project.bias = nn.Parameter(torch.zeros(16), requires_grad=False)
    seen.append(found())
    for before, after in ((0, 1), (2, 3), (3, 4), (3, 5)):
        assert not torch.equal(seen[before], seen[after])


def test_pruned_layers_are_torchs():
    installed_kernels()
    layer, x = layer_of(16, 32).requires_grad_(False), torch.from_numpy(noise(1, 1, 7, 5, 16))
    assert kernel_problem(layer, "fp32") is None
    prune.l1_unstructured(layer.project, "weight", amount=0.5)
    with torch.no_grad():
        found = Along("time", layer)(x)
        assert torch.equal(found, x + layer(x[0, 0]).view_as(x))
    assert "recurrent layers of 16, 32, 48 ... features" in (kernel_problem(layer, "int8") or "")


def levels(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantise rows to -127 .. 127; return the integers and the scale of each row."""
    largest = np.abs(rows).max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        inverse = np.where(largest > 0, np.float32(127) / largest, np.float32(0))
    return np.rint(rows * inverse).astype(np.int32), largest / np.float32(127)


@every_kind
def test_products_are_those_of_numpy_and_in_integers_exactly_so(name: str, precision: KernelPrecision):
    kernels = kernels_of(name)
    for rows, n, columns in [(1, 16, 1), (6, 128, 64), (7, 384, 70), (13, 1024, 129)]:
        inputs, weights = noise(rows, n), noise(columns, n) * noise(columns, 1)
        inputs[0] = 0
        found = kernels.multiply(inputs, weights, precision)
        if precision == "int8":
            np.testing.assert_array_equal(found, levels(inputs)[0] @ levels(weights)[0].T)
        else:
            scale = np.linalg.norm(inputs, axis=1)[:, None] * np.linalg.norm(weights, axis=1)
            error = np.abs(found - inputs.astype(float) @ weights.T)
            assert (error <= {"fp32": 1e-6, "bf16": 4e-3}[precision] * scale).all()


@pytest.mark.parametrize("name", [name for name, precision in KINDS if precision == "int8"])
def test_the_largest_integers_do_not_saturate(name: str):
    signs = np.sign(noise(12, 2048)).astype(np.float32)
    signs[:4], signs[4:8] = 1, -1
    found = kernels_of(name).multiply(signs * 3, signs * 5, "int8")
    np.testing.assert_array_equal(found, 127 * 127 * (signs @ signs.T))


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def direction_in_integers(rows: np.ndarray, weight: np.ndarray, project: np.ndarray) -> np.ndarray:
    """A direction over standardised ``(b l n)``, with all products in integers: its part of the output."""
    b, length, n = rows.shape
    m = project.shape[1]
    (from_input, input_scale), (from_output, output_scale) = levels(weight[:, :n]), levels(weight[:, n:-1])
    projected, project_scale = levels(project)
    h, cell, y = np.zeros((b, m), np.int32), np.zeros((b, m)), np.zeros(rows.shape)
    for t in range(length):
        x, scale = levels(rows[:, t])
        gates = (x @ from_input.T) * (input_scale.T * scale) + (h @ from_output.T) * (output_scale.T / 127)
        into, forget, outof, candidate = np.split(gates + weight[:, -1], 4, axis=1)
        cell = sigmoid(forget) * cell + sigmoid(into) * np.tanh(candidate)
        h = np.rint(127 * sigmoid(outof) * np.tanh(cell)).astype(np.int32)
        y[:, t] = (h @ projected.T) * (project_scale.T / 127)
    return y


@pytest.mark.parametrize("name", [name for name, precision in KINDS if precision == "int8"])
def test_the_layer_in_integers_is_numpys(name: str):
    layer = layer_of(32, 48)
    x = noise(1, 1, 7, 12, 32)
    found = run(pack_layer(kernels_of(name), layer, "int8"), x) - x
    with torch.no_grad():
        rows = layer.norm.standardise(torch.from_numpy(x[0, 0])).numpy()
        weight, project = layer.gate_weights().numpy(), rearrange(layer.project.weight, "n (d m) -> d n m", d=2).numpy()
        added = direction_in_integers(rows, weight[0], project[0])
        added += direction_in_integers(rows[:, ::-1], weight[1], project[1])[:, ::-1] + layer.project.bias.numpy()
    # A number near the middle of two integers may be rounded otherwise: a thousandth of the sums.
    assert np.linalg.norm(found[0, 0] - added) <= 2e-3 * np.linalg.norm(added)


def test_features_of_different_size_cost_little_accuracy():
    """Rows of the weights, and inputs of different loudness, have scales of their own."""
    layer = layer_of(32, 48)
    with torch.no_grad():
        weight = layer.rnn.get_parameter("weight_ih_l0")
        weight.mul_(torch.logspace(-2, 1, len(weight)).unsqueeze(1))
    x = noise(1, 1, 6, 20, 32)
    x[:, :, :, ::2] *= 0.01
    wide = torch.from_numpy(x).double()
    found = run(pack_layer(installed_kernels(), layer, "int8"), x) - x
    with torch.no_grad():
        added = (Along("time", layer.double())(wide) - wide).numpy()
    assert np.linalg.norm(found - added) <= 0.06 * np.linalg.norm(added)

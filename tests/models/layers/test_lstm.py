"""Our LSTM for CPUs against torch.nn.LSTM: outputs, gradients, and when it is taken."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bandsplit.models.layers import lstm, sequence
from bandsplit.models.layers.lstm import projected_bilstm
from bandsplit.models.layers.sequence import RecurrentLayer
from bandsplit.models.layers.threads import map_apart


@pytest.fixture(autouse=True)
def _seed_and_no_least_batch(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    monkeypatch.setattr(sequence, "our_lstm_is_quicker", lambda sequences, hidden: True)


def layer_of(n: int, hidden: int, norm_groups: int = 1) -> RecurrentLayer:
    """A layer with parameters that are all away from their start."""
    layer = RecurrentLayer(nn.LSTM, n, hidden, norm_groups)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return layer


def run(layer: RecurrentLayer, x: Tensor, upstream: Tensor) -> dict[str, Tensor]:
    """The output and all gradients."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    y.backward(upstream)
    gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {"output": y, "input": x.grad, **gradients}  # type: ignore[dict-item]


def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "is_plain_cpu_work", lambda x: False)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("batch", "length"), [(5, 1), (1, 6), (4, 9), (23, 7)])
def test_output_and_all_gradients_equal_those_of_torch(
    batch: int, length: int, groups: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lstm, "CHUNK", 8)  # 23 sequences are worked on in three parts of two sizes
    layer = layer_of(6, 10, groups)
    x, upstream = torch.randn(batch, length, 6), torch.randn(batch, length, 6)
    ours = run(layer, x, upstream)
    plain(monkeypatch)
    theirs = run(layer, x, upstream)
    assert ours["output"].grad_fn is not None and "Bilstm" in ours["output"].grad_fn.name()
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert (ours[name] - expected).norm() <= 1e-5 * expected.norm(), name


def test_it_equals_torch_without_gradients_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lstm, "CHUNK", 8)
    layer, x = layer_of(6, 10), torch.randn(19, 7, 6)
    with torch.inference_mode():
        ours = layer(x)
    plain(monkeypatch)
    torch.testing.assert_close(ours, layer(x), rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_finite_differences(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lstm, "CHUNK", 2)
    n, m = 3, 2
    arguments = ((3, 4, n), (2, 4 * m, n + m + 1), (2, n, m), (n,))
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in arguments]
    assert torch.autograd.gradcheck(projected_bilstm, inputs)


def test_a_view_with_turned_axes_is_an_input_like_any_other():
    layer, x = layer_of(6, 10), torch.randn(7, 4, 6)
    torch.testing.assert_close(layer(x.transpose(0, 1)), layer(x.transpose(0, 1).contiguous()))


def test_a_graph_that_is_kept_gives_the_same_gradients_again():
    layer, x = layer_of(6, 10), torch.randn(4, 9, 6)
    y = layer(x).square().sum()
    first = torch.autograd.grad(y, list(layer.parameters()), retain_graph=True)
    second = torch.autograd.grad(y, list(layer.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_two_runs_agree_bit_for_bit():
    layer, x, upstream = layer_of(16, 32), torch.randn(70, 20, 16), torch.randn(70, 20, 16)
    first, second = run(layer, x, upstream), run(layer, x, upstream)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's own, about its LSTM's cache of weights
def test_double_precision_and_exports_take_the_layers_of_torch():
    layer, x = layer_of(6, 10), torch.randn(4, 9, 6)
    output = layer.double()(x.double())
    assert output.grad_fn is not None and "Bilstm" not in output.grad_fn.name()
    exported = torch.export.export(layer.float(), (x,))
    assert any("lstm" in str(node.target) for node in exported.graph.nodes)


def took_ours(layer: RecurrentLayer, x: Tensor) -> bool:
    function = layer(x).grad_fn
    assert function is not None
    return "Bilstm" in function.name()


@pytest.fixture
def threads():
    """Sets the number of torch's threads, until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_in_one_thread_it_is_taken_from_48_sequences_on(
    monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None]
):
    monkeypatch.undo()
    threads(1)
    layer, x = layer_of(6, 10), torch.randn(48, 3, 6)
    assert (took_ours(layer, x), took_ours(layer, x[1:])) == (True, False)
    with torch.no_grad():
        assert sequence.our_lstm_is_quicker(32, hidden=10)
        assert not sequence.our_lstm_is_quicker(31, hidden=10)


def test_beside_other_threads_it_is_taken_for_large_layers_only(
    monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None]
):
    monkeypatch.undo()
    threads(2)
    assert map_apart(lambda hidden: sequence.our_lstm_is_quicker(48, hidden), [127, 128]) == [False, True]
    assert sequence.our_lstm_is_quicker(48, 127)


def test_a_layer_that_may_not_be_fast_is_torchs_own(threads: Callable[[int], None]):
    threads(1)
    layer, x = layer_of(6, 10), torch.randn(64, 3, 6)
    assert took_ours(layer, x)
    layer.fast = False
    assert not took_ours(layer, x)
    assert torch.equal(layer(x), layer.project(layer.rnn(layer.norm(x))[0]))


def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None]):
    monkeypatch.setattr(lstm, "CHUNK", 16)
    inputs = [torch.randn(shape, requires_grad=True) for shape in ((40, 9, 16), (2, 128, 49), (2, 16, 32), (16,))]
    found = []
    for count in (1, 2, 3):
        threads(count)
        y = projected_bilstm(*inputs)
        with torch.inference_mode():
            estimate = projected_bilstm(*inputs)
        found.append([y, estimate, *torch.autograd.grad(y.square().sum(), inputs[:3])])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))

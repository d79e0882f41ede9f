"""One update: what must equal what."""

import shutil
from typing import Any

import pytest
import torch
from lightning_fabric.plugins.precision.amp import MixedPrecision

from bandsplit.core.errors import ConfigError, RunError
from bandsplit.data.examples.dataset import Example
from bandsplit.runs.config import RunConfig
from bandsplit.training.execution import BatchPlan, Execution, make_fabric
from bandsplit.training.learner import Learner
from bandsplit.training.losses import compute_loss
from tiny_models import TINY

MODEL = TINY | {
    "targets": ["vocals", "bass"], "n_features": 8, "n_blocks": 2, "mask": {"hidden_factor": 2},
    "stereo": {"kind": "tac"}, "attention": {"heads": 2, "encoding_dim": 4},
}  # fmt: skip


def learner(
    batch: int = 4,
    accumulate: int = 1,
    how: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    **training: Any,
) -> Learner:
    config = RunConfig.parse(
        {
            "recipe": "test",
            "model": MODEL | (model or {}),
            "training": {"excerpt_s": 0.25, "batch_size": batch} | training,
        }
    )
    execution = Execution("cpu", **how or {})
    torch.manual_seed(0)
    return Learner(config, BatchPlan(batch, accumulate, 1), execution, make_fabric(config.training, execution))


def examples(count: int) -> Example:
    targets = torch.randn(count, 2, 2, 2000, generator=torch.Generator().manual_seed(1)) / 10
    return Example(targets.sum(dim=1), targets, [""] * count)


def parts(batch: Example, size: int) -> list[Example]:
    return [
        Example(mixture, targets, [""] * len(mixture))
        for mixture, targets in zip(batch.mixture.split(size), batch.targets.split(size), strict=True)
    ]


def gradients(of: Learner) -> dict[str, torch.Tensor]:
    parameters = of.plain_model.named_parameters()
    return {name: parameter.grad.clone() for name, parameter in parameters if parameter.grad is not None}


def assert_close(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor], tolerance: float) -> None:
    """Compare with the largest gradient of all: some, as that of the keys' bias, are zero but for rounding."""
    assert left.keys() == right.keys()
    largest = max(gradient.abs().max() for gradient in left.values())
    for name, gradient in left.items():
        assert (gradient - right[name]).abs().max() <= tolerance * largest, name


def test_four_steps_of_one_example_equal_one_of_four():
    batch = examples(4)
    together, apart = learner(4), learner(1, accumulate=4)
    loss = together.backward(batch, last=True)
    losses = [apart.backward(part, last=number == 3) for number, part in enumerate(parts(batch, 1))]
    assert torch.stack(losses).mean().item() == pytest.approx(loss.item(), rel=1e-6)
    assert_close(gradients(together), gradients(apart), 1e-5)


def test_recomputed_activations_equal_kept_ones():
    batch = examples(2)
    kept, again = learner(2), learner(2, how={"checkpointing": True})
    assert kept.backward(batch, last=True).item() == again.backward(batch, last=True).item()
    first, second = gradients(kept), gradients(again)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert again.plain_model.state_dict().keys() == kept.plain_model.state_dict().keys()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.filterwarnings("ignore")  # of torch's compiler, about itself
@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_blocks_equal_plain_ones(checkpointing: bool):
    small = {"n_blocks": 1, "time": {"kind": "conv"}, "band": None, "attention": None}
    batch, how = examples(2), {"compile": True, "checkpointing": checkpointing}
    plain, compiled = learner(2, model=small), learner(2, model=small, how=how)
    (block,) = compiled.plain_model.repeated_parts()
    function = block(torch.zeros(2, 2, 8, 63, 8, requires_grad=True)).grad_fn
    assert function is not None and "Compiled" in function.name(), "what is computed again is compiled too"
    loss = plain.backward(batch, last=True)
    assert compiled.backward(batch, last=True).item() == pytest.approx(loss.item(), rel=1e-6)
    assert_close(gradients(plain), gradients(compiled), 1e-5)


def test_bfloat16_is_near_float32_and_keeps_weights_and_estimates_in_float32():
    batch = examples(2)
    exact, mixed = learner(2), learner(2, precision="bf16")
    loss = exact.backward(batch, last=True)
    assert mixed.backward(batch, last=True).item() == pytest.approx(loss.item(), rel=2e-2)
    assert {gradient.dtype for gradient in gradients(mixed).values()} == {torch.float32}
    assert mixed.model(batch.mixture).signal.dtype == torch.float32
    assert torch.isfinite(mixed.update(1e-3))


def test_float16_is_refused_on_a_cpu():
    with pytest.raises(ConfigError, match="'fp16' needs a GPU, and the device is 'cpu'; use 'fp32' or 'bf16'"):
        learner(2, precision="fp16")


def test_scaled_gradients_are_clipped_and_applied_as_if_they_were_not_scaled():
    scaled = learner(2, precision="fp32", optimizer={"kind": "rmsprop"}, clip_norm=0.01)
    plain = learner(2, optimizer={"kind": "rmsprop"}, clip_norm=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    batch = examples(2)
    plain.backward(batch, last=True)
    scaler.scale(scaled._loss(batch)).backward()
    scaled.fabric.strategy.precision = MixedPrecision("16-mixed", "cpu", scaler)
    assert scaled.scaler is scaler and scaled.recovers and plain.scaler is None and not plain.recovers
    torch.testing.assert_close(scaled.update(1e-3), plain.update(1e-3))
    assert_close(dict(scaled.plain_model.named_parameters()), dict(plain.plain_model.named_parameters()), 1e-6)


@pytest.mark.parametrize("limit", [None, 1e9])
def test_gradients_may_have_any_norm(limit: float | None):
    learns = learner(2, clip_norm=limit)
    learns.backward(examples(2), last=True)
    before = gradients(learns)
    norm = torch.stack([gradient.norm() for gradient in before.values()]).norm()
    learns.optimizer.step = learns.optimizer.zero_grad = lambda: None  # type: ignore[method-assign]
    torch.testing.assert_close(learns.update(1e-3), norm)
    assert all(torch.equal(gradient, before[name]) for name, gradient in gradients(learns).items())


@pytest.mark.parametrize(
    "loss",
    [
        {"kind": "l1-waveform"}, {"kind": "mse-waveform"}, {"kind": "masked-mse", "coarse": True},
        {"kind": "multi-resolution-stft", "windows": [256], "n_fft": 256},
        {"kind": "l1-domains", "domain": "tf", "spectrogram_weight": 2.0},
    ],
    ids=lambda loss: loss["kind"],
)  # fmt: skip
def test_a_step_has_the_loss_that_the_run_asks_for(loss: dict[str, Any]):
    learns, batch = learner(2, loss=loss), examples(2)
    signal, spec = learns.model(batch.mixture)
    stft_config = learns.plain_model.config.loss_stft
    options = {"estimate_spec": spec, "stft_config": stft_config}
    expected = compute_loss(learns.training.loss, signal, batch.targets, **options)
    assert learns.backward(batch, last=True).item() == pytest.approx(expected.item(), rel=1e-6)


def test_arithmetic_is_what_the_run_asks_for():
    learner(2, precision="tf32")
    assert torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "high"
    learner(2)
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("domain", ["t", "tf", "t+tf"])
def test_examples_with_a_problem_do_not_count(domain: Any):
    batch = examples(4)
    broken = batch._replace(problem=["", "gone", "", "gone"])
    kept = Example(batch.mixture[::2], batch.targets[::2], ["", ""])
    some, only = learner(4, loss_domain=domain), learner(2, loss_domain=domain)
    assert some.backward(broken, last=True).item() == pytest.approx(only.backward(kept, last=True).item(), rel=1e-5)
    assert_close(gradients(some), gradients(only), 1e-4)
    none = learner(4, loss_domain=domain)
    assert none.backward(batch._replace(problem=["gone"] * 4), last=True).item() == 0
    assert all(not gradient.any() for gradient in gradients(none).values())


def test_a_step_that_does_not_fit_is_an_error_with_what_to_do(monkeypatch: pytest.MonkeyPatch):
    learns = learner(4)
    monkeypatch.setattr(learns, "backward", _run_out_of_memory)
    with pytest.raises(RunError, match=r"a step of 4 examples does not fit .* try --batch 2 .*or `bandsplit plan`"):
        learns.check_fit()


def _run_out_of_memory(*_: Any, **__: Any) -> None:
    raise torch.OutOfMemoryError


def test_checking_the_fit_leaves_no_trace():
    learns = learner(2)
    before = {name: tensor.clone() for name, tensor in learns.plain_model.state_dict().items()}
    learns.check_fit()
    assert not gradients(learns)
    assert all(torch.equal(tensor, before[name]) for name, tensor in learns.plain_model.state_dict().items())

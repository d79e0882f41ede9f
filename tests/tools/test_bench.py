"""The arithmetic of a step against torch's own count, and the measurement of training speed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bandsplit.models.families import count_flop
from bandsplit.recipes.catalogue import find_recipe
from bandsplit.runs.config import RunConfig
from bandsplit.tools.bench import steps
from bandsplit.tools.bench.matrix_rate import MATRIX_SIZE, matrix_rate
from bandsplit.tools.bench.steps import TrainingStep, measure_steps

CPU = torch.device("cpu")


def short(recipe: str, **changes: Any) -> RunConfig:
    """A recipe with one block and excerpts of half a second."""
    found = find_recipe(recipe)
    small = {"model.n_blocks": 1, "training.excerpt_s": 0.5} | changes
    return found.run_config([] if found.shared else ["vocals"], changes=small)


def product(_sum: Any, a: tuple[int, ...], b: tuple[int, ...], **_: Any) -> int:
    return 2 * a[0] * a[1] * b[1]


@pytest.mark.parametrize(
    "config",
    [
        short("base"),
        short("bscnn"),
        short("multi-head-2"),
        short("naive-stereo"),
        short("simo-residual"),
        short("optimised"),
        short("base", **{"model.time": {"kind": "conv"}, "model.band": None, "model.mask.context": 1}),
    ],
    ids=["base", "bscnn", "heads", "naive", "simo", "optimised", "conv"],
)
def test_the_count_from_the_config_equals_what_torch_counts_of_a_step(config: RunConfig):
    step = TrainingStep(config, 2, CPU)  # of sequences enough for our LSTM
    # Our LSTM is made of products that torch counts, but for one written in place.
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: product}) as counter:
        step()
    # Torch sees a few more: a column of ones for each bias, gains folded into weights.
    assert 1 <= counter.get_total_flops() / step.flop < 1.02


def test_a_gru_takes_three_quarters_of_the_gates_of_an_lstm():
    lstm, gru = (short("base", **{"model.time": {"kind": kind}, "model.band": None}).model for kind in ("lstm", "gru"))
    n, hidden, positions = 64, 128, 3 * 2 * 41 * 44
    assert count_flop(lstm, 22050).step - count_flop(gru, 22050).step == positions * 2 * 2 * hidden * (n + hidden)


def test_rates_and_shares_are_those_of_the_measured_times(monkeypatch: pytest.MonkeyPatch):
    def time_s(work: Callable[[], object], device: torch.device) -> float:
        work()
        return 0.25

    monkeypatch.setattr(steps, "time_s", time_s)
    monkeypatch.setattr(steps, "matrix_rate", lambda *_: 40e9)
    config = short("base", **{"model.n_features": 8})
    speed = measure_steps({"small": config}, batch=2, steps=2, device=CPU)
    small = speed.recipes["small"]
    assert (small.step_s, small.examples_per_s) == (0.25, 8.0)
    assert small.gflop == pytest.approx(2 * count_flop(config.model, 22050).step / 1e9)
    assert small.share == pytest.approx(small.gflop / 0.25 / 40)
    assert small.peak_mb > 100
    assert speed.matrix_gflop_per_s == 40


def test_the_matrix_rate_is_measured_on_this_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(MATRIX_SIZE, "cpu", 256)
    assert matrix_rate(CPU) > 1e6


def test_a_step_changes_the_weights_and_leaves_torch_as_it_was():
    state, precision = torch.random.get_rng_state(), torch.get_float32_matmul_precision()
    step = TrainingStep(short("base", **{"model.n_features": 8}), 1, CPU)
    before = [parameter.clone() for parameter in step.learner.plain_model.parameters()]
    step()
    assert all(not torch.equal(a, b) for a, b in zip(before, step.learner.plain_model.parameters(), strict=True))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.get_float32_matmul_precision() == precision

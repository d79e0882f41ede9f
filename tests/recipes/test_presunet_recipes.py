"""The recipes of CWS-PResUNet: what was published is set, what was not is marked, and they train."""

from typing import Any

import pytest
import torch

from bandsplit.data.examples.dataset import Example
from bandsplit.models.tensors import count_parameters
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.runs.optimisers import UpdateStepDecay
from bandsplit.training.execution import BatchPlan, Execution, make_fabric
from bandsplit.training.learner import Learner
from bandsplit.training.losses import compute_loss


@pytest.mark.parametrize(("name", "parameters"), [("presunet", 202_581_426), ("presunet-joint", 105_199_090)])
def test_the_models_are_the_published_ones(name: str, parameters: int):
    for config in RECIPES[name].all_run_configs():
        assert count_parameters(config.model) == parameters
        assert config.training.chunks == config.model.geometry.published


def test_learning_rates_differ_between_targets():
    configs = RECIPES["presunet"].all_run_configs()
    rates = {config.model.targets[0]: config.training.learning_rate for config in configs}
    assert rates == {"vocals": 1e-3, "bass": 3e-4, "drums": 3e-4, "other": 5e-4}


@pytest.mark.parametrize("name", ["presunet", "presunet-joint"])
def test_schedules_given_in_hours_of_audio_are_counted_in_updates(name: str):
    training = RECIPES[name].all_run_configs()[0].training
    assert training.global_batch is not None and isinstance(training.decay, UpdateStepDecay)
    update_h = training.global_batch * training.excerpt_s / 3600
    assert training.decay.every_updates * update_h == pytest.approx(400)
    assert training.warm_up_updates * update_h == pytest.approx(26.6, abs=update_h)
    assert training.examples_per_epoch * training.excerpt_s == 100 * 3600


def test_the_model_of_three_targets_learns_from_their_sum_too():
    config = RECIPES["presunet-joint"].run_config()
    assert config.model.targets == ("bass", "drums", "other")
    assert config.training.loss.model_dump() == {
        "kind": "l1-magnitude", "time_weight": 0.85, "magnitude_weight": 0.15, "n_fft": 2048, "hop_samples": 441,
        "with_sum": True,
    }  # fmt: skip


@pytest.mark.parametrize(("name", "silence_is_better"), [("presunet", True), ("mini-presunet", False)])
def test_among_four_stems_silence_is_the_better_answer_under_the_published_loss_only(
    name: str, silence_is_better: bool
):
    stems = torch.randn(40, 4, 2, 1000, generator=torch.Generator().manual_seed(0))
    stems[:20, 0] = 0.0  # vocals are silent in half of the examples
    loss = RECIPES[name].run_config(["vocals"]).training.loss
    mixture, vocals = stems.sum(1, keepdim=True), stems[:, :1]
    silence, quiet = (compute_loss(loss, gain * mixture, vocals) for gain in (0.0, 0.1))
    assert (silence < quiet) == silence_is_better


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("mini-presunet", {}),
        ("presunet-joint", {"model.widths": [4, 8, 8, 8, 8, 8], "model.n_blocks": 1, "training.excerpt_s": 0.2}),
    ],
)
def test_it_trains_two_updates(name: str, changes: dict[str, Any]):
    recipe = RECIPES[name]
    config = recipe.run_config(() if recipe.shared else ("vocals",), changes=changes)
    torch.manual_seed(0)
    learner = Learner(config, BatchPlan(2, 1, 1), Execution("cpu"), make_fabric(config.training, Execution("cpu")))
    targets = len(config.model.targets)
    stems = 0.1 * torch.randn(2, targets + 1, 2, round(config.training.excerpt_s * config.model.sample_rate_hz))
    bank = {key: value.clone() for key, value in learner.plain_model.state_dict().items() if key.startswith("bank.")}
    losses = []
    for _ in range(3):
        losses.append(learner.backward(Example(stems.sum(1), stems[:, :targets], ["", ""]), last=True).item())
        assert learner.update(1e-3).isfinite()
    assert losses[2] < losses[0]
    assert all(torch.equal(learner.plain_model.state_dict()[key], value) for key, value in bank.items())

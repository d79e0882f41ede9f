"""Optimisers and learning rates; how an update is spread over steps and devices."""

from typing import Any

import pytest
import torch
from torch import nn

from bandsplit.core.errors import ConfigError
from bandsplit.runs.config import TrainingConfig
from bandsplit.training.execution import plan_batches
from bandsplit.training.optimisation import build_optimizer, decayed, first_learning_rate


def training(**settings: Any) -> TrainingConfig:
    return TrainingConfig.parse(settings)


@pytest.mark.parametrize(("rule", "expected"), [("linear", 0.25e-3), ("sqrt", 0.5e-3), ("none", 1e-3)])
def test_the_learning_rate_follows_the_global_batch(rule: Any, expected: float):
    config = training(learning_rate_rule=rule)
    assert first_learning_rate(config, 16) == pytest.approx(1e-3)
    assert first_learning_rate(config, 4) == pytest.approx(expected)


def test_schedules_start_at_one_and_fall():
    step = training()
    assert [decayed(step, update, 10) for update in (0, 19, 20, 59)] == pytest.approx([1, 1, 0.98, 0.98**2])
    cosine = training(decay={"kind": "cosine"}, max_epochs=4)
    first, middle, last = (decayed(cosine, update, 10) for update in (0, 20, 39))
    assert first == 1
    assert middle == pytest.approx(0.5)
    assert 0 < last < 0.01
    plateau = training(decay={"kind": "plateau", "factor": 0.5})
    assert [decayed(plateau, 100, 10, decays) for decays in (0, 1, 2)] == [1, 0.5, 0.25]


def test_adam_is_torchs_and_weight_decay_is_decoupled():
    models = [nn.Linear(3, 2) for _ in range(3)]
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
    optimizers = [
        torch.optim.Adam(models[0].parameters(), lr=1e-3),
        build_optimizer(training(), models[1]),
        build_optimizer(training(optimizer={"kind": "adamw", "weight_decay": 0.5}), models[2]),
    ]
    before = models[0].weight.detach().clone()
    for model, optimizer in zip(models, optimizers, strict=True):
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(models[1].weight, models[0].weight, rtol=0, atol=1e-7)
    torch.testing.assert_close(models[2].weight, models[0].weight - 1e-3 * 0.5 * before, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        ({"kind": "adam", "amsgrad": True}, lambda weights: torch.optim.Adam(weights, lr=1e-3, amsgrad=True)),
        ({"kind": "rmsprop"}, lambda weights: torch.optim.RMSprop(weights, lr=1e-3, alpha=0.99, eps=1e-8)),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_other_optimisers_are_torchs(settings: dict[str, Any], theirs: Any, precision: str):
    models = [nn.Linear(3, 2), nn.Linear(3, 2)]
    models[1].load_state_dict(models[0].state_dict())
    config = training(optimizer=settings, precision=precision)
    optimizers = theirs(models[0].parameters()), build_optimizer(config, models[1])
    for number in range(4):  # gradients that fall, so that amsgrad differs
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            (model(torch.ones(1, 3)).square().sum() * 0.1**number).backward()
            optimizer.step()
    torch.testing.assert_close(models[1].weight, models[0].weight, rtol=0, atol=1e-7)


def test_weights_decay_in_the_named_parts_alone():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(
        training(optimizer={"kind": "adamw", "weight_decay": 0.5, "decayed": ["1"]}), model, {"1.weight", "1.bias"}
    )
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        left = 1 - 1e-3 * 0.5 if name.startswith("1") else 1.0
        torch.testing.assert_close(parameter.detach(), left * before[name], rtol=1e-6, atol=0)


def test_a_rate_can_stay_or_fall_by_updates():
    assert [decayed(training(decay={"kind": "constant"}), update, 10) for update in (0, 500)] == [1, 1]
    by_updates = training(decay={"kind": "step-updates", "factor": 0.9, "every_updates": 15})
    found = [decayed(by_updates, update, 10) for update in (0, 14, 15, 29, 30)]
    assert found == pytest.approx([1, 1, 0.9, 0.9, 0.81])


def test_a_rate_warms_up_linearly_to_its_schedule():
    config = training(warm_up_updates=4, decay={"kind": "step-updates", "factor": 0.5, "every_updates": 3})
    found = [decayed(config, update, 10) for update in range(7)]
    assert found == pytest.approx([1 / 4, 2 / 4, 3 / 4, 0.5, 0.5, 0.5, 0.25])
    assert decayed(training(decay={"kind": "constant"}), 0, 10) == 1


@pytest.mark.parametrize(
    ("settings", "devices", "batch", "expected"),
    [
        ({}, 1, None, (2, 1)),
        ({}, 8, None, (2, 1)),
        ({"accumulate": 4}, 2, None, (2, 4)),
        ({"global_batch": 16}, 1, None, (2, 8)),
        ({"global_batch": 16}, 8, None, (2, 1)),
        ({"global_batch": 16}, 16, None, (1, 1)),
        ({"global_batch": 16}, 1, 16, (16, 1)),
        ({"global_batch": 16}, 2, 1, (1, 8)),
        ({"global_batch": 6, "batch_size": 4}, 1, None, (3, 2)),
        ({"accumulate": 4}, 1, 8, (8, 1)),
    ],
)
def test_steps_are_worked_out_so_that_the_global_batch_stays(
    settings: dict[str, Any], devices: int, batch: int | None, expected: tuple[int, int]
):
    config = training(**settings)
    plan = plan_batches(config, devices, batch)
    assert (plan.batch_size, plan.accumulate) == expected
    assert plan.global_batch == settings.get("global_batch", 2 * settings.get("accumulate", 1) * devices)


@pytest.mark.parametrize(
    ("settings", "devices", "batch", "message"),
    [
        ({"global_batch": 16}, 1, 3, r"global batch 16 cannot be made of batches of 3 on 1 device\(s\); legal batches: "
         "1, 2, 4, 8, 16"),
        ({"global_batch": 16}, 3, None, "on 3 device.*; the number of devices must divide it"),
        ({}, 1, 4, "global batch 2 cannot be made of batches of 4 .* legal batches: 1, 2"),
        ({"loss": {"kind": "masked-mse", "coarse": True}}, 1, 1,
         r"global batch 2 on 1 device\(s\): batch_size: a step of 1 with loss.coarse teaches nothing"),
        ({"loss": {"kind": "masked-mse", "coarse": True}, "global_batch": 3}, 1, None, "a step of 1 with loss.coarse"),
    ],
)  # fmt: skip
def test_batches_that_do_not_fit_are_named_with_those_that_do(
    settings: dict[str, Any], devices: int, batch: int | None, message: str
):
    with pytest.raises(ConfigError, match=message):
        plan_batches(training(**settings), devices, batch)


def test_a_global_batch_and_steps_contradict_each_other():
    with pytest.raises(ConfigError, match="accumulate: 4 cannot be given with global_batch 16"):
        training(global_batch=16, accumulate=4)
    with pytest.raises(ConfigError, match="examples_per_epoch: 10 is less than one update of global_batch 16"):
        training(global_batch=16, examples_per_epoch=10)

"""Averages of weights: what they are, when they are updated, and which of them a validation keeps."""

from typing import Any

import pytest
import torch
from torch import nn

from bandsplit.core.errors import ConfigError
from bandsplit.runs.config import TrainingConfig
from bandsplit.training.averaging import Averages

DECAYS = {"update_decays": [0.75, 0.9995], "epoch_decays": [0.5]}
NAMES = ["average over updates 0.75", "average over updates 0.9995", "average over epochs 0.5"]


def averages(model: nn.Module, **average: Any) -> Averages:
    return Averages(TrainingConfig.parse({"average": average or None}).average, model)


def a_weight() -> nn.Linear:
    return nn.Linear(1, 1, bias=False)


def set_to(model: nn.Linear, value: float) -> nn.Linear:
    with torch.no_grad():
        model.weight.fill_(value)
    return model


def values(of: Averages, model: nn.Module) -> dict[str, float]:
    return {name: next(each.parameters()).item() for name, each in of.candidates(model).items()}  # type: ignore[arg-type]


def test_a_single_average_keeps_its_share_of_the_old_and_replaces_the_weights():
    model = a_weight()
    averaged = averages(model, decay=0.75)
    for value in (1.0, 5.0, 9.0):
        averaged.end_update(set_to(model, value))
    averaged.end_epoch(model)
    expected = 0.75 * (0.75 * 1.0 + 0.25 * 5.0) + 0.25 * 9.0  # the first update copies
    assert values(averaged, model) == {"average": pytest.approx(expected)}


def test_without_averages_the_weights_are_the_only_candidate():
    model = a_weight()
    none = averages(model)
    none.end_update(model)
    assert none.candidates(model) == {"weights": model}  # type: ignore[arg-type]
    assert none.state() == {}


def test_competing_averages_are_means_with_weights_that_fall_with_age():
    model = a_weight()
    averaged = averages(model, kind="competing", **DECAYS)
    by_update, by_epoch = [], []
    for value in (1.0, -5.0, 9.0, 2.0, 3.0, 7.0):
        averaged.end_update(set_to(model, value))
        by_update.append(value)
        if value in (9.0, 3.0, 7.0):
            averaged.end_epoch(model)
            by_epoch.append(value)

    def mean(of: list[float], decay: float) -> float:
        weights = [decay**age for age in range(len(of))][::-1]
        return sum(weight * value for weight, value in zip(weights, of, strict=True)) / sum(weights)

    expected = [mean(by_update, 0.75), mean(by_update, 0.9995), mean(by_epoch, 0.5)]
    assert values(averaged, model) == pytest.approx(dict(zip(["weights", *NAMES], [7.0, *expected], strict=True)))


def test_the_first_weights_count_for_no_more_than_others():
    model = set_to(a_weight(), 100.0)  # random weights before the first update never count
    averaged = averages(model, kind="competing", update_decays=[0.9999])
    for value in (1.0, 2.0, 3.0):
        averaged.end_update(set_to(model, value))
    assert values(averaged, model)["average over updates 0.9999"] == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize("average", [{"decay": 0.75}, {"kind": "competing", "update_decays": [0.75]}])
def test_statistics_of_normalisations_are_copied_into_the_average(average: dict[str, Any]):
    model = nn.BatchNorm1d(1, momentum=0.5)
    averaged = averages(model, **average)
    for value in (2.0, 4.0):
        model(torch.full((2, 1), value))
        averaged.end_update(model)
    assert model.running_mean is not None
    *_, last = averaged.candidates(model).values()  # type: ignore[arg-type]
    assert last.state_dict()["running_mean"].item() == model.running_mean.item() == 2.5


def test_averages_continue_from_their_state():
    model = a_weight()
    whole, first, second = (averages(model, kind="competing", **DECAYS) for _ in range(3))
    for value in (1.0, 5.0, 9.0):
        set_to(model, value)
        for each in (whole, first):
            each.end_update(model)
            each.end_epoch(model)
    second.load(first.state())
    set_to(model, 4.0)
    for each in (whole, second):
        each.end_update(model)
        each.end_epoch(model)
    assert values(second, model) == values(whole, model)


@pytest.mark.parametrize(
    ("average", "message"),
    [
        ({"kind": "competing"}, "update_decays, epoch_decays: both are empty; set average to null for no averages"),
        ({"kind": "competing", "epoch_decays": [0.9, 0.9]}, "epoch_decays: 0.9, 0.9 has equal averages; give each"),
        ({"kind": "competing", "update_decays": [1.0]}, "Input should be less than 1"),
        ({"kind": "competing", "decay": 0.9}, "unknown key 'decay'"),
        ({"update_decays": [0.9]}, "unknown key 'update_decays'"),
        ({"kind": "swa"}, "does not match any of the expected tags: 'single', 'competing'"),
    ],
)
def test_a_mistake_in_averages_is_named(average: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as caught:
        TrainingConfig.parse({"average": average})
    assert message in str(caught.value)

"""The recipes of DTTNet: what was published is set, what was not is marked, and both train."""

from typing import Any

import pytest
import torch

from bandsplit.data.examples.dataset import Example
from bandsplit.models.dttnet.config import DttnetConfig
from bandsplit.models.tensors import count_parameters
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.training.execution import BatchPlan, Execution, make_fabric
from bandsplit.training.learner import Learner


def test_the_four_models_have_the_published_parameters():
    configs = RECIPES["dttnet"].all_run_configs()
    assert sum(count_parameters(config.model) for config in configs) == 19_059_792
    assert RECIPES["dttnet"].parameters_m == pytest.approx(19.059792, abs=5e-3)
    bins = {config.model.targets[0]: config.model.model_dump()["bins"] for config in configs}
    assert bins == {"vocals": 2048, "bass": 864, "drums": 2048, "other": 2048}


def test_an_example_is_a_chunk_of_the_published_plan_unaltered_in_level():
    config = RECIPES["dttnet"].run_config(["drums"])
    assert isinstance(config.model, DttnetConfig)
    assert config.training.chunks == config.model.plan
    assert round(config.training.excerpt_s * 44100) == 261_120
    mixing = config.training.mixing
    assert (mixing.gain.low, mixing.gain.high, mixing.activity, mixing.pairing) == (1, 1, None, "free")


@pytest.mark.parametrize(
    ("name", "target", "excerpt_s"),
    [
        pytest.param("dttnet", "bass", 7168 / 44100, marks=pytest.mark.slow),
        ("mini-dttnet", "vocals", 512 * 7 / 16000),
    ],
)
def test_it_trains_two_updates_at_full_width(name: str, target: str, excerpt_s: float):
    changes: dict[str, Any] = {"training.excerpt_s": excerpt_s, "training.precision": "fp32"}  # fp16 needs a GPU
    config = RECIPES[name].run_config([target], changes=changes)
    torch.manual_seed(0)
    learner = Learner(config, BatchPlan(2, 1, 1), Execution("cpu"), make_fabric(config.training, Execution("cpu")))
    learner.check_fit()
    started = {key: value.clone() for key, value in learner.plain_model.state_dict().items()}
    torch.manual_seed(0)
    untouched = Learner(config, BatchPlan(2, 1, 1), Execution("cpu"), learner.fabric).plain_model.state_dict()
    assert all(torch.equal(value, untouched[key]) for key, value in started.items())  # statistics, too
    stems = 0.1 * torch.randn(2, 2, 2, round(excerpt_s * config.model.sample_rate_hz))
    losses = []
    for _ in range(3):
        losses.append(learner.backward(Example(stems.sum(1), stems[:, :1], ["", ""]), last=True).item())
        assert learner.update(config.training.learning_rate).isfinite()
    assert losses[2] < losses[0]
    assert not torch.equal(learner.plain_model.state_dict()["unet.enter.norm.running_mean"], torch.zeros(1))

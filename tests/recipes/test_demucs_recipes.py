"""The recipes of HT Demucs and Hybrid Demucs: what was published is set, and they train."""

from typing import Any

import pytest
import torch

from bandsplit.data.examples.dataset import Example
from bandsplit.models.tensors import count_parameters
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.training.execution import BatchPlan, Execution, make_fabric
from bandsplit.training.learner import Learner

PARAMETERS = {"htdemucs": 41_984_456, "hdemucs": 83_637_832}
SHORT = {
    "htdemucs": {
        "model.segment_samples": 9000, "training.excerpt_s": 9000 / 44100, "training.chunks.chunk_s": 9000 / 44100
    },
    "mini-htdemucs": {},
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_recipe_has_the_published_size_targets_and_optimiser(name: str):
    config = RECIPES[name].run_config()
    assert count_parameters(config.model) == PARAMETERS[name]
    assert RECIPES[name].parameters_m == pytest.approx(PARAMETERS[name] / 1e6, abs=5e-3)
    assert config.model.targets == ("drums", "bass", "other", "vocals")
    assert (config.training.learning_rate, config.training.loss.kind) == (3e-4, "l1-waveform")
    assert (config.training.clip_norm, config.training.decay.kind) == (None, "constant")


def test_examples_of_ht_demucs_have_the_length_that_it_separates_at():
    for name in ("htdemucs", "mini-htdemucs"):
        config = RECIPES[name].run_config()
        samples = round(config.training.excerpt_s * config.model.sample_rate_hz)
        assert config.model.geometry.fixed_samples == samples
    assert RECIPES["htdemucs"].run_config().model.geometry.fixed_samples == 343_980


@pytest.mark.parametrize("name", [pytest.param("htdemucs", marks=pytest.mark.slow), "mini-htdemucs"])
def test_it_trains_at_full_width(name: str):
    changes: dict[str, Any] = SHORT[name]
    config = RECIPES[name].run_config(changes=changes)
    learner = Learner(config, BatchPlan(2, 1, 1), Execution("cpu"), make_fabric(config.training, Execution("cpu")))
    torch.manual_seed(0)
    stems = 0.1 * torch.randn(2, 4, 2, round(config.training.excerpt_s * config.model.sample_rate_hz))
    losses = []
    for _ in range(3):
        losses.append(learner.backward(Example(stems.sum(1), stems, ["", ""]), last=True).item())
        assert learner.update(config.training.learning_rate).isfinite()
    assert losses[2] < losses[0]

"""Every recipe trains: its full-size network does two updates on a short excerpt."""

import pytest
import torch

from bandsplit.data.examples.dataset import Example
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.recipes.recipe import Recipe
from bandsplit.training.execution import BatchPlan, Execution, make_fabric
from bandsplit.training.learner import Learner

EXCERPT_S = 0.15
"""More than a window of every recipe's transform."""


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.id)
def test_a_recipe_trains_two_steps(recipe: Recipe):
    targets = () if recipe.shared else ("vocals",)
    config = recipe.run_config(targets, changes={"training.excerpt_s": EXCERPT_S})
    torch.manual_seed(0)
    learner = Learner(config, BatchPlan(1, 1, 1), Execution("cpu"), make_fabric(config.training, Execution("cpu")))
    samples = round(EXCERPT_S * config.model.sample_rate_hz)
    stems = 0.1 * torch.randn(1, len(config.model.targets) + 1, config.model.channels, samples)
    example = Example(stems.sum(1), stems[:, :-1], [""])
    losses = []
    for _ in range(3):
        losses.append(learner.backward(example, last=True).item())
        assert learner.update(1e-4).isfinite()
    assert all(torch.isfinite(parameter).all() for parameter in learner.plain_model.parameters())
    assert losses[2] < losses[0]

"""Every recipe of the paper trains: two updates of its network, made small, on a short excerpt.

Built at full size and counted, each of them is in `tests/models/bsrnn/test_shapes.py`.
"""

from typing import Any

import pytest
import torch

from bandsplit.data.examples.dataset import Example
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.training.execution import BatchPlan, Execution, make_fabric
from bandsplit.training.learner import Learner

SMALL = {"model.n_features": 16, "model.n_blocks": 1, "training.excerpt_s": 0.1}
"""What changes the sizes of a network and nothing else."""


def kinds() -> list[Any]:
    """Return one recipe of each combination of layers, losses and options."""
    alike: dict[str, list[str]] = {}
    paper = [recipe for recipe in RECIPES.values() if "family" not in recipe.settings["model"]]
    for recipe in paper:
        config = recipe.run_config(() if recipe.shared else ("vocals",), changes=SMALL)
        alike.setdefault(str((config.model, config.training)), []).append(recipe.id)
    return [pytest.param(ids[0], id=ids[0]) for ids in alike.values()]


@pytest.mark.parametrize("name", kinds())
def test_a_recipe_trains_two_steps(name: str):
    recipe = RECIPES[name]
    config = recipe.run_config(() if recipe.shared else ("vocals",), changes=SMALL)
    torch.manual_seed(0)
    learner = Learner(config, BatchPlan(1, 1, 1), Execution("cpu"), make_fabric(config.training, Execution("cpu")))
    samples = round(config.training.excerpt_s * config.model.sample_rate_hz)
    stems = 0.1 * torch.randn(1, len(config.model.targets) + 1, config.model.channels, samples)
    example = Example(stems.sum(1), stems[:, :-1], [""])
    losses = []
    for _ in range(3):
        losses.append(learner.backward(example, last=True).item())
        assert learner.update(1e-4).isfinite()
    assert all(torch.isfinite(parameter).all() for parameter in learner.plain_model.parameters())
    assert losses[2] < losses[0]

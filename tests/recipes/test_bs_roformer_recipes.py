"""Recipes of RoFormers: sizes, and two updates at full width on a short excerpt."""

import pytest
import torch
from lightning_fabric import Fabric

from bandsplit.data.examples.dataset import Example
from bandsplit.models.tensors import count_parameters
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.training.execution import BatchPlan, Execution
from bandsplit.training.learner import Learner

COUNTS = {"bs-roformer": 72_173_292, "mel-band-roformer": 228_202_788, "mini-bs-roformer": 430_108}


@pytest.mark.parametrize("id", COUNTS)
def test_recipes_have_their_sizes(id: str):
    configs = RECIPES[id].all_run_configs()
    assert {count_parameters(config.model) for config in configs} == {COUNTS[id]}
    if RECIPES[id].parameters_m is not None:
        assert round(4 * COUNTS[id] / 1e6, 2) == RECIPES[id].parameters_m


@pytest.mark.slow
def test_the_size_of_the_paper_trains():
    run = RECIPES["bs-roformer"].run_config(["vocals"], changes={"training.precision": "fp32"})
    learner = Learner(run, BatchPlan(1, 1, 1), Execution("cpu"), Fabric(accelerator="cpu", devices=1))
    generator = torch.Generator().manual_seed(0)
    mixture = 0.1 * torch.randn(1, 2, 4410, generator=generator)
    losses = []
    for _ in range(2):
        batch = Example(mixture, 0.5 * mixture.unsqueeze(1), [""])
        losses.append(learner.backward(batch, last=True).item())
        learner.update(1e-4)
    assert losses[1] < losses[0]

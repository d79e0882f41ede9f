"""Recipes of TFC-TDF UNets: their sizes, their settings as published, and updates of a complete network."""

import pytest
import torch
from lightning_fabric import Fabric

from bandsplit.data.examples.dataset import Example
from bandsplit.models.network import build_model
from bandsplit.models.tensors import count_parameters
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.runs.losses import MaskedMseLoss, WaveformMseLoss
from bandsplit.runs.optimisers import AverageConfig
from bandsplit.training.execution import BatchPlan, Execution
from bandsplit.training.learner import Learner

PARAMETERS = {
    "kuielab-a": 30_119_168, "kuielab-b": 30_119_168, "kuielab-c1": 45_813_888, "kuielab-c2": 89_712_512,
    "kuielab-c3": 45_807_744, "mdx23c": 111_994_368, "mini-tfc-tdf": 164_320,
}  # fmt: skip


def test_every_recipe_of_the_family_is_tested():
    own = {id for id, recipe in RECIPES.items() if recipe.settings["model"].get("family") == "tfc_tdf"}
    assert {id for id in own if not id.startswith("table1-")} == {*PARAMETERS}


@pytest.mark.parametrize("id", PARAMETERS)
def test_recipe_builds_a_network_of_its_size(id: str):
    (config,) = RECIPES[id].all_run_configs()
    with torch.device("meta"):
        model = build_model(config.model)
    assert count_parameters(config.model) == sum(one.numel() for one in model.parameters()) == PARAMETERS[id]


@pytest.mark.parametrize(
    ("id", "learning_rate", "batch", "updates", "frames", "chunk_frames"),
    [
        ("kuielab-a", 1e-4, 6, 100_000, 256, 1024), ("kuielab-b", 1e-4, 6, 150_000, 256, 1024),
        ("kuielab-c1", 5e-5, 8, 1_200_000, 128, 1024), ("kuielab-c2", 3e-5, 8, 700_000, 128, 1024),
        ("kuielab-c3", 5e-5, 8, 1_000_000, 128, 1024), ("mdx23c", 9e-5, 6, 200_000, 256, 256),
    ],
)  # fmt: skip
def test_recipe_has_the_published_settings(
    id: str, learning_rate: float, batch: int, updates: int, frames: int, chunk_frames: int
):
    config = RECIPES[id].run_config()
    model, training = config.model, config.training
    assert model.loss_stft is not None
    hop = model.loss_stft.hop_samples
    assert (training.learning_rate, training.global_batch) == (learning_rate, batch)
    assert training.max_epochs * training.examples_per_epoch == updates * batch
    assert round(training.excerpt_s * 44100) == (frames - 1) * hop
    assert round(model.geometry.published.chunk_s * 44100) == (chunk_frames - 1) * hop
    assert model.targets[0] == "vocals" and len(model.targets) == (1 if id == "kuielab-c3" else 4)


def test_losses_are_those_of_the_label_noise_and_the_bleeding_track():
    a, b, c = (RECIPES[f"kuielab-{id}"].run_config().training for id in ("a", "b", "c1"))
    assert a.loss == MaskedMseLoss(quantile=0.4, coarse=True)
    assert b.loss == MaskedMseLoss(quantile=0.93, coarse=False)
    assert a.average == b.average == AverageConfig(decay=0.999)
    assert c.loss == WaveformMseLoss() and c.average is None


def test_what_a_publication_leaves_open_is_named_with_a_setting_that_the_recipe_has():
    for id in PARAMETERS:
        recipe = RECIPES[id]
        dump = recipe.run_config().model_dump()
        assert bool(recipe.unknown) == (recipe.counterpart is None)
        for path in recipe.unknown:
            level = dump
            for key in path.split("."):
                level = level[key]


@pytest.mark.slow
def test_full_width_makes_two_updates():
    excerpt_s = 31 * 1024 / 44100
    config = RECIPES["kuielab-a"].run_config(
        changes={"training.excerpt_s": excerpt_s, "training.precision": "fp32", "training.batch_size": 2,
                 "training.global_batch": 2, "training.learning_rate": 1e-3}
    )  # fmt: skip
    torch.manual_seed(0)
    learner = Learner(config, BatchPlan(2, 1, 1), Execution("cpu"), Fabric(accelerator="cpu", devices=1))
    targets = torch.randn(2, 4, 2, 31 * 1024) * 0.1
    losses = []
    for _ in range(2):
        losses.append(learner.backward(Example(targets.sum(1), targets, ["", ""]), last=True).item())
        assert learner.update(1e-3) > 0
    assert losses[-1] < losses[0]

"""The golden loss values and the ten golden training steps."""

import json
from pathlib import Path
from typing import Any

import pytest
from lightning_fabric import Fabric
from safetensors import safe_open

from bandsplit.data.examples.dataset import Example
from bandsplit.models.bsrnn.checkpoint import config_from_authors
from bandsplit.models.bsrnn.tensor_names import tensors_from_authors
from bandsplit.runs.config import RunConfig
from bandsplit.training.execution import BatchPlan, Execution
from bandsplit.training.learner import Learner
from bandsplit.training.losses import separation_loss


@pytest.mark.parametrize("domain", ["t", "tf", "t+tf"])
def test_loss_of_each_domain_equals_the_authors(shared: Path, domain: Any):
    with safe_open(shared / "golden" / "loss" / "signals.safetensors", framework="pt") as file:
        golden = json.loads(file.metadata()["loss"])[domain]
        loss = separation_loss(file.get_tensor("estimate"), file.get_tensor("target"), domain=domain)
    assert loss.item() == pytest.approx(golden, rel=1e-6)


def test_ten_training_steps_follow_the_authors(shared: Path):
    with safe_open(shared / "golden" / "training" / "ten-steps.safetensors", framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    config = config_from_authors(json.loads(metadata["config"]))
    run = RunConfig.parse({"recipe": "test", "model": config.model_dump(), "training": {}})
    learner = Learner(run, BatchPlan(2, 1, 1), Execution("cpu"), Fabric(accelerator="cpu", devices=1))
    theirs = {key.removeprefix("initial/"): value for key, value in tensors.items() if key.startswith("initial/")}
    shapes = {key: tuple(value.shape) for key, value in theirs.items()}
    weights = tensors_from_authors(config, shapes, theirs.__getitem__)
    learner.plain_model.load_state_dict(weights, strict=True)
    losses, norms = [], []
    for mixture, target in zip(tensors["mixture"], tensors["target"], strict=True):
        batch = Example(mixture, target.unsqueeze(1), [""] * len(mixture))
        losses.append(learner.backward(batch, last=True).item())
        norms.append(learner.update(1e-3).item())
    assert losses == pytest.approx(json.loads(metadata["loss"]), rel=1e-5)
    assert norms == pytest.approx(json.loads(metadata["gradient_norm"]), rel=1e-4)

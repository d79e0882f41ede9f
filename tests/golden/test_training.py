"""The golden loss values and the ten golden training steps."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from bandsplit.losses import separation_loss
from bandsplit.models.authors import tensors_from_authors
from bandsplit.models.build import build_model
from bandsplit.models.files import model_from_tensors
from bandsplit.pretrained import config_from_authors


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
    theirs = {key.removeprefix("initial/"): value for key, value in tensors.items() if key.startswith("initial/")}
    with torch.device("meta"):
        expected = build_model(config).state_dict()
    model = model_from_tensors(config, tensors_from_authors(config, expected, theirs)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses, norms = [], []
    for mixture, target in zip(tensors["mixture"], tensors["target"], strict=True):
        optimizer.zero_grad()
        signal, spec = model(mixture)
        loss = separation_loss(signal, target.unsqueeze(1), estimate_spec=spec)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0).item())
        optimizer.step()
        losses.append(loss.item())
    assert losses == pytest.approx(json.loads(metadata["loss"]), rel=1e-5)
    assert norms == pytest.approx(json.loads(metadata["gradient_norm"]), rel=1e-4)

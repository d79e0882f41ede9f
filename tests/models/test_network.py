"""Repeated parts of networks: recomputed in the backward pass, they learn the same."""

import pytest
import torch
from torch import nn

from bandsplit.models.network import RepeatedPart


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(3), nn.BatchNorm1d(3, track_running_stats=False), nn.Identity()])
def test_a_recomputed_part_has_the_gradients_and_statistics_of_a_plain_one(norm: nn.Module):
    torch.manual_seed(0)
    part = RepeatedPart(nn.Conv1d(2, 3, 3), norm, nn.ReLU())
    x, before = torch.randn(4, 2, 50), {name: tensor.clone() for name, tensor in part.state_dict().items()}
    found = []
    for recompute in (False, True):
        part.load_state_dict(before)
        part.zero_grad()
        part.recompute = recompute
        for _ in range(2):
            part(x).square().sum().backward()
        gradients = {
            f"gradient of {name}": parameter.grad
            for name, parameter in part.named_parameters()
            if parameter.grad is not None
        }
        found.append({name: tensor.clone() for name, tensor in (part.state_dict() | gradients).items()})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())
    if isinstance(norm, nn.BatchNorm1d) and norm.track_running_stats:
        assert found[1]["1.num_batches_tracked"] == 2 and norm.momentum == 0.1

"""The recipes of KUIELab-MDX-Net: what was published is set, what was not is marked, and both train."""

from typing import Any

import pytest
import torch

from bandsplit.data.examples.dataset import Example
from bandsplit.models.tensors import count_parameters
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.runs.optimisers import RmspropConfig
from bandsplit.training.execution import BatchPlan, Execution, make_fabric
from bandsplit.training.learner import Learner


def test_the_four_models_have_the_published_parameters():
    configs = RECIPES["mdx-net"].all_run_configs()
    assert sum(count_parameters(config.model) for config in configs) == 4 * 7_423_236
    assert RECIPES["mdx-net"].parameters_m == pytest.approx(29.692944, abs=5e-3)


def test_windows_rates_and_batches_are_those_of_each_target():
    found = {}
    for config in RECIPES["mdx-net"].all_run_configs():
        (target,), training, stft = config.model.targets, config.training, config.model.loss_stft
        assert stft is not None and isinstance(training.optimizer, RmspropConfig)
        assert training.chunks.kind == "trimmed" and round(training.chunks.chunk_s * 44100) == 1024 * 255
        assert round(training.chunks.trim_s * 44100) == stft.n_fft // 2
        found[target] = (stft.n_fft, training.learning_rate, training.global_batch)
        assert training.patience > training.max_epochs == 3000
    assert found == {
        "vocals": (6144, 2e-4, 16), "drums": (4096, 1e-4, 8), "bass": (16384, 1e-4, 8), "other": (8192, 1e-4, 8),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "target", "excerpt_s"),
    [
        pytest.param("mdx-net", "drums", 1024 * 31 / 44100, marks=pytest.mark.slow),
        ("mini-mdx-net", "vocals", 512 * 7 / 16000),
    ],
)
def test_it_trains_two_updates_at_full_width(name: str, target: str, excerpt_s: float):
    changes: dict[str, Any] = {"training.excerpt_s": excerpt_s, "training.precision": "fp32"}  # fp16 needs a GPU
    config = RECIPES[name].run_config([target], changes=changes)
    torch.manual_seed(0)
    learner = Learner(config, BatchPlan(2, 1, 1), Execution("cpu"), make_fabric(config.training, Execution("cpu")))
    stems = 0.1 * torch.randn(2, 2, 2, round(excerpt_s * config.model.sample_rate_hz))
    losses = []
    for _ in range(3):
        losses.append(learner.backward(Example(stems.sum(1), stems[:, :1], ["", ""]), last=True).item())
        assert learner.update(config.training.learning_rate).isfinite()
    assert losses[2] < losses[0]

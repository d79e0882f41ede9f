"""Speed of training steps, compared with the rate at which the same machine multiplies large matrices."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import NamedTuple

import torch

from bandsplit.core.machine import peak_memory_mb
from bandsplit.data.examples.dataset import Example
from bandsplit.models.families import count_flop
from bandsplit.runs.config import RunConfig
from bandsplit.tools.bench.matrix_rate import ProductPrecision, matrix_rate, time_s
from bandsplit.training.execution import BatchPlan, Execution, make_fabric
from bandsplit.training.learner import Learner


class StepSpeed(NamedTuple):
    """Speed of one recipe; medians over the rounds."""

    step_s: float
    examples_per_s: float
    gflop: float
    """Operations of a step's matrix products, as `count_flop` counts them, in units of 1e9."""
    share: float
    """Rate of these products over the matrix rate measured just before and after each step."""
    peak_mb: float
    """CUDA: most memory allocated during this recipe's steps. CPU: the process's peak so far, with all recipes."""


class TrainingSpeed(NamedTuple):
    """Speeds of recipes, and the rate that they are compared with."""

    matrix_gflop_per_s: float
    """Median rate of products of large square matrices, in the precision of the steps."""
    recipes: dict[str, StepSpeed]


def measure_steps(
    configs: Mapping[str, RunConfig],
    *,
    batch: int = 2,
    steps: int = 5,
    device: torch.device,
    precision: ProductPrecision = "fp32",
) -> TrainingSpeed:
    """Measure training steps on random signals in rounds, so that all recipes see the same machine noise.

    A step is one update of `bandsplit train` without reading songs: forward, loss, backward, clipping, one update of
    the optimiser. The first step of each recipe is a warm-up.

    Args:
        configs: name and configuration of each recipe.
        batch: examples per step.
        steps: measured steps of each recipe.
        device: device that runs the steps.
        precision: precision of products; ``tf32`` and ``fp16`` need CUDA.
    """
    makers = {name: TrainingStep(config, batch, device, precision) for name, config in configs.items()}
    times_s: dict[str, list[float]] = {name: [] for name in configs}
    shares: dict[str, list[float]] = {name: [] for name in configs}
    peaks_mb = dict.fromkeys(configs, 0.0)
    rates = [matrix_rate(device, precision)]
    for number in range(steps + 1):
        for name, step in makers.items():
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            step_s = time_s(step, device)
            rates.append(matrix_rate(device, precision))
            peaks_mb[name] = max(peaks_mb[name], peak_memory_mb(device))
            if number:
                times_s[name].append(step_s)
                shares[name].append(step.flop / step_s / statistics.mean(rates[-2:]))
    speeds = {}
    for name, step in makers.items():
        step_s = statistics.median(times_s[name])
        share = statistics.median(shares[name])
        speeds[name] = StepSpeed(step_s, batch / step_s, step.flop / 1e9, share, peaks_mb[name])
    return TrainingSpeed(statistics.median(rates) / 1e9, speeds)


class TrainingStep:
    """A learner and one batch of noise; calling it does one update."""

    def __init__(
        self, config: RunConfig, batch: int, device: torch.device, precision: ProductPrecision = "fp32"
    ) -> None:
        """Build everything with random numbers from a separate seed."""
        training = config.training.model_copy(update={"precision": precision, "average": None})
        execution = Execution(str(device))
        fabric = make_fabric(training, execution)
        model, samples = config.model, round(training.excerpt_s * config.model.sample_rate_hz)
        self.flop, self.rate = batch * count_flop(model, samples).step, training.learning_rate
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(config.seed)
            changed = config.model_copy(update={"training": training})
            self.learner = Learner(changed, BatchPlan(batch, 1, 1), execution, fabric)
            mixture = 0.1 * torch.randn(batch, model.channels, samples, device=device)
            targets = 0.1 * torch.randn(batch, len(model.targets), model.channels, samples, device=device)
        self.batch = Example(mixture, targets, [""] * batch)

    def __call__(self) -> None:
        """Do one update."""
        self.learner.backward(self.batch, last=True)
        self.learner.update(self.rate)

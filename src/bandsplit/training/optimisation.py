"""Optimiser, learning rate and averaging of the weights.

Source: docs/numerics.md#training; paper, section IV-D2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from typing_extensions import assert_never

from bandsplit.runs.config import AdamConfig, AdamWConfig, CosineDecay, PlateauDecay, StepDecay, TrainingConfig


def build_optimizer(training: TrainingConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Build the optimiser; its learning rate is set before every update."""
    match training.optimizer:
        # Fused: one kernel for all parameters instead of a dozen for each; the same update up to rounding.
        case AdamConfig():
            return torch.optim.Adam(parameters, lr=training.learning_rate, fused=True)
        case AdamWConfig(weight_decay=decay):
            return torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=decay, fused=True)
        case _ as unreachable:
            assert_never(unreachable)


def average_weights(training: TrainingConfig, model: nn.Module) -> AveragedModel | None:
    """Make the averaged copy of ``model`` that the run asks for, to be updated after every update."""
    if training.average is None:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(training.average.decay))


def first_learning_rate(training: TrainingConfig, global_batch: int) -> float:
    """Return the learning rate of the first update, which follows the global batch."""
    match training.learning_rate_rule:
        case "linear":
            return training.learning_rate * global_batch / 16
        case "sqrt":
            return training.learning_rate * math.sqrt(global_batch / 16)
        case "none":
            return training.learning_rate
        case _ as unreachable:
            assert_never(unreachable)


def decayed(training: TrainingConfig, updates: int, updates_per_epoch: int, plateau_decays: int = 0) -> float:
    """Return the factor of the learning rate of the update after ``updates`` others.

    Args:
        training: the schedule.
        updates: updates done.
        updates_per_epoch: updates of an epoch.
        plateau_decays: decays so far, which `PlateauDecay` counts.
    """
    match training.decay:
        case StepDecay(factor=factor, every_epochs=every):
            return factor ** (updates // updates_per_epoch // every)
        case CosineDecay():
            return 0.5 * (1 + math.cos(math.pi * updates / (updates_per_epoch * training.max_epochs)))
        case PlateauDecay(factor=factor):
            return factor**plateau_decays
        case _ as unreachable:
            assert_never(unreachable)

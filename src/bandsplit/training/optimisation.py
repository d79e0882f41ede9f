"""Optimiser and learning rate.

Source: docs/numerics.md#training; paper, section IV-D2.
"""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

import torch
from torch import nn
from typing_extensions import assert_never

from bandsplit.runs.config import TrainingConfig
from bandsplit.runs.optimisers import (
    AdamConfig,
    AdamWConfig,
    ConstantRate,
    CosineDecay,
    PlateauDecay,
    RmspropConfig,
    StepDecay,
    UpdateStepDecay,
)


def build_optimizer(training: TrainingConfig, model: nn.Module, decayed: Container[str] = ()) -> torch.optim.Optimizer:
    """Build the optimiser; its learning rate is set before every update.

    Args:
        training: the optimiser's settings.
        model: the network.
        decayed: names of the parameters that decay, for an optimiser that lets some of them decay.
    """
    # Fused: one kernel for all parameters instead of a dozen for each; the same update up to rounding. Scaled gradients
    # it would divide by their scale itself, although they are so already where their norm was taken.
    fused = training.precision != "fp16"
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    parameters = [parameter for _, parameter in named]
    match training.optimizer:
        case AdamConfig(amsgrad=amsgrad):
            return torch.optim.Adam(parameters, lr=training.learning_rate, amsgrad=amsgrad, fused=fused)
        case AdamWConfig(weight_decay=decay, decayed=some):
            groups: list[dict[str, Any]] = [{"params": parameters}]
            if some:
                groups = [
                    {"params": [parameter for name, parameter in named if name in decayed]},
                    {"params": [parameter for name, parameter in named if name not in decayed], "weight_decay": 0.0},
                ]
            return torch.optim.AdamW(groups, lr=training.learning_rate, weight_decay=decay, fused=fused)
        case RmspropConfig():
            return torch.optim.RMSprop(parameters, lr=training.learning_rate)
        case _ as unreachable:
            assert_never(unreachable)


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


def decayed(training: TrainingConfig, updates: float, updates_per_epoch: int, plateau_decays: int = 0) -> float:
    """Return the factor of the learning rate of the update after ``updates`` others.

    Args:
        training: the schedule.
        updates: updates of the schedule that are done, see `bandsplit.training.pace.Pace`; a fraction under a budget.
        updates_per_epoch: updates of an epoch.
        plateau_decays: decays so far, which `PlateauDecay` counts.
    """
    warm_up = min(1.0, (updates + 1) / max(1, training.warm_up_updates))
    match training.decay:
        case ConstantRate():
            decay = 1.0
        case StepDecay(factor=factor, every_epochs=every):
            decay = factor ** (updates // updates_per_epoch // every)
        case UpdateStepDecay(factor=factor, every_updates=every):
            decay = factor ** (updates // every)
        case CosineDecay():
            decay = 0.5 * (1 + math.cos(math.pi * updates / (updates_per_epoch * training.max_epochs)))
        case PlateauDecay(factor=factor):
            decay = factor**plateau_decays
        case _ as unreachable:
            assert_never(unreachable)
    return warm_up * decay

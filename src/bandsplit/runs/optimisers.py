"""Optimisers, schedules of the learning rate, and averaging of the weights."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from bandsplit.core.config import Config


class AdamConfig(Config):
    """Adam (paper, section IV-D2)."""

    kind: Literal["adam"] = "adam"
    amsgrad: bool = False
    """Divide by the largest mean square so far instead of the latest one."""


class AdamWConfig(Config):
    """Adam with decoupled weight decay."""

    kind: Literal["adamw"] = "adamw"
    weight_decay: NonNegativeFloat = 0.01
    """Share of the weights that decays per update, times the learning rate."""


class RmspropConfig(Config):
    """RMSprop, as PyTorch has it: smoothing 0.99, no momentum."""

    kind: Literal["rmsprop"] = "rmsprop"


OptimizerConfig: TypeAlias = Annotated[AdamConfig | AdamWConfig | RmspropConfig, Field(discriminator="kind")]
"""Type of a field that holds an optimiser."""


class ConstantRate(Config):
    """Keep the learning rate."""

    kind: Literal["constant"] = "constant"


class StepDecay(Config):
    """Multiply the learning rate by ``factor`` every ``every_epochs`` epochs (paper, section IV-D2)."""

    kind: Literal["step"] = "step"
    factor: PositiveFloat = 0.98
    """Factor of one decay."""
    every_epochs: PositiveInt = 2
    """Epochs between decays."""


class UpdateStepDecay(Config):
    """Multiply the learning rate by ``factor`` every ``every_updates`` updates, wherever epochs begin."""

    kind: Literal["step-updates"] = "step-updates"
    factor: PositiveFloat = 0.9
    """Factor of one decay."""
    every_updates: PositiveInt
    """Updates between decays."""


class CosineDecay(Config):
    """Follow half a cosine from the initial learning rate to zero over ``max_epochs``, step by step."""

    kind: Literal["cosine"] = "cosine"


class PlateauDecay(Config):
    """Multiply the learning rate by ``factor`` when the monitored score has not been beaten for ``patience`` epochs."""

    kind: Literal["plateau"] = "plateau"
    factor: float = Field(default=0.5, gt=0, lt=1)
    """Factor of one decay."""
    patience: PositiveInt = 3
    """Epochs without a new best score before a decay; the count restarts after it. PyTorch's ReduceLROnPlateau waits
    for one epoch more than its ``patience``."""


DecayConfig: TypeAlias = Annotated[
    ConstantRate | StepDecay | UpdateStepDecay | CosineDecay | PlateauDecay, Field(discriminator="kind")
]
"""Type of a field that holds a schedule of the learning rate."""


class AverageConfig(Config):
    """Exponential moving average of the weights; the averaged model is validated and kept."""

    decay: float = Field(default=0.999, gt=0, lt=1)
    """Share of the old average that each update keeps."""

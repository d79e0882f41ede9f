"""Optimisers, schedules of the learning rate, and averaging of the weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

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
    decayed: tuple[str, ...] = ()
    """Parts of the model that decay: beginnings of names of tensors up to a dot, or patterns with * and ?. Empty for
    all."""


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


_Share = Annotated[float, Field(gt=0, lt=1)]


class AverageConfig(Config):
    """Exponential moving average of the weights; the averaged model is validated and kept in place of them."""

    kind: Literal["single"] = "single"
    decay: _Share = 0.999
    """Share of the old average that each update keeps."""


class CompetingAverages(Config):
    """Several moving averages without a bias to their first values, which compete with the weights in each validation.

    Source: docs/numerics.md#training.
    """

    kind: Literal["competing"] = "competing"
    update_decays: tuple[_Share, ...] = ()
    """For each average over updates, the share of the old average that an update keeps."""
    epoch_decays: tuple[_Share, ...] = ()
    """For each average over epochs, the share of the old average that an epoch keeps."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.update_decays and not self.epoch_decays:
            raise ValueError("update_decays, epoch_decays: both are empty; set average to null for no averages")
        for name in ("update_decays", "epoch_decays"):
            decays = getattr(self, name)
            if len({*decays}) < len(decays):
                raise ValueError(f"{name}: {', '.join(map(str, decays))} has equal averages; give each decay once")
        return self


def _with_kind(average: Any) -> Any:
    return {"kind": "single"} | average if isinstance(average, dict) else average


AnyAverage: TypeAlias = Annotated[
    Annotated[AverageConfig | CompetingAverages, Field(discriminator="kind")], BeforeValidator(_with_kind)
]
"""Type of a field that holds averages of the weights; a single one if it names no kind."""

"""The interface of networks for a separator, independent of the runtime that computes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np

from bandsplit.core.errors import ConfigError
from bandsplit.models.contract import ModelConfig

if TYPE_CHECKING:
    from bandsplit.models.network import SeparationModel

Model: TypeAlias = "Path | str | SeparationModel"
Precision: TypeAlias = Literal["fp32", "bf16", "fp16", "int8"]
"""Precision of products; fp16 only on a GPU, int8 only in the CPU kernels."""


class Network(Protocol):
    """A model that is ready to separate."""

    name: str
    """Name of the file, without its suffix."""
    config: ModelConfig
    """Configuration with the targets that it computes, which may be fewer than those of the model's file."""
    device: str
    """Name of the device in messages."""

    @property
    def batch_size(self) -> int:
        """Best number of chunks to estimate at once."""
        ...

    def estimate(self, batch: np.ndarray) -> np.ndarray:
        """Estimate chunks, float32 ``b c samples``: float32 ``b s c samples``. Threads may call it in parallel.

        Raises:
            MemoryError: the device has too little memory.
        """
        ...


def needed_channels(config: ModelConfig) -> int | None:
    """Return the number of channels that a model requires; None if it takes any."""
    return None if config.any_channels else config.channels


def check_targets(targets: Sequence[Sequence[str]], names: Sequence[str]) -> None:
    """Check that models, or systems of some, estimate different targets.

    Raises:
        ConfigError: two of them estimate the same; the message names them.
    """
    owners: dict[str, str] = {}
    for its, name in zip(targets, names, strict=True):
        for target in its:
            if target in owners:
                raise ConfigError(
                    f"target {target!r}: estimated by both {owners[target]} and {name}; leave one of them out, or "
                    f"average them as a bag: bandsplit models bag"
                )
            owners[target] = name


def check_channels(configs: Sequence[ModelConfig], names: Sequence[str]) -> None:
    """Check that models take the same signals.

    Raises:
        ConfigError: two of them differ in sample rate or number of channels; the message names them.
    """
    for config, name in zip(configs, names, strict=True):
        if config.sample_rate_hz != configs[0].sample_rate_hz:
            raise ConfigError(
                f"{name}: works at {config.sample_rate_hz} Hz, but {names[0]} at "
                f"{configs[0].sample_rate_hz} Hz; models used together must share a sample rate"
            )
    needed = {count: name for config, name in zip(configs, names, strict=True) if (count := needed_channels(config))}
    if len(needed) > 1:
        facts = " and ".join(f"{name} needs {count} channels" for count, name in needed.items())
        raise ConfigError(f"model: {facts}; models used together must take the same number")

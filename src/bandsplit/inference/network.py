"""What a separator asks of a network, whatever computes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from bandsplit.config import ModelConfig
from bandsplit.errors import ConfigError

if TYPE_CHECKING:
    from bandsplit.models.model import BandSplitModel

Model: TypeAlias = "Path | str | BandSplitModel"


class Network(Protocol):
    """A model that is ready to separate."""

    name: str
    """Of the file, without its suffix."""
    config: ModelConfig
    """With the targets that it computes, which may be fewer than those of the model's file."""
    device: str
    """Where it runs, as messages call it."""

    @property
    def batch_size(self) -> int:
        """Chunks that are best estimated at once."""
        ...

    def estimate(self, batch: np.ndarray) -> np.ndarray:
        """Estimate chunks, float32 ``b c samples``: float32 ``b s c samples``. Threads may call it at once.

        Raises:
            MemoryError: the device does not hold them.
        """
        ...


def open_networks(models: Sequence[Model], device: object, targets: Sequence[str] | None) -> list[Network]:
    """Load models that are used together: those that have a wanted target, and of these only what is needed.

    Raises:
        ModelFileError: a file is not a model.
        ConfigError: they do not go together, none has a wanted target, or the device is not here.
    """
    from bandsplit.inference import torch_network as backend

    picked = backend.pick_device(device)
    names = [
        str(item) if isinstance(item, str | Path) else f"model {number} of the list"
        for number, item in enumerate(models, 1)
    ]
    configs = [backend.read_config(item, name) for item, name in zip(models, names, strict=True)]
    if targets is not None:
        _check_targets(targets, [target for config in configs for target in config.targets])
    kept = [number for number, config in enumerate(configs) if targets is None or set(targets) & set(config.targets)]
    check_together([configs[number] for number in kept], [names[number] for number in kept])
    return [backend.TorchNetwork.open(models[number], picked, targets) for number in kept]


def needed_channels(config: ModelConfig) -> int | None:
    """Return the number of channels a model insists on; None if it takes any."""
    return None if config.stereo.kind == "independent" else config.channels


def check_together(configs: Sequence[ModelConfig], names: Sequence[str]) -> None:
    """Make sure that models can be used together.

    Raises:
        ConfigError: naming two that cannot.
    """
    owners: dict[str, str] = {}
    for config, name in zip(configs, names, strict=True):
        if config.sample_rate_hz != configs[0].sample_rate_hz:
            raise ConfigError(
                f"{name}: works at {config.sample_rate_hz} Hz, but {names[0]} at "
                f"{configs[0].sample_rate_hz} Hz; models used together must share a sample rate"
            )
        for target in config.targets:
            if target in owners:
                raise ConfigError(
                    f"target {target!r}: estimated by both {owners[target]} and {name}; leave one of them out"
                )
            owners[target] = name
    needed = {count: name for config, name in zip(configs, names, strict=True) if (count := needed_channels(config))}
    if len(needed) > 1:
        facts = " and ".join(f"{name} needs {count} channels" for count, name in needed.items())
        raise ConfigError(f"model: {facts}; models used together must take the same number")


def _check_targets(targets: Sequence[str], there: Sequence[str]) -> None:
    for target in targets:
        if target not in there:
            raise ConfigError(f"targets: {target!r} is not estimated by these models; legal: {', '.join(there)}")
    if not targets:
        raise ConfigError(f"targets: the list is empty; legal: {', '.join(there)}")

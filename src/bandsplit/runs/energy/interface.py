"""The interface between a training and the meter of its energy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

import torch

from bandsplit.runs.energy.card import Phase


class Place(NamedTuple):
    """The hardware that a meter watches."""

    device: torch.device
    """Of the process that makes the meter."""
    gpus: tuple[int, ...] = ()
    """Numbers of the GPUs that the run uses on this machine."""
    node: int = 0
    """Number of this machine among those of the run."""

    @classmethod
    def of(cls, device: torch.device) -> Place:
        """Return the place of work on one device of this machine."""
        return cls(device, (device.index or 0,) if device.type == "cuda" else ())


class Meter(Protocol):
    """Measures the energy of a run, one on each machine; see `bandsplit.runs.energy.meter.EnergyMeter`."""

    def start(self) -> None:
        """Start measuring."""

    def phase(self, name: Phase) -> None:
        """Attribute what follows to a phase."""

    def kwh(self) -> float:
        """Energy of all attempts so far, without PUE."""
        ...

    def problem(self) -> str | None:
        """Why no energy is measured; None if it is."""
        ...

    def stop(self, reason: str) -> None:
        """Stop measuring, and write the card."""


MakeMeter: TypeAlias = Callable[[Path, int, Place], Meter]
"""Makes the meter of a run's folder and the number of an attempt."""

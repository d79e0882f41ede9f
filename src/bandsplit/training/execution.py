"""Execution of a run: devices, processes and memory savings, none of which is part of its identity."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from bandsplit.core.bounded import BoundedFolder
from bandsplit.core.errors import ConfigError
from bandsplit.models.network import RepeatedPart
from bandsplit.runs.config import TrainingConfig, TrainingPrecision
from bandsplit.runs.losses import check_batch
from bandsplit.separation.torch_network import pick_device

_FABRIC_PRECISION: dict[TrainingPrecision, Any] = {
    "fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed",
}  # fmt: skip
OWN_CACHE = "pseudo-stems"
"""Name of the cache in a run's folder."""


@dataclass(frozen=True)
class Execution:
    """Choices of where and how a run executes. They change speed, memory and rounding, not what is computed."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    devices: int | None = None
    """Processes on this machine, one device each; None: as many as torchrun or SLURM started, else 1."""
    nodes: int | None = None
    """Machines; None: as many as torchrun or SLURM says, else 1."""
    workers: int = 0
    """Processes that prepare examples, for each device; 0 prepares them in the training process."""
    batch_size: int | None = None
    """Examples per step and device, instead of the configuration's; the global batch stays."""
    checkpointing: bool = False
    """Recompute the blocks in the backward pass instead of keeping their activations."""
    compile: bool = False
    """Compile the blocks with torch.compile."""
    save_every_s: float = 300.0
    """Seconds between saved states."""
    max_s: float | None = None
    """Seconds after which the run saves its state and stops."""
    cache: Path | None = None
    """Folder of what a teacher separated; None: one in the run's folder, which is removed when the run is over."""
    cache_gb: float = 10.0
    """Size of this folder, at most; 0 keeps nothing."""

    def cache_of(self, folder: Path) -> BoundedFolder | None:
        """Return the cache of the run in ``folder``; None if nothing is kept."""
        path = self.cache or folder / OWN_CACHE
        return BoundedFolder(path, round(self.cache_gb * 1e9)) if self.cache_gb else None

    def remove_cache(self, folder: Path, *, finished: bool) -> None:
        """Remove the cache of the run in ``folder`` if the run is over and no other run can use it."""
        if finished and self.cache is None:
            shutil.rmtree(folder / OWN_CACHE, ignore_errors=True)


@dataclass(frozen=True)
class BatchPlan:
    """The examples of an update, spread over steps and devices."""

    batch_size: int
    """Examples per step and device."""
    accumulate: int
    """Steps of an update."""
    devices: int
    """Devices in all."""

    @property
    def global_batch(self) -> int:
        """Examples of an update."""
        return self.batch_size * self.accumulate * self.devices

    def __str__(self) -> str:
        """Return a short description."""
        return (
            f"global batch {self.global_batch} = {self.batch_size} x {self.accumulate} steps x {self.devices} device(s)"
        )


def plan_batches(training: TrainingConfig, devices: int, batch_size: int | None = None) -> BatchPlan:
    """Work out the steps to accumulate.

    Args:
        training: the run.
        devices: devices in all.
        batch_size: examples per step and device; the run's own if None.

    Raises:
        ConfigError: the global batch cannot be made of such batches, or the loss needs larger ones.
    """
    total = training.global_batch or training.batch_size * training.accumulate * devices
    # A device cannot take more than its share of an update.
    each = batch_size or (training.batch_size if training.global_batch is None else _fitting(training, devices))
    if total % (each * devices):
        legal = [n for n in range(1, total // devices + 1) if total % (n * devices) == 0]
        fix = f"legal batches: {', '.join(map(str, legal))}" if legal else "the number of devices must divide it"
        raise ConfigError(f"global batch {total} cannot be made of batches of {each} on {devices} device(s); {fix}")
    try:
        check_batch(training.loss, each)
    except ValueError as error:
        raise ConfigError(f"global batch {total} on {devices} device(s): {error}") from None
    return BatchPlan(each, total // (each * devices), devices)


def _fitting(training: TrainingConfig, devices: int) -> int:
    """Return the largest batch, up to the run's own, of which the global batch is a multiple."""
    share = (training.global_batch or 0) // devices
    sizes = [n for n in range(1, min(training.batch_size, share) + 1) if share % n == 0]
    return max(sizes, default=training.batch_size)


def make_fabric(training: TrainingConfig, execution: Execution) -> Fabric:
    """Make the Fabric of this process, and set the arithmetic that the run asks for.

    Raises:
        ConfigError: the device cannot be used, or does not compute as the run asks.
    """
    picked = pick_device(execution.device)
    if training.precision == "fp16" and picked.type != "cuda":
        raise ConfigError(
            f"training.precision: 'fp16' needs a GPU, and the device is {picked.type!r}; use 'fp32' or 'bf16'"
        )
    devices = execution.devices or _started("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE")
    nodes = execution.nodes or _started("GROUP_WORLD_SIZE", "SLURM_NNODES")
    available = torch.cuda.device_count() if picked.type == "cuda" else devices
    if devices > available:
        raise ConfigError(f"--devices {devices}: this machine has {available} CUDA device(s)")
    # cuDNN would use TF32 unasked, in its LSTMs and convolutions.
    torch.backends.cudnn.allow_tf32 = training.precision == "tf32"
    torch.set_float32_matmul_precision("high" if training.precision == "tf32" else "highest")
    chosen: Any = [picked.index] if picked.type == "cuda" and devices == 1 and picked.index is not None else devices
    return Fabric(
        accelerator=picked.type,
        devices=chosen,
        num_nodes=nodes,
        strategy="ddp" if devices * nodes > 1 else "auto",
        precision=_FABRIC_PRECISION[training.precision],
    )


def _started(*names: str) -> int:
    """Return how many processes or machines a launcher has started, 1 without one."""
    values = [os.environ[name] for name in names if os.environ.get(name, "").isdecimal()]
    return int(values[0]) if values else 1


def save_memory_and_time(parts: Iterable[RepeatedPart], execution: Execution) -> None:
    """Compile the parts, or recompute them in the backward pass, as asked; names of parameters do not change."""
    for part in parts:
        part.recompute = execution.checkpointing
        if execution.compile:
            part.compile()

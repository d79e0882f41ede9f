"""Networks that PyTorch computes, on a CPU or a GPU; the only module of separation that needs PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from einops import rearrange

from bandsplit.core.errors import ConfigError
from bandsplit.core.kernels import KernelPrecision
from bandsplit.core.memory import keep_freed_memory
from bandsplit.models.contract import ModelConfig
from bandsplit.models.files import load_model
from bandsplit.models.layers.kernel_products import products_in
from bandsplit.models.layers.kernel_recurrent import kernel_problem
from bandsplit.models.layers.threads import map_apart
from bandsplit.models.network import SeparationModel
from bandsplit.separation.network import Model, Precision

GPU_BATCH = 4
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TorchNetwork:
    """A model on a device.

    Attributes:
        name: name of its file, if it has one.
        config: the model's, with the targets that are computed.
        device: name of the device.
    """

    def __init__(
        self, model: SeparationModel, device: torch.device, name: str = "model", precision: Precision = "fp32"
    ) -> None:
        """Put the model itself, not a copy, on the device and into evaluation mode; products use ``precision``.

        Raises:
            ConfigError: the device does not compute in ``precision``.
        """
        self._kernels: KernelPrecision = _kernel_precision(model, device, precision)
        self.name = name
        self.precision = precision
        self.config = model.config
        self.device = str(device)
        self.model = model.to(device).eval()
        if device.type == "cpu":
            keep_freed_memory()

    @classmethod
    def open(
        cls,
        model: Model,
        device: torch.device,
        targets: Sequence[str] | None = None,
        precision: Precision = "fp32",
    ) -> TorchNetwork:
        """Load a model file, or take a model; leave out parts that the wanted targets do not need.

        Raises:
            ModelFileError: the file is not a model.
            ConfigError: as for the class.
        """
        if isinstance(model, str | Path):
            loaded = load_model(model).requires_grad_(False)  # so that the CPU kernels may keep packed weights
            return cls(_narrow(loaded, targets), device, Path(model).stem, precision)
        return cls(_narrow(model, targets), device, precision=precision)

    @property
    def batch_size(self) -> int:
        """Best number of chunks to estimate at once: on a CPU one for each thread."""
        return torch.get_num_threads() if self.device == "cpu" else GPU_BATCH

    def estimate(self, batch: np.ndarray) -> np.ndarray:
        """Estimate chunks, float32 ``b c samples``: float32 ``b s c samples``.

        On a CPU, threads share the chunks, and independent channels, by `map_apart`.

        Raises:
            MemoryError: the device has too little memory.
        """
        if self.device != "cpu":
            return self.estimate_plainly(batch)
        apart = self.config.any_channels
        items = batch.reshape(-1, 1, batch.shape[-1]) if apart else batch
        parts = min(torch.get_num_threads(), len(items))
        found = np.concatenate(map_apart(self.estimate_plainly, np.array_split(items, parts)))
        return rearrange(found, "(b c) s 1 x -> b s c x", b=len(batch)) if apart else found

    def estimate_plainly(self, batch: np.ndarray) -> np.ndarray:
        """Estimate chunks in one call of the network; otherwise like `estimate`."""
        by_torch = self._kernels == "fp32" and self.precision != "fp32"
        low = torch.autocast(torch.device(self.device).type, _TYPES.get(self.precision), by_torch)
        try:
            with torch.inference_mode(), low, products_in(self._kernels):
                return self.model.separate(torch.from_numpy(batch).to(self.device)).cpu().numpy()
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
                raise MemoryError from None
            raise


def _kernel_precision(model: SeparationModel, device: torch.device, precision: Precision) -> KernelPrecision:
    """Return the precision of the CPU kernels: the wanted one, or "fp32" where autocast has it in their place.

    Raises:
        ConfigError: the device, the kernels or the model do not have ``precision``.
    """
    on_cpu = device.type == "cpu"
    if precision == "fp16" and on_cpu:
        raise ConfigError("precision: 'fp16' needs a GPU; on a CPU use 'fp32' (fastest on most) or 'bf16'")
    if precision == "int8" and not on_cpu:
        raise ConfigError(f"precision: 'int8' is for CPUs; on {str(device)!r} use 'bf16' or 'fp16'")
    if precision not in ("bf16", "int8") or not on_cpu:
        return "fp32"
    problem = kernel_problem(model, precision)
    if problem and precision == "int8":
        raise ConfigError(f"precision: 'int8' {problem}; use 'fp32' or 'bf16'")
    return precision if problem is None else "fp32"


def pick_device(device: object) -> torch.device:
    """Choose the device that ``auto`` means, or check that the named one can be used.

    Raises:
        ConfigError: it is not available.
    """
    if device == "auto":
        # mps is never chosen automatically: it lacks operations on complex spectrograms, and is not verified.
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)  # type: ignore[arg-type]
        torch.zeros(1, device=picked).cpu()  # the meta device makes tensors, but holds no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device: {device!r} cannot be used here ({reason}); legal: 'auto', 'cpu', 'cuda'") from None
    return picked


def config_of(model: object, name: str) -> ModelConfig:
    """Return the configuration of a model called ``name`` in errors.

    Raises:
        ConfigError: it is not a model.
    """
    if not isinstance(model, SeparationModel):
        raise ConfigError(f"{name}: is a {type(model).__name__}; give the path of a model file or a SeparationModel")
    return model.config


def _narrow(model: SeparationModel, targets: Sequence[str] | None) -> SeparationModel:
    return model if targets is None else model.narrowed(targets)

"""Networks that the CPU kernels and NumPy compute, without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bandsplit.core.errors import ModelFileError
from bandsplit.core.kernels import KernelPrecision, UnfitWeightsError, describe_problem, search_kernels
from bandsplit.core.memory import keep_freed_memory
from bandsplit.models.arrays import read_arrays
from bandsplit.models.contract import ModelConfig
from bandsplit.models.families import FAMILIES, native_core
from bandsplit.separation.pooled import PooledNetwork


class LargeWeightsError(ModelFileError):
    """A file has weights that only PyTorch computes."""


class NativeNetwork(PooledNetwork):
    """A model in the CPU kernels."""

    def __init__(
        self,
        path: Path | str,
        targets: Sequence[str] | None = None,
        threads: int | None = None,
        precision: KernelPrecision = "fp32",
    ) -> None:
        """Load the model.

        Args:
            path: the .safetensors file.
            targets: the wanted targets; None for all. Parts that they do not need are left out.
            threads: CPU threads that one call uses; by default those of `PooledNetwork`.
            precision: of products, as for `bandsplit.core.kernels`.

        Raises:
            ModelFileError: the file is missing, damaged or not a bandsplit model.
            LargeWeightsError: a weight is above 1e30.
            ConfigError: its family has no such network.
        """
        path = Path(path)
        config, arrays = read_arrays(path)
        core, kernels = native_core(config), search_kernels().kernels
        assert kernels is not None, "`native_problem` was not asked"
        config = config if targets is None else config.narrowed(targets)
        super().__init__(path.stem, config, threads)
        try:
            self._network = core.pack(config, arrays, kernels, precision)
        except UnfitWeightsError as error:
            raise LargeWeightsError(f"{path}: {error}; use --runtime torch") from None
        keep_freed_memory()

    def _estimate(self, batch: np.ndarray, calls: int) -> np.ndarray:
        return self._network(batch, max(1, self._threads // calls))


def native_problem(config: ModelConfig, precision: str) -> str | None:
    """Return why `NativeNetwork` does not compute models of a configuration in a precision; None if it does."""
    if FAMILIES[config.family].native is None:
        return f"has no networks of family {config.family!r}"
    if precision == "fp16":
        return "has no products in fp16"
    return describe_problem(precision) or native_core(config).problem(config)  # type: ignore[arg-type]

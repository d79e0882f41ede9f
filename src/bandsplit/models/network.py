"""The contract of networks, for separation and training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bandsplit.models.contract import ModelConfig
from bandsplit.models.families import build_network
from bandsplit.models.layers.batch_norm import UnchangedStatistics
from bandsplit.models.tensors import check_size


class Separation(NamedTuple):
    """Output of a model."""

    signal: Tensor
    """Signals ``b s c samples``."""
    spec: Tensor | None
    """The spectrograms ``b s c f t`` of these signals, by ``config.loss_stft``; None if the model has none."""


class RepeatedPart(nn.Sequential):
    """One of several equal parts in a row, such as a block.

    Recomputation is a flag, not a wrapper around the part, so that parameters keep their names.
    """

    recompute: bool = False
    """Whether the backward pass recomputes it instead of keeping its activations."""

    def forward(self, input: Tensor, *others: Any) -> Any:
        """Apply the modules in their order; a part with ``others`` has its own `_apply_all`."""
        if not self.recompute:
            return self._apply_all(input, *others)
        if torch.compiler.is_compiling():  # a compiled part repeats only what its gradients need
            return checkpoint(self._apply_all, input, *others, use_reentrant=False)
        contexts = nullcontext(), UnchangedStatistics(self)
        return checkpoint(self._apply_all, input, *others, use_reentrant=False, context_fn=lambda: contexts)

    def _apply_all(self, x: Tensor, *others: Any) -> Any:
        return super().forward(x)


class SeparationModel(nn.Module):
    """Base of the networks of all families. ``config`` describes one completely."""

    config: ModelConfig

    def forward(self, mixture: Tensor) -> Separation:
        """Estimate all targets of ``mixture``, ``b c samples``, of a length that ``config.geometry`` allows."""
        raise NotImplementedError

    def spectrograms(self, mixture: Tensor) -> Tensor | None:
        """Estimate only the spectrograms, if the signals are not needed."""
        return self(mixture).spec

    def separate(self, mixture: Tensor) -> Tensor:
        """Estimate all targets of ``mixture``, ``b c samples``, of any length that a chunk may have: ``b s c samples``.

        Zeros fill the input up to a length that the network takes; their estimates are cut off.
        """
        samples = mixture.shape[-1]
        missing = self.config.geometry.fitting(samples) - samples
        return self(F.pad(mixture, (0, missing)) if missing else mixture).signal[..., :samples]

    def narrowed(self, targets: Sequence[str]) -> SeparationModel:
        """Return a model of the wanted targets only, which shares parts with this one; itself, if they need others."""
        return self

    def repeated_parts(self) -> Iterable[RepeatedPart]:
        """Return the parts that may be recomputed in the backward pass, or compiled, one by one."""
        return ()


def build_model(config: ModelConfig) -> SeparationModel:
    """Build the network that ``config`` describes, with random weights from torch's global generator.

    Raises:
        ConfigError: it would be too large, see `bandsplit.models.tensors`.
    """
    check_size(config)
    return build_network(config)

"""Moving averages of the weights of a run, over updates and over epochs.

Source: docs/numerics.md#training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from typing_extensions import assert_never

from bandsplit.models.network import SeparationModel
from bandsplit.runs.optimisers import AverageConfig, CompetingAverages

WEIGHTS = "weights"
"""Name of the weights themselves next to their averages."""


class UnbiasedAverage(AveragedModel):
    """A copy of a network with the weighted mean of its weights so far: the latest weighs 1, the one before d, then d².

    Their sum grows from 1 to 1 / (1 - d), so the first weights do not count for more than the others.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Copy ``model``, whose weights count from the first update on; ``decay`` is d."""
        super().__init__(model, multi_avg_fn=self._average)
        self.decay = decay

    def _average(self, averages: Any, latest: Any, _: Any) -> None:
        # The buffer is in the CPU's memory, unlike the argument: to read that would wait for the GPU.
        updates = int(self.n_averaged) + 1
        share = (1 - self.decay) / (1 - self.decay**updates)
        torch._foreach_lerp_(averages, latest, share)  # pyright: ignore[reportPrivateImportUsage]


class Averages:
    """The averages that a run asks for, by name."""

    def __init__(self, config: AverageConfig | CompetingAverages | None, model: nn.Module) -> None:
        """Copy ``model`` for each average."""
        self.over_updates: dict[str, AveragedModel] = {}
        self.over_epochs: dict[str, AveragedModel] = {}
        self.compete = isinstance(config, CompetingAverages)
        match config:
            case None:
                pass
            case AverageConfig(decay=decay):
                self.over_updates["average"] = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
            case CompetingAverages(update_decays=update_decays, epoch_decays=epoch_decays):
                self.over_updates = {f"average over updates {d}": UnbiasedAverage(model, d) for d in update_decays}
                self.over_epochs = {f"average over epochs {d}": UnbiasedAverage(model, d) for d in epoch_decays}
            case _ as unreachable:
                assert_never(unreachable)

    @property
    def _all(self) -> dict[str, AveragedModel]:
        return self.over_updates | self.over_epochs

    def to(self, device: torch.device) -> None:
        """Move the copies, but not their counts of updates."""
        for average in self._all.values():
            average.module.to(device)

    def end_update(self, model: nn.Module) -> None:
        """Add the weights after an update."""
        for average in self.over_updates.values():
            average.update_parameters(model)

    def end_epoch(self, model: nn.Module) -> None:
        """Add the weights after an epoch."""
        for average in self.over_epochs.values():
            average.update_parameters(model)

    def candidates(self, model: SeparationModel) -> dict[str, SeparationModel]:
        """Return the networks of which a validation keeps the best, by name.

        Args:
            model: the network of the weights themselves, which a single average replaces.
        """
        averages = {name: cast(SeparationModel, average.module) for name, average in self._all.items()}
        return {WEIGHTS: model, **averages} if self.compete or not averages else averages

    def state(self) -> dict[str, Any]:
        """Return all copies and counts, by name."""
        return {name: average.state_dict() for name, average in self._all.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned; further entries are ignored."""
        for name, average in self._all.items():
            average.load_state_dict(state[name], strict=True)

"""A network in training, with its optimiser and its averages, and one update of them."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from bandsplit.audio.stft_config import StftConfig
from bandsplit.core.errors import RunError
from bandsplit.core.memory import keep_freed_memory
from bandsplit.data.examples.dataset import Example
from bandsplit.models.layers.batch_norm import UnchangedStatistics
from bandsplit.models.network import SeparationModel, build_model
from bandsplit.runs.config import RunConfig
from bandsplit.runs.losses import DomainLoss
from bandsplit.training.averaging import Averages
from bandsplit.training.execution import BatchPlan, Execution, save_memory_and_time
from bandsplit.training.initial import InitialModel, freeze
from bandsplit.training.losses import compute_loss, spectrogram_loss
from bandsplit.training.optimisation import build_optimizer
from bandsplit.training.teacher import Teacher


class Update:
    """The numbers of an update, which stay on the device until they are read."""

    def __init__(self, first: int) -> None:
        """Begin with the example ``first`` of the epoch."""
        self.first = first
        self.losses: list[Tensor] = []
        self.missing: list[bool] = []
        self.norm: Any = None


class Learner:
    """A network in training, on the devices of ``fabric``, and its teacher if it has one."""

    def __init__(
        self,
        config: RunConfig,
        batches: BatchPlan,
        execution: Execution,
        fabric: Fabric,
        initial: InitialModel | None = None,
    ) -> None:
        """Build it with random weights from torch's global generator, and replace those that ``initial`` has."""
        self.config, self.training, self.batches, self.fabric = config, config.training, batches, fabric
        if fabric.device.type == "cpu":
            keep_freed_memory()
        self.plain_model = build_model(config.model)
        if initial is not None:
            self.plain_model.load_state_dict({**self.plain_model.state_dict(), **initial.tensors}, strict=True)
        self.teacher = None if self.training.unlabelled is None else Teacher(self.plain_model)
        self._frozen_norms = freeze(self.plain_model, config.frozen_tensors)
        self.averages = Averages(self.training.average, self.plain_model)
        save_memory_and_time(self.plain_model.repeated_parts(), execution)
        optimizer = build_optimizer(self.training, self.plain_model, config.decayed_tensors)
        self.model, self.optimizer = fabric.setup(self.plain_model, optimizer)
        self.model.mark_forward_method("spectrograms")
        self.averages.to(fabric.device)

    def train_mode(self) -> None:
        """Put the network into training mode, except normalisations whose statistics are frozen."""
        self.model.train()
        for norm in self._frozen_norms:
            norm.eval()

    @property
    def candidates(self) -> dict[str, SeparationModel]:
        """The networks of which a validation keeps the best, by name: one, or weights and their averages."""
        return self.averages.candidates(self.plain_model)

    def backward(self, batch: Example, *, last: bool) -> Tensor:
        """Add the gradients of one step, and return its loss.

        Args:
            batch: the examples of this process; those with a problem are left out.
            last: whether it is the last step of the update, after which the processes share their gradients.
        """
        with self.fabric.no_backward_sync(self.model, enabled=not last):
            loss = self._loss(batch)
            self.fabric.backward(loss / self.batches.accumulate)
        return loss.detach()

    def update(self, learning_rate: float) -> Tensor:
        """Update the weights by the gradients, and return the gradients' norm before it was clipped.

        Where gradients are scaled and an element is not finite, the weights are kept, and the scale is halved.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        # The norm is checked later, when it is read: a check here would wait for the GPU.
        limit = math.inf if self.training.clip_norm is None else self.training.clip_norm
        norm = self.fabric.clip_gradients(self.model, self.optimizer, max_norm=limit, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.averages.end_update(self.plain_model)
        return cast(Tensor, norm)

    def end_epoch(self) -> None:
        """Add the weights to the averages over epochs."""
        self.averages.end_epoch(self.plain_model)

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """The scale of the gradients, which float16 needs."""
        return getattr(self.fabric.strategy.precision, "scaler", None)

    @property
    def recovers(self) -> bool:
        """Whether updates after one whose gradients overflowed can succeed, because their scale can still fall."""
        return self.scaler is not None and self.scaler.get_scale() >= 1

    def state(self) -> dict[str, Any]:
        """Return everything that updates and validations change."""
        own = {"model": self.plain_model.state_dict(), "optimizer": self.optimizer.state_dict()}
        scale = {} if self.scaler is None else {"scaler": self.scaler.state_dict()}
        teacher = {} if self.teacher is None else {"teacher": self.teacher.state()}
        return {**own, **self.averages.state(), **scale, **teacher}

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.plain_model.load_state_dict(state["model"], strict=True)
        self.optimizer.load_state_dict(state["optimizer"])
        self.averages.load(state)
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        if self.teacher is not None:
            self.teacher.load(state["teacher"])

    def check_fit(self) -> None:
        """Run a step on silence, so that a batch that does not fit is reported before anything else.

        Raises:
            RunError: it does not fit.
        """
        size = self.batches.batch_size
        try:
            self.try_step(alone=False)
        except torch.OutOfMemoryError:
            raise RunError(
                f"a step of {size} examples does not fit into the memory of {self.fabric.device}; try --batch "
                f"{max(1, size // 2)} (more steps are then accumulated), --checkpointing, or `bandsplit plan`, "
                f"which finds what fits"
            ) from None

    def try_step(self, *, alone: bool = True) -> None:
        """Run a step on silence, which changes nothing; ``alone``: other processes need not run it too."""
        with UnchangedStatistics(self.plain_model):
            self.backward(self.silence(), last=not alone).item()
        self.optimizer.zero_grad()

    def silence(self) -> Example:
        """Make a batch of the size of a step."""
        model, size = self.config.model, self.batches.batch_size
        excerpt_samples = round(self.training.excerpt_s * model.sample_rate_hz)
        mixture = torch.zeros(size, model.channels, excerpt_samples, device=self.fabric.device)
        return Example(mixture, mixture.unsqueeze(1).expand(-1, len(model.targets), -1, -1), [""] * size)

    def _loss(self, batch: Example) -> Tensor:
        loss, targets, config = self.training.loss, batch.targets, self.plain_model.config
        # The spectrogram terms alone do not need the signals.
        spectral = isinstance(loss, DomainLoss) and loss.domain == "tf" and config.loss_stft is not None
        signal, spec = (None, self.model.spectrograms(batch.mixture)) if spectral else self.model(batch.mixture)
        kept = [number for number, problem in enumerate(batch.problem) if not problem]
        if not kept:  # other processes may have a batch: all must update together
            return 0.0 * (spec if signal is None else signal).abs().sum()
        if len(kept) < len(targets):
            signal, spec = (None if one is None else one[kept] for one in (signal, spec))
            targets = targets[kept]
        if signal is None:
            spectrogram_term = spectrogram_loss(cast(Tensor, spec), targets, cast(StftConfig, config.loss_stft))
            return cast(DomainLoss, loss).spectrogram_weight * spectrogram_term
        return compute_loss(
            loss, signal, targets, names=config.targets, estimate_spec=spec, stft_config=config.loss_stft
        )

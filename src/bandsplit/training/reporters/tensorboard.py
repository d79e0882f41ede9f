"""Curves of a run for TensorBoard, in the run's folder next to its log."""

from __future__ import annotations

from typing_extensions import assert_never

from bandsplit.core.errors import ConfigError
from bandsplit.training.reporters.events import Event, Note, Skipped, Start, Step, Validated

EVERY = 10
"""Updates between two points."""


class TensorBoard:
    """A reporter that draws loss, learning rate, speed, energy and scores over updates; resumed runs continue them."""

    def __init__(self) -> None:
        """Check that the package is installed.

        Raises:
            ConfigError: it is not installed.
        """
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            fix = "pip install 'bandsplit[tensorboard]'"
            raise ConfigError(f"--tensorboard: needs tensorboard, which is not installed: {fix}") from None
        self._make = SummaryWriter
        self.writer: SummaryWriter | None = None
        self.update = 0

    def __call__(self, event: Event) -> None:
        """Write the points of an event."""
        match event:
            case Start():
                self.update = event.done
                # Points after the state that the run continues from are dropped.
                self.writer = self._make(str(event.folder / "tensorboard"), purge_step=event.done + 1)
            case Step():
                self._step(event)
            case Validated():
                self._validated(event)
            case Skipped() | Note():
                pass
            case _:
                assert_never(event)

    def _step(self, step: Step) -> None:
        self.update = step.update
        if step.update % EVERY:
            return
        values = {
            "train/loss": step.loss,
            "train/learning_rate": step.learning_rate,
            "speed/examples_per_s": step.examples_per_s,
            "speed/waiting": step.waiting,
        }
        if step.kwh is not None:
            values["energy/kwh"] = step.kwh
        self._write(values)

    def _validated(self, event: Validated) -> None:
        validation = event.validation
        values = {"valid/usdr_db": validation.usdr_db, "valid/loss": validation.loss}
        if event.loss is not None:
            values["train/epoch_loss"] = event.loss
        for target in validation.songs[0].usdr_db:
            scores = [song.usdr_db[target] for song in validation.songs]
            values[f"valid/usdr_db/{target}"] = sum(scores) / len(scores)
        self._write(values)
        assert self.writer is not None
        self.writer.flush()

    def _write(self, values: dict[str, float]) -> None:
        assert self.writer is not None, "started before"
        for name, value in values.items():
            self.writer.add_scalar(name, value, self.update)

"""A run for TensorBoard: curves in the run's folder, beside its log."""

from __future__ import annotations

from bandsplit.core.errors import ConfigError
from bandsplit.training.reporters.interface import Silence, Start, Step
from bandsplit.training.validation import Validation

EVERY = 10
"""Updates between two points."""


class TensorBoard(Silence):
    """Writes loss, learning rate, speed, energy and scores over updates; a resumed run goes on in its curves."""

    def __init__(self) -> None:
        """Look for the package.

        Raises:
            ConfigError: it is not installed.
        """
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            fix = "pip install 'bandsplit[tensorboard]'"
            raise ConfigError(f"--tensorboard: needs tensorboard, which is not installed here: {fix}") from None
        self._make = SummaryWriter
        self.writer: SummaryWriter | None = None
        self.update = 0

    def start(self, start: Start) -> None:
        """Open the curves; points after the state that the run goes on from are dropped."""
        self.update = start.done
        self.writer = self._make(str(start.folder / "tensorboard"), purge_step=start.done + 1)

    def step(self, step: Step) -> None:
        """Write a point of some updates."""
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

    def validated(self, epoch: int, loss: float, validation: Validation, best: bool) -> None:
        """Write a point for the set, and one per target."""
        values = {"train/epoch_loss": loss, "valid/usdr_db": validation.usdr_db, "valid/loss": validation.loss}
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

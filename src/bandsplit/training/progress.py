"""A run on the terminal: a bar with loss, validation uSDR and time left, and a line for each validation."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bandsplit.config import RunConfig
from bandsplit.training.loop import Validation


class TerminalProgress:
    """Shows a run; use as a context manager."""

    def __init__(self, console: Console) -> None:
        """Show on ``console``."""
        self.console = console
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  val uSDR {task.fields[usdr]}  at most"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
        )
        self.task: TaskID | None = None

    def __enter__(self) -> TerminalProgress:
        """Show the bar."""
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the bar as it is."""
        self.bar.stop()

    def start(self, folder: Path, config: RunConfig, learning_rate: float, updates: int, done: int) -> None:
        """Say what runs, and show the bar at update ``done``."""
        training = config.training
        self.console.print(
            f"{config.recipe} ({', '.join(config.model.targets)}), seed {config.seed}, "
            f"learning rate {learning_rate:.3g}, batch {training.batch_size} x {training.accumulate}, in {folder}",
            highlight=False,
        )
        epoch = done // (updates // training.max_epochs) + 1
        fields = {"epoch": epoch, "epochs": training.max_epochs, "loss": "-", "usdr": "-"}
        self.task = self.bar.add_task("train", total=updates, completed=done, **fields)

    def step(self, epoch: int, loss: float) -> None:
        """Advance by one update."""
        assert self.task is not None
        self.bar.update(self.task, advance=1, epoch=epoch, loss=f"{loss:.3f}")

    def skipped(self, problem: str) -> None:
        """Print a line that stays."""
        self.console.print(f"examples are skipped: {problem}", style="red", markup=False, highlight=False)

    def validated(self, epoch: int, loss: float, validation: Validation, best: bool) -> None:
        """Print a line that stays."""
        assert self.task is not None
        self.bar.update(self.task, usdr=f"{validation.usdr_db:.2f} dB")
        mark = "  best" if best else ""
        self.console.print(
            f"epoch {epoch:3d}  loss {loss:.4f}  validation uSDR {validation.usdr_db:6.2f} dB, "
            f"loss {validation.loss:.4f}{mark}",
            highlight=False,
        )

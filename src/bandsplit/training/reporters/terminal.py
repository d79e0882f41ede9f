"""A run on the terminal: a bar with loss, speed, energy and time left, and a line for each validation."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bandsplit.core.printable import printable
from bandsplit.training.reporters.interface import Start, Step
from bandsplit.training.validation import Validation


class TerminalProgress:
    """Shows a run; use as a context manager."""

    def __init__(self, console: Console) -> None:
        """Show on ``console``."""
        self.console = console
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=None),
            TextColumn("loss {task.fields[loss]}  best {task.fields[best]}{task.fields[speed]}  left, at most"),
            TimeRemainingColumn(compact=True),
            console=console,
            expand=True,
        )
        self.task: TaskID | None = None
        self.unit = ""
        self.best = "-"

    def __enter__(self) -> TerminalProgress:
        """Show the bar."""
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the bar as it is."""
        self.bar.stop()

    def start(self, start: Start) -> None:
        """Say what runs, and show the bar where it begins."""
        config, epochs = start.config, start.config.training.max_epochs
        self._print(
            f"{config.recipe} ({', '.join(config.model.targets)}), seed {config.seed}, learning rate "
            f"{start.learning_rate:.3g} ({config.training.learning_rate_rule}), {start.batches}, in {start.folder}"
        )
        epoch = start.done // (start.updates // epochs) + 1
        fields = {"epoch": epoch, "epochs": epochs, "loss": "-", "best": "-", "speed": ""}
        self.task = self.bar.add_task("train", total=start.updates, completed=start.done, **fields)
        self.unit = " dB" if config.training.monitor == "usdr" else ""

    def step(self, step: Step) -> None:
        """Advance by one update."""
        assert self.task is not None
        kwh = "" if step.kwh is None else f"  {step.kwh:.3f} kWh"
        speed = f"  {step.examples_per_s:.1f} ex/s  wait {step.waiting:.0%}{kwh}"
        self.bar.update(self.task, completed=step.update, epoch=step.epoch, loss=f"{step.loss:.3f}", speed=speed)

    def skipped(self, problem: str) -> None:
        """Print a line that stays."""
        self._print(f"examples are skipped: {problem}", style="red")

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self._print(text, style="yellow")

    def validated(self, epoch: int, loss: float, validation: Validation, best: bool) -> None:
        """Print a line that stays."""
        assert self.task is not None
        if best:
            self.best = f"{validation.usdr_db:.2f} dB" if self.unit else f"{validation.loss:.4f}"
            self.bar.update(self.task, best=self.best)
        mark = "  best" if best else ""
        self._print(
            f"epoch {epoch:3d}  loss {loss:.4f}  validation uSDR {validation.usdr_db:6.2f} dB, "
            f"loss {validation.loss:.4f}{mark}"
        )

    def _print(self, text: str, style: str | None = None) -> None:
        self.console.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)

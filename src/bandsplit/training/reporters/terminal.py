"""A run on the terminal: a bar with loss, speed, energy and time left, and a line for each validation."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from typing_extensions import assert_never

from bandsplit.core.printable import printable
from bandsplit.training.initial import describe_initial
from bandsplit.training.reporters.events import Event, Note, Skipped, Start, Step, Validated


class TerminalProgress:
    """A reporter that shows a run; use as a context manager."""

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

    def __call__(self, event: Event) -> None:
        """Show an event: a step moves the bar, all others print a line that stays."""
        match event:
            case Start():
                self._start(event)
            case Step():
                self._step(event)
            case Validated():
                self._validated(event)
            case Skipped(problem):
                self._print(f"examples are skipped: {problem}", style="red")
            case Note(text):
                self._print(text, style="yellow")
            case _:
                assert_never(event)

    def _start(self, start: Start) -> None:
        config, training = start.config, start.config.training
        self._print(
            f"{config.recipe} ({', '.join(config.model.targets)}), seed {config.seed}, learning rate "
            f"{start.learning_rate:.3g} ({training.learning_rate_rule}), {start.batches}, in {start.folder}"
        )
        if training.budget is not None:
            updates = "" if start.updates is None else f", {start.updates} updates"
            self._print(f"budget {training.budget}{updates}; the schedule of the learning rate is stretched to it")
        for what, text in describe_initial(start.initial, config) if start.initial else ():
            self._print(f"{what}: {text}")
        length = training.examples_per_epoch // start.batches.global_batch
        epoch, epochs = start.done // length + 1, "?"
        if start.updates is not None:
            epochs = -(-start.updates // length)
            epoch = min(epoch, epochs)  # a run that is finished has no next one
        fields = {"epoch": epoch, "epochs": epochs, "loss": "-", "best": "-", "speed": ""}
        self.task = self.bar.add_task("train", total=1.0, **fields)
        self.bar.update(self.task, completed=start.share)
        self.unit = " dB" if training.monitor == "usdr" else ""

    def _step(self, step: Step) -> None:
        assert self.task is not None
        kwh = "" if step.kwh is None else f"  {step.kwh:.3f} kWh"
        speed = f"  {step.examples_per_s:.1f} ex/s  wait {step.waiting:.0%}{kwh}"
        self.bar.update(self.task, completed=step.share, epoch=step.epoch, loss=f"{step.loss:.3f}", speed=speed)

    def _validated(self, event: Validated) -> None:
        assert self.task is not None
        validation = event.validation
        if event.best:
            self.best = f"{validation.usdr_db:.2f} dB" if self.unit else f"{validation.loss:.4f}"
            self.bar.update(self.task, best=self.best)
        mark = f", {validation.weights}" if event.others else ""
        mark += "  best" if event.best else ""
        loss = "-" if event.loss is None else f"{event.loss:.4f}"
        self._print(
            f"epoch {event.epoch:3d}  loss {loss}  validation uSDR {validation.usdr_db:6.2f} dB, "
            f"loss {validation.loss:.4f}{mark}"
        )

    def _print(self, text: str, style: str | None = None) -> None:
        self.console.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)

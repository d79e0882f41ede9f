"""The command ``bandsplit train``."""

from __future__ import annotations

from bandsplit.cli.options import DatasetOptions, DeviceOption, refuse_moved, with_options
from bandsplit.cli.terminal import can_continue, make_console, print_lines
from bandsplit.cli.training_options import (
    AttemptOptions,
    EnergyOptions,
    ExecutionOptions,
    FolderOptions,
    RecipeArgument,
    RunOptions,
    TargetOption,
)

TrainCommand = refuse_moved({"--plan": "`bandsplit plan RECIPE`", "--launcher": "`bandsplit submit RECIPE`"})


@with_options
@can_continue("run the same command again to continue, with --resume if the run has begun")
def train(
    recipe: RecipeArgument,
    *,
    target: TargetOption = None,
    run: RunOptions,
    folder: FolderOptions,
    songs: DatasetOptions,
    device: DeviceOption = "auto",
    execution: ExecutionOptions,
    attempt: AttemptOptions,
    energy: EnergyOptions,
) -> None:
    """Train a model of the paper on a folder of songs."""
    import torch

    from bandsplit.recipes.catalogue import find_recipe
    from bandsplit.training.loop import train as train_run
    from bandsplit.training.reporters.events import report_to
    from bandsplit.training.reporters.tensorboard import TensorBoard
    from bandsplit.training.reporters.terminal import TerminalProgress

    console = make_console()
    config = run.config(find_recipe(recipe), target or [])
    dataset = run.open_dataset(console, songs)
    torch.manual_seed(config.seed)
    with TerminalProgress(console) as progress:
        result = train_run(
            config, dataset, folder.runs, report_to(progress, TensorBoard()) if attempt.tensorboard else progress,
            execution=execution.execution(device, attempt), init=run.init_file(config), resume=folder.resume,
            make_meter=energy.make_meter(),
        )  # fmt: skip
    unit = "dB uSDR" if config.training.monitor == "usdr" else "(negated loss)"
    print_lines(
        console,
        f"best after epoch {result.best_epoch} of {result.epochs}: {result.best_score:.2f} {unit}, in {result.best}",
    )

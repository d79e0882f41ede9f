"""The command ``bandsplit submit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bandsplit.cli.options import (
    DatasetOptions,
    DeviceOption,
    JobOptions,
    Launcher,
    as_arguments,
    job_option,
    with_options,
)
from bandsplit.cli.terminal import make_console, print_lines
from bandsplit.cli.training_options import (
    AttemptOptions,
    EnergyOptions,
    ExecutionOptions,
    FolderOptions,
    RecipeArgument,
    RunOptions,
    TargetOption,
)


@with_options
def submit(
    recipe: RecipeArgument,
    *,
    target: TargetOption = None,
    run: RunOptions,
    folder: FolderOptions,
    songs: DatasetOptions,
    device: DeviceOption = "auto",
    launcher: Annotated[
        Launcher, job_option("--launcher", help="Slurm, or local: processes of this machine, all at once.")
    ] = "slurm",
    jobs: JobOptions,
    output: Annotated[Path, job_option("--jobs", help="Folder for the output of jobs.")] = Path("jobs"),
    execution: ExecutionOptions,
    attempt: AttemptOptions,
    energy: EnergyOptions,
) -> None:
    """Submit a training as jobs, one for each --target; at its wall time a job goes back into the queue.

    A recipe that shares a model between targets is one job.
    """
    from bandsplit.recipes.catalogue import find_recipe
    from bandsplit.training.cluster import train_arguments

    found, targets = find_recipe(recipe), target or []
    groups = [targets] if found.shared or not targets else [[name] for name in targets]
    for group in groups:
        run.config(found, group)  # mistakes are reported here, not by the jobs
    options = [*as_arguments(run, folder, songs), "--device", device, *as_arguments(execution, attempt, energy)]
    commands = [train_arguments(recipe, group, options) for group in groups]
    console = make_console()
    for job, group in zip(jobs.submit(commands, output, launcher, f"bandsplit-{recipe}"), groups, strict=True):
        print_lines(console, f"job {job.job_id}: {recipe} {', '.join(group)}, output in {job.paths.stderr}")
    print_lines(console, "`bandsplit runs` shows their progress")

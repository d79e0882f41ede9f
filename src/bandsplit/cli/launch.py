"""``train --launcher``: the same command as jobs of a cluster, or of this machine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from bandsplit.cli.terminal import make_console, tell
from bandsplit.core.errors import ConfigError
from bandsplit.recipes.recipe import Recipe

LAUNCH_OPTIONS = ("--launcher", "--hours", "--gpus", "--cpus", "--slurm", "--jobs")
TARGET_OPTIONS = ("--target", "--targets", "-t")


def launch(
    arguments: Sequence[str],
    recipe: Recipe,
    targets: Sequence[str],
    *,
    executor: Literal["slurm", "local"],
    hours: float,
    gpus: int,
    cpus: int,
    options: Sequence[str],
    folder: Path,
) -> None:
    """Submit one job for each target, or one where a recipe shares a model between targets.

    Args:
        arguments: the command line, without ``bandsplit``.
        recipe: the recipe it names.
        targets: the targets it names.
        executor: where the jobs run.
        hours: wall time of an attempt.
        gpus: GPUs of a run.
        cpus: CPU cores of a run.
        options: further options of ``sbatch``, as ``partition=gpu``.
        folder: for the jobs' output.
    """
    from bandsplit.training.cluster import submit

    common = without_options(arguments, (*LAUNCH_OPTIONS, *TARGET_OPTIONS))
    groups = [list(targets)] if recipe.shared else [[target] for target in targets]
    runs = [[*common, *(part for target in group for part in ("--target", target))] for group in groups]
    name = f"bandsplit-{recipe.id}"
    jobs = submit(
        runs, folder, executor=executor, hours=hours, gpus=gpus, cpus=cpus, options=parse_options(options), name=name
    )
    console = make_console()
    for job, group in zip(jobs, groups, strict=True):
        tell(console, f"job {job.job_id}: {recipe.id} {', '.join(group)}, output in {job.paths.stderr}")
    tell(console, "`bandsplit runs` shows how far they are")


def without_options(arguments: Sequence[str], names: Collection[str]) -> list[str]:
    """Drop options that take a value, as ``--name value``, ``--name=value`` or ``-nvalue``."""
    kept = []
    rest = iter(arguments)
    for argument in rest:
        if argument in names:
            next(rest, None)
        elif not any(argument.startswith(f"{name}=" if name.startswith("--") else name) for name in names):
            kept.append(argument)
    return kept


def parse_options(options: Sequence[str]) -> dict[str, str]:
    """Read the values of ``--slurm``.

    Raises:
        ConfigError: one is not KEY=VALUE.
    """
    wrong = [option for option in options if not option.partition("=")[0] or "=" not in option]
    if wrong:
        raise ConfigError(f"--slurm {wrong[0]}: must be KEY=VALUE, for example partition=gpu")
    return {key: value for key, _, value in (option.partition("=") for option in options)}

"""Options of the commands that train, plan or submit a run."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bandsplit.cli.options import DatasetOptions
from bandsplit.cli.terminal import print_lines, song_progress
from bandsplit.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from bandsplit.data.songs.tracks import Dataset
    from bandsplit.recipes.recipe import Recipe
    from bandsplit.runs.config import RunConfig
    from bandsplit.runs.energy.interface import MakeMeter
    from bandsplit.training.execution import Execution

_execution, _energy = (partial(typer.Option, rich_help_panel=panel) for panel in ("Execution", "Energy"))

RecipeArgument = Annotated[
    str,
    typer.Argument(metavar="RECIPE", help="Name of a recipe; see `bandsplit models list --architectures`."),
]
TargetOption = Annotated[
    list[str] | None,
    typer.Option("--target", "--targets", "-t", help="Stem to estimate; not for recipes that share a model."),
]


BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="PRICE",
        help="Stop at this price, with schedules stretched to it: 2e15flop, 0.5kWh, 20min; /4: as one of four models.",
    ),
]


_OWN_OPTIONS = {
    "init": "--init",
    "training.freeze": "--freeze",
    "training.data_weights": "--data",
    "training.budget": "--budget",
}
"""Settings of a run that are not set with ``--set``."""


@dataclass(frozen=True)
class RunOptions:
    """The songs, the seed and the settings of a run."""

    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            metavar="PATH[:WEIGHT]",
            help="Songs: a folder like MUSDB18-HQ, stem folders, a CSV of instrum,path, or MoisesDB. Repeatable: an "
            "example comes from one of the sets, with a probability in proportion to its weight (default: 1).",
        ),
    ]
    seed: Annotated[int, typer.Option("--seed", help="Seed of the initial weights and of every example.", min=0)] = 0
    set: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a setting, for example training.max_epochs=20; tables leave changed runs out."
        ),
    ] = None
    valid: Annotated[
        Path | None,
        typer.Option("--valid", help="Validation songs (default: those of the first --data that has any)."),
    ] = None
    budget: BudgetOption = None
    init: Annotated[
        str | None,
        typer.Option("--init", metavar="MODEL", help="Start from this model of the same family: a file or a name."),
    ] = None
    unlabelled: Annotated[
        Path | None,
        typer.Option(
            "--unlabelled",
            metavar="FOLDER",
            help="With --init, learn from these songs without stems, too: the best model so far separates them.",
        ),
    ] = None
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            "--freeze",
            metavar="PART",
            help="With --init, do not train this part: the beginning of names of tensors, or a pattern; repeatable.",
        ),
    ] = None

    def config(self, recipe: Recipe, targets: Sequence[str]) -> RunConfig:
        """Make the configuration of the run.

        Raises:
            ConfigError: the targets do not suit the recipe, or a setting is unknown or illegal.
            ModelFileError: there is no model to start from.
        """
        from bandsplit.runs.budgets import parse_budget

        changes = dict(map(_parse_change, self.set or []))
        for path in _OWN_OPTIONS.keys() & changes.keys():
            raise ConfigError(f"--set {path}: is set by the option {_OWN_OPTIONS[path]}")
        budget = parse_budget(self.budget) if self.budget is not None else None
        given: dict[str, Any] = {}
        if len(self.data) > 1:
            given["training.data_weights"] = [weight for _, weight in self._weighted_data()]
        if self.freeze:
            given["training.freeze"] = self.freeze
        plain = recipe.run_config(targets, seed=self.seed, changes=changes)
        if self.init is not None:
            from pooch import file_hash

            given["init"] = file_hash(str(self.init_file(plain)))
        if self.unlabelled is not None and plain.training.unlabelled is None:
            given["training.unlabelled"] = {}
        return recipe.run_config(targets, seed=self.seed, changes=changes | given, budget=budget)

    def init_file(self, config: RunConfig) -> Path | None:
        """Find the file of the model that the run starts from: of several, the one with all targets of the run.

        Raises:
            ModelFileError: there is no such model.
            ConfigError: none of its files, or more than one, has all targets.
        """
        from bandsplit.models.card import read_card
        from bandsplit.models.pretrained.registry import find_models

        if self.init is None:
            return None
        estimated = {file: read_card(file)[0].targets for file in find_models([self.init])}
        if len(estimated) == 1:
            return next(iter(estimated))
        fitting = [file for file, targets in estimated.items() if set(config.model.targets) <= set(targets)]
        if len(fitting) != 1:
            raise ConfigError(
                f"--init {self.init}: {len(fitting)} of its files estimate {', '.join(config.model.targets)}; name one "
                f"of {', '.join(map(str, estimated))}"
            )
        return fitting[0]

    def open_dataset(self, console: Console, songs: DatasetOptions) -> Dataset:
        """Open the songs for training and validation.

        Validation songs are those of ``valid``, else those of the first data set that has any. With unlabelled songs,
        the test songs of all sets are opened, too, since no unlabelled song may be one of them.

        Raises:
            DataError: some are broken, and ``--allow`` is not given.
        """
        sets: list[Dataset] = []
        held_out = () if self.unlabelled is None else ("test",)
        unlabelled = None if self.unlabelled is None else _open_unlabelled(console, self.unlabelled)
        valid = None if self.valid is None else songs.open(console, self.valid, ("valid", *held_out))
        for root, _ in self._weighted_data():
            dataset = songs.open(console, root, ("train", *(("valid",) if valid is None else ()), *held_out))
            sets.append(dataset)
            if valid is None and any(track.split == "valid" for track in dataset.tracks):
                valid = dataset
        first, *others = sets
        if valid is not None and valid is not first:
            first = first.with_validation(valid)
            if self.valid is not None:
                test = tuple(track for track in valid.tracks if track.split == "test")
                first = replace(first, tracks=(*first.tracks, *test))
        return replace(first, others=tuple(others), unlabelled=unlabelled)

    def _weighted_data(self) -> list[tuple[Path, float]]:
        """Read ``--data``.

        Raises:
            ConfigError: a weight is not positive, or a data set is given twice.
        """
        sets = list(map(_parse_data, self.data))
        places = [os.path.realpath(root) for root, _ in sets]
        for number, place in enumerate(places):
            if place in places[:number]:
                raise ConfigError(f"--data {self.data[number]}: is given twice; give it once, with a weight")
        return sets


@dataclass(frozen=True)
class ExecutionOptions:
    """Devices, processes and memory of a step."""

    workers: Annotated[
        int,
        _execution("--workers", help="Processes that prepare examples for a device; no effect on the result.", min=0),
    ] = 0
    batch: Annotated[
        int | None, _execution("--batch", help="Examples per step and device; keeps the global batch.", min=1)
    ] = None
    devices: Annotated[
        int | None, _execution("--devices", help="Devices of this machine, one process each.", min=1)
    ] = None
    checkpointing: Annotated[
        bool, _execution("--checkpointing", help="Save memory: recompute activations in the backward pass.")
    ] = False
    compile: Annotated[bool, _execution("--compile", help="Compile the blocks with torch.compile.")] = False
    cache: Annotated[
        Path | None,
        _execution(
            "--cache", metavar="DIR", help="With --unlabelled, keep separated songs here (default: in the run)."
        ),
    ] = None
    cache_gb: Annotated[float, _execution("--cache-gb", help="Size of this folder; 0 for none.", min=0)] = 10.0

    def execution(self, device: str, attempt: AttemptOptions | None = None) -> Execution:
        """Return the execution settings of the run."""
        from bandsplit.training.execution import Execution

        attempt = attempt or AttemptOptions()
        return Execution(
            device, self.devices, None, self.workers, self.batch, self.checkpointing, self.compile,
            60 * attempt.save_every, None if attempt.max_hours is None else 3600 * attempt.max_hours,
            self.cache, self.cache_gb,
        )  # fmt: skip


@dataclass(frozen=True)
class AttemptOptions:
    """Time limit of one attempt at a run, and what it saves."""

    save_every: Annotated[float, _execution("--save-every", help="Minutes between saved states.", min=0)] = 5.0
    max_hours: Annotated[
        float | None,
        _execution("--max-hours", help="Save the state and stop after this many hours (exit code 3).", min=0),
    ] = None
    tensorboard: Annotated[
        bool, _execution("--tensorboard", help="Write curves for TensorBoard into the run's folder.")
    ] = False


@dataclass(frozen=True)
class EnergyOptions:
    """Measurement of energy, and facts about the electricity."""

    no_energy: Annotated[bool, _energy("--no-energy", help="Do not measure energy.")] = False
    pue: Annotated[
        float, _energy("--pue", help="Energy of the building / of its computers; recorded separately.", min=1)
    ] = 1.5
    intensity: Annotated[
        float | None, _energy("--intensity", help="Emissions of the electricity, grams of CO2e per kWh.")
    ] = None
    country: Annotated[
        str | None, _energy("--country", help="A country instead, for example FRA: its mean, from codecarbon.")
    ] = None
    gpu_tdp: Annotated[
        float | None, _energy("--gpu-tdp", help="TDP in watts, for GPUs missing from the built-in table.", min=1)
    ] = None

    def make_meter(self) -> MakeMeter | None:
        """Return the function that makes the run's meter, or None if energy is not measured."""
        from bandsplit.runs.energy.meter import meters
        from bandsplit.runs.energy.sensors import find_intensity

        return None if self.no_energy else meters(self.pue, find_intensity(self.intensity, self.country), self.gpu_tdp)


@dataclass(frozen=True)
class FolderOptions:
    """Folder of a run, and whether the run may exist already."""

    runs: Annotated[Path, typer.Option("--runs", help="Folder of all runs.")] = Path("runs")
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run if it exists.")] = False


def _open_unlabelled(console: Console, root: Path) -> Dataset:
    """Index songs without stems, check them, and print notes.

    Raises:
        DataError: the folder has no songs, or some are broken.
    """
    from bandsplit.data.songs.check import check_dataset, require_sound
    from bandsplit.data.songs.unlabelled import index_unlabelled

    dataset = index_unlabelled(root)
    print_lines(console, *dataset.notes)
    with song_progress(console, "checking") as progress:
        return require_sound(check_dataset(dataset, progress=progress))


def _parse_change(text: str) -> tuple[str, Any]:
    import yaml

    path, equals, value = text.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {text}: must be PATH=VALUE, for example training.max_epochs=20")
    try:
        return path, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {text}: {value!r} is not a value; quote it as in YAML or JSON") from None


def _parse_data(text: str) -> tuple[Path, float]:
    """Split ``PATH[:WEIGHT]``; a colon may also be part of a path."""
    path, colon, number = text.rpartition(":")
    try:
        weight = float(number) if colon and path and not os.path.exists(text) else None
    except ValueError:
        weight = None
    if weight is None:
        return Path(text), 1.0
    if not 0 < weight < math.inf:
        raise ConfigError(f"--data {text}: the weight {number} is not a positive number; for example {path}:0.3")
    return Path(path), weight

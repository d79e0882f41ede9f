"""Systems whose costs are counted or measured: recipes with random weights, registered models, files and bags."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from bandsplit.core.config import hash8
from bandsplit.core.errors import BandsplitError, ModelFileError
from bandsplit.core.targets import TARGETS
from bandsplit.core.unfinished import temporary_folder
from bandsplit.evaluation.systems import hash_files
from bandsplit.models.chunk_config import ChunkConfig, HammingConfig
from bandsplit.models.contract import ModelConfig
from bandsplit.models.families import tensor_shapes
from bandsplit.models.pretrained.registry import cached_files, entries, find_entry, find_models
from bandsplit.models.tensors import count_parameters
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.recipes.recipe import Recipe
from bandsplit.runs.config import RunConfig
from bandsplit.separation.chunk_choice import choose_chunks
from bandsplit.separation.members import needed_targets
from bandsplit.separation.systems import read_system
from bandsplit.studies.plans import Study, planned_public, planned_runs

NOT_CACHED = "not in the cache; `bandsplit models fetch NAME` brings it"
"""Reason of registered models that were not downloaded."""


class Network(NamedTuple):
    """A network of a system, as it runs."""

    config: ModelConfig
    """With the targets alone that the system computes with it."""
    chunks: ChunkConfig
    parameters: int
    """Of its file, with all targets."""
    bytes: int
    """Size of its file; for a recipe, of its weights in 32 bits."""


@dataclass(frozen=True)
class CostedSystem:
    """A system with the networks that it needs."""

    name: str
    source: str
    """Hash of its configurations, for a recipe, or of its files."""
    networks: tuple[Network, ...]
    runs: tuple[RunConfig, ...] = ()
    """Trainings that make it; empty for files."""
    files: tuple[Path, ...] = ()
    """Empty for a recipe."""
    chunks: ChunkConfig | None = None
    """Chunk plan of all models; None: each family's own."""

    @property
    def trainings(self) -> str:
        """Hash of its trainings."""
        return hash8([run.hash8() for run in self.runs])

    def sample(self) -> CostedSystem:
        """Return what is measured: files as they are; of a recipe one of each kind of model, its chunks side by side.

        Random weights of one architecture, and further chunks, cost as much for each operation.
        """
        if self.files:
            return self
        seconds = self.networks[0].chunks.chunk_s
        chunks = HammingConfig(chunk_s=seconds, hop_s=seconds)
        kinds: dict[str, Network] = {}
        for network in self.networks:
            kinds.setdefault(network.config.model_copy(update={"targets": ()}).model_dump_json(), network)
        return replace(self, networks=tuple(one._replace(chunks=chunks) for one in kinds.values()), chunks=chunks)

    @contextmanager
    def stored(self) -> Iterator[tuple[Path, ...]]:
        """Yield its files; those of a recipe are written with random weights, and removed afterwards."""
        if self.files:
            yield self.files
            return
        from bandsplit.models.files import save_untrained  # needs PyTorch

        with temporary_folder() as folder:
            paths = tuple(Path(folder) / f"{number}.safetensors" for number in range(len(self.networks)))
            for path, network in zip(paths, self.networks, strict=True):
                save_untrained(path, network.config, self.name)
            yield paths


def recipe_system(
    recipe: Recipe,
    targets: Sequence[str] = TARGETS,
    chunks: ChunkConfig | None = None,
    runs: Sequence[RunConfig] = (),
) -> CostedSystem:
    """Describe the models of a recipe.

    Args:
        recipe: the recipe.
        targets: those of the models; a model that all share has those of the recipe.
        chunks: chunk plan of all models; None: that of their authors.
        runs: the trainings, if they are not those of the recipe alone, such as runs with a budget.
    """
    runs = runs or [recipe.run_config()] if recipe.shared else [recipe.run_config([target]) for target in targets]
    models = [run.model for run in runs]
    networks = tuple(
        Network(model, choose_chunks(chunks, model, recipe.id), count_parameters(model), 4 * _count_numbers(model))
        for model in models
    )
    source = hash8([[one.config.model_dump(mode="json"), one.chunks.model_dump(mode="json")] for one in networks])
    return CostedSystem(recipe.id, source, networks, tuple(runs), chunks=chunks)


def file_system(name: str, files: Sequence[Path]) -> CostedSystem:
    """Describe the models of files and bags that together are a system.

    Raises:
        ModelFileError: a file is not a model or a bag.
        ConfigError: they do not go together.
    """
    system = read_system(files)
    networks = []
    for member, targets in needed_targets(system.mean, system.mean.targets).items():
        assert isinstance(member.model, str | Path)  # files were given
        config = _narrow(member.config, targets)
        size = os.path.getsize(member.model)
        networks.append(Network(config, member.chunks, count_parameters(member.config), size))
    return CostedSystem(name, hash_files(system.files), tuple(networks), files=tuple(files))


def find_system(name: str) -> CostedSystem | str:
    """Find a recipe, a registered model, a file, a folder or a bag; a name of two of them is the recipe's.

    Returns:
        The system; or the reason why it has no costs here: `NOT_CACHED`, or it is damaged.

    Raises:
        ModelFileError: nothing has this name.
    """
    if name in RECIPES:
        return recipe_system(RECIPES[name])
    registered = [text for entry in entries() for text in (entry.name, *entry.aliases)]
    if not os.path.exists(name) and name.lower() not in registered:
        near = difflib.get_close_matches(name, [*RECIPES, *registered], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ModelFileError(
            f"{name}: is not a recipe, a registered model, or the path of a model, a bag or a folder of models; {hint}"
            f"`bandsplit models list` and `bandsplit models list --architectures` show the names"
        )
    return _find_files(name)


def _find_files(name: str) -> CostedSystem | str:
    try:
        if not os.path.exists(name) and not cached_files(find_entry(name)):
            return NOT_CACHED
        return file_system(name, find_models(name))
    except BandsplitError as error:
        return format(error).removeprefix(f"{name}: ")


def as_published(recipe: str) -> str:
    """Name the system of a recipe whose costs stand for published scores; public weights may have its own name."""
    return f"{recipe} as published"


def systems_of(study: Study, rows: Sequence[str] = ()) -> dict[str, CostedSystem | str]:
    """Find the systems of a study, see `find_system`.

    Args:
        study: the study. Of a study of systems, these are public weights, the recipes that its own ones are made from,
            as published, and its own ones with its chunk plan.
        rows: those of `planned_runs` and `planned_public`; all if empty.

    Raises:
        ConfigError: the study has no such row.
    """
    recipes = dict.fromkeys(run.recipe for run in planned_runs(study, recipes=rows))
    public = planned_public(study, rows=rows)

    def own(recipe: str) -> CostedSystem:
        planned = planned_runs(study, recipes=[recipe])
        runs = [run._replace(seed=0).config for run in planned if run.seed == planned[0].seed]
        return recipe_system(RECIPES[recipe], study.targets, study.plan, runs)

    if not study.systems:
        return {recipe: own(recipe) for recipe in recipes}
    found: dict[str, CostedSystem | str] = {}
    for system in study.systems:
        found |= {name: _find_files(name) for name in system.public if name in public}
        for recipe in (RECIPES[name] for name in system.recipes if name in recipes):
            parent = RECIPES[recipe.parent or recipe.id]
            name = as_published(parent.id)
            found[name] = replace(recipe_system(parent, study.targets), name=name)
            found[recipe.id] = own(recipe.id)
    return found


def _narrow(config: ModelConfig, targets: set[str]) -> ModelConfig:
    """Return the configuration of a network that computes only some of its targets, as far as it can."""
    if targets == set(config.targets):
        return config
    import torch

    from bandsplit.models.network import build_model

    with torch.device("meta"):
        return build_model(config).narrowed(tuple(targets)).config


def _count_numbers(config: ModelConfig) -> int:
    return sum(math.prod(shape) for _, shape in tensor_shapes(config))

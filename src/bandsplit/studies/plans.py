"""Plans of studies: the runs of the paper's tables, row by row, with their seeds; and a small study for two cores."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from bandsplit.core.errors import ConfigError
from bandsplit.core.targets import TARGETS
from bandsplit.models.chunk_config import ChunkConfig, CrossfadeConfig, OverlapAddConfig
from bandsplit.published.paper import EvaluationRow, table2, table3
from bandsplit.recipes.catalogue import RECIPES, find_recipe
from bandsplit.recipes.mini import one_per_family
from bandsplit.recipes.protocol import PLAN
from bandsplit.recipes.recipe import Recipe
from bandsplit.recipes.table1 import StudySystem, table1_systems
from bandsplit.runs.budgets import Budget, parse_budget
from bandsplit.runs.config import RunConfig

MINI_PRICE = "4e12flop"
"""Price of a system of the study ``table1-mini``: docs/table1-mini.md has its score at other prices."""
PUBLIC = "public"
"""Part of a study that is scored only: public weights."""


class Experiment(NamedTuple):
    """A recipe and the seeds it is trained with."""

    recipe: str
    seeds: tuple[int, ...]


class PlannedRun(NamedTuple):
    """One training run of a study."""

    recipe: str
    targets: tuple[str, ...]
    seed: int
    budget: Budget | None = None
    """Its share of the study's budget."""

    @property
    def config(self) -> RunConfig:
        """Configuration of the run."""
        return find_recipe(self.recipe).run_config(self.targets, seed=self.seed, budget=self.budget)


@dataclass(frozen=True)
class Study:
    """Experiments in parts that can be run and shown on their own."""

    id: str
    about: str
    parts: Mapping[str, tuple[Experiment, ...]]
    """Name of the part, as of its table -> its experiments; one may be in several parts."""
    targets: tuple[str, ...] = TARGETS
    """Estimated targets: by one model each, or by one model for all of them if the recipe shares it."""
    systems: tuple[StudySystem, ...] = ()
    """Published systems, whose public weights are scored and whose recipes are trained."""
    plan: ChunkConfig | None = None
    """Chunk plan of all test scores; None: each family's own."""
    budget: Budget | None = None
    """Price of each system, that is, of the models of a recipe with one seed; None: each recipe's own length."""

    @property
    def public(self) -> tuple[str, ...]:
        """Registered names of all public weights."""
        return tuple(name for system in self.systems for name in system.public)

    def within(self, budget: Budget) -> Study:
        """Return the study with another budget."""
        return replace(self, about=f"{self.about}; each system trained for {budget.price}", budget=budget)


class EvaluationLine(NamedTuple):
    """A line of Table III that can be measured: a recipe's model and its chunks for entire songs."""

    recipe: str
    chunks: ChunkConfig
    published: EvaluationRow


def planned_runs(
    study: Study,
    parts: Collection[str] = (),
    recipes: Sequence[str] = (),
    seeds: Collection[int] = (),
    targets: Collection[str] = (),
) -> list[PlannedRun]:
    """List the runs of a study, each once, in its order.

    Args:
        study: the study.
        parts: parts to take; all if empty.
        recipes: recipes to take, by name, by row of Table II or by system; all if empty.
        seeds: seeds to take; all if empty.
        targets: targets to take; all if empty. A recipe that shares a model between targets always trains all.

    Raises:
        ConfigError: the study has no such part, recipe, seed or target.
    """
    _check("part", parts, study.parts)
    chosen = [part for part in study.parts if part in parts or not parts]
    experiments = [experiment for part in chosen for experiment in study.parts[part]]
    wanted = {recipe for name in recipes for recipe in _recipes_of(name, study, experiments)}
    _check("seed", seeds, {seed for experiment in experiments for seed in experiment.seeds})
    _check("target", targets, study.targets)
    runs = [
        PlannedRun(recipe, group, seed, _share(study, find_recipe(recipe)))
        for recipe, its_seeds in experiments
        if recipe in wanted or not recipes
        for seed in its_seeds
        if seed in seeds or not seeds
        for group in _target_groups(find_recipe(recipe), study.targets)
        if not targets or set(group) & set(targets)
    ]
    return list(dict.fromkeys(runs))


def find_study(id: str, budget: Budget | None = None) -> Study:
    """Look a study up, with another budget than its own if one is given.

    Raises:
        ConfigError: there is no study of that name.
    """
    _check("study", [id], STUDIES)
    return STUDIES[id] if budget is None or budget == STUDIES[id].budget else STUDIES[id].within(budget)


def planned_public(study: Study, parts: Collection[str] = (), rows: Collection[str] = ()) -> tuple[str, ...]:
    """List the public weights of a study that are chosen, by registered name or by system; see `planned_runs`."""
    if parts and PUBLIC not in parts:
        return ()
    chosen = (name for system in study.systems for name in system.public if not rows or {name, system.id} & set(rows))
    return tuple(chosen)


def _recipes_of(name: str, study: Study, experiments: Sequence[Experiment]) -> Collection[str]:
    """Return the recipes that a name, a row of Table II or a system means; none for public weights."""
    systems = {system.id: system.recipes for system in study.systems}
    if name in systems:
        return systems[name]
    rows = {row.row: recipe for recipe, row in table2().items()}
    recipe = rows.get(name, name)
    legal = dict.fromkeys((*systems, *study.public, *(experiment.recipe for experiment in experiments)))
    _check("recipe or row", [recipe], legal)
    return [recipe]


def _target_groups(recipe: Recipe, targets: Collection[str]) -> Iterator[tuple[str, ...]]:
    if recipe.shared:
        yield tuple(target for target in recipe.run_config().model.targets if target in targets)
    else:
        yield from ((target,) for target in targets)


def _share(study: Study, recipe: Recipe) -> Budget | None:
    if study.budget is None:
        return None
    return study.budget.model_copy(update={"models": len([*_target_groups(recipe, study.targets)])})


def _check(what: str, names: Collection[object], legal: Collection[object]) -> None:
    for name in names:
        if name not in legal:
            texts = [str(one) for one in legal]
            near = difflib.get_close_matches(str(name), texts, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"{what} {str(name)!r} is not in this study; {hint}legal: {', '.join(texts)}")


def _paper() -> Study:
    """The paper's seeds are 1, 2, 3 for the base model (section V-A) and one, unnamed, for each other row."""
    three = (1, 2, 3)
    simo = ("joint-bands", "simo-residual", "simo", "simo-optimised")
    layers = ("base", *(id for id in RECIPES if id.startswith("layers-")))
    ladder = ("base", "silent-target", *(id for id in RECIPES if id.startswith("ladder-")), "no-activity-detection")

    def one_each(ids: Sequence[str]) -> tuple[Experiment, ...]:
        return tuple(Experiment(id, three if id == "base" else (1,)) for id in ids)

    return Study(
        "paper",
        "the tables and figures of the paper, on MUSDB18-HQ",
        {
            "table2": one_each(tuple(table2())),
            "convergence": (Experiment("base", three), Experiment("base-patience-30", three)),
            "layers": one_each(layers),
            "simo": one_each(simo),
            "data": one_each((*ladder, "pairing-epoch")),
        },
    )


def _mini() -> Study:
    ids = [id for id, recipe in RECIPES.items() if "mini-base" in (id, recipe.parent)]
    return Study(
        "mini",
        "small counterparts of the paper's variants on synthetic songs: a toy problem for two cores",
        {"variants": tuple(Experiment(id, (1, 2, 3)) for id in ids)},
        ("vocals",),
    )


def _table1_mini() -> Study:
    return Study(
        "table1-mini",
        f"a small counterpart of each family for {MINI_PRICE} each, on synthetic songs: a toy problem for two cores",
        {"families": tuple(Experiment(id, (1, 2, 3)) for id in one_per_family(RECIPES))},
        ("vocals",),
        budget=parse_budget(MINI_PRICE),
    )


def _table1() -> Study:
    systems = table1_systems()
    recipes = (recipe for system in systems for recipe in system.recipes)
    return Study(
        "table1",
        "the systems of Table I: as published, from public weights, and trained by one protocol",
        {PUBLIC: (), "trained": tuple(Experiment(recipe, (1,)) for recipe in recipes)},
        systems=systems,
        plan=PLAN,
    )


def _evaluation_lines() -> tuple[EvaluationLine, ...]:
    chunks: dict[str, ChunkConfig] = {
        "crossfade": CrossfadeConfig(),
        "overlap-add, hop 1.5 s": OverlapAddConfig(hop_s=1.5),
        "overlap-add, hop 0.5 s": OverlapAddConfig(hop_s=0.5),
    }
    return tuple(EvaluationLine(row.recipe, chunks[row.chunks], row) for row in table3() if row.recipe)


STUDIES: dict[str, Study] = {study.id: study for study in (_paper(), _mini(), _table1_mini(), _table1())}
"""All studies by name."""

TEST_LINES = _evaluation_lines()
"""Table III, without the numbers of the original paper, which have no recipe."""

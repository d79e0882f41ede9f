"""Points of the pictures of stored costs: score against joules per minute of music, and against kWh of training.

A published score of a system stands at the cost of its public bag, if it has one, otherwise of its recipe as published.
Costs of different machines, and scores on different songs, are never in one picture.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bandsplit.core.text import numbered
from bandsplit.evaluation.comparison import Contender
from bandsplit.evaluation.groups import group
from bandsplit.evaluation.results import Score
from bandsplit.models.pretrained.entries import BagOfFiles
from bandsplit.models.pretrained.registry import find_entry
from bandsplit.published.paper import AVERAGE, SystemRow, table2
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.recipes.table1 import StudySystem
from bandsplit.reports.scatter import LEGEND, Point
from bandsplit.runs.records import RunRecord
from bandsplit.studies.costs.rows import Cost, SeparationCost, TrainingCost
from bandsplit.studies.costs.systems import as_published
from bandsplit.studies.plans import Study
from bandsplit.studies.tables.cells import columns_of
from bandsplit.studies.tables.rows import (
    ANY_BENCHMARK,
    PUE,
    DataKey,
    Measured,
    measure_runs,
    measure_scores,
    measured_of,
    short_label,
    spread,
)
from bandsplit.studies.tables.systems import targets_differ

JOULES = "joules per minute of music (without PUE)"
KWH = f"energy of training, kWh (PUE {PUE:g})"


class X(NamedTuple):
    """A cost, for the horizontal axis."""

    value: float
    estimated: bool


class CostPicture(NamedTuple):
    """A picture to draw."""

    name: str
    points: list[Point]
    cost_label: str
    score_label: str
    title: str
    caption: str


def cost_pictures(
    study: Study, runs: Sequence[RunRecord], scores: Sequence[Score], costs: Sequence[Cost]
) -> Iterator[CostPicture]:
    """Yield the pictures of a study that has stored costs; empty without any.

    Args:
        study: the study.
        runs: its runs.
        scores: its scores on the test split.
        costs: its stored costs.
    """
    field = Field(study, runs, scores) if study.systems else None
    legend = LEGEND + (". Systems with extra data are on no front" if field else "")
    key = columns_of(study.targets)[-1]
    score = f"test cSDR, dB ({AVERAGE})" if field else f"validation uSDR, dB ({key})"
    separations = group((row for row in costs if isinstance(row, SeparationCost)), lambda row: row.machine)
    number = 0
    for machine, rows in separations.items():
        known = {row.system: row for row in rows if row.joules_per_min}
        by_data = field.by_joules(known) if field else _recipe_points(study, runs, known, key)
        for data, points in by_data.items():
            number += 1
            title = f"On {data.text}; energy on {machine}"
            caption = f"{score.partition(',')[0]} against {JOULES}, on {data.text}; energy on {machine}. {legend}"
            yield CostPicture(numbered("score-joules", number), list(points), JOULES, score, title, caption)
    if field is None:
        return
    trainings = group((row for row in costs if isinstance(row, TrainingCost)), lambda row: row.machine)
    number = 0
    for machine, rows in trainings.items():
        for data, points in field.by_training({row.system: row for row in rows}).items():
            number += 1
            title = f"On {data.text}; estimates: {machine}"
            caption = (
                f"{score.partition(',')[0]} against {KWH}, on {data.text}: of Table II, of our runs, or estimated for "
                f"{machine}. {legend}"
            )
            yield CostPicture(numbered("score-training", number), list(points), KWH, score, title, caption)


# --- recipes ---------------------------------------------------------------------------------------------------------


def _recipe_points(
    study: Study, runs: Sequence[RunRecord], known: Mapping[str, SeparationCost], key: str
) -> dict[DataKey, list[Point]]:
    """Return validation scores of recipes, published and of our runs, by data."""
    recipes = dict.fromkeys(one.recipe for part in study.parts.values() for one in part)
    theirs = []
    for recipe in recipes:
        row = table2().get(recipe)
        value = row.usdr_db.get(key) if row else None
        if row is not None and value is not None and recipe in known:
            theirs.append(_point(row.row, _joules(known[recipe]), value, ours=False))
    found: dict[DataKey, list[Point]] = {}
    for data, some in measure_runs([run for run in runs if run.recipe in known], study.targets).items():
        for one in some:
            if one.seeds(key):
                found.setdefault(data, []).append(_ours(short_label(one), _joules(known[one.name]), one, key))
    return _with_published(found, theirs)


# --- systems of Table I ----------------------------------------------------------------------------------------------


class Field:
    """The scores of the systems of Table I, published and measured."""

    def __init__(self, study: Study, runs: Sequence[RunRecord], scores: Sequence[Score]) -> None:
        """Take what exists of a study."""
        self._study, self._runs = study, runs
        self._contenders = measure_scores(scores, "csdr_db")

    def by_joules(self, known: Mapping[str, SeparationCost]) -> dict[DataKey, list[Point]]:
        """Return points by data; scores that were made with another chunk plan than the costs have none."""

        def published(system: StudySystem, row: SystemRow) -> X | None:
            name = next((name for name in _stand_ins(system) if name in known), None)
            return None if name is None else _joules(known[name])

        def ours(one: Contender) -> X | None:
            row = known.get(one.system)
            return None if row is None or row.inference != one.conditions["inference"] else _joules(row)

        return self._points(published, ours)

    def by_training(self, known: Mapping[str, TrainingCost]) -> dict[DataKey, list[Point]]:
        """Return points by data; public weights have the energy of their recipe in Table II, if they have one."""

        def published(system: StudySystem, row: SystemRow) -> X | None:
            if row.extra_data:
                return None
            return next(
                (x for name in _parents(system) if (x := _published_kwh(name) or _kwh(known.get(as_published(name))))),
                None,
            )

        def ours(one: Contender) -> X | None:
            if one.system in self._study.public:
                recipe = find_entry(one.system).recipe
                return None if recipe is None else _published_kwh(recipe)
            return self._measured_kwh(one.system) or _kwh(known.get(one.system))

        return self._points(published, ours)

    def _points(
        self,
        published: Callable[[StudySystem, SystemRow], X | None],
        ours: Callable[[Contender], X | None],
    ) -> dict[DataKey, list[Point]]:
        theirs = []
        for system in self._study.systems:
            for row in system.published:
                x, value = published(system, row), row.csdr_db[AVERAGE]
                if x is not None and value is not None:
                    point = _point(system.name, x, value, ours=False)
                    theirs.append(point._replace(extra_data=row.extra_data))
        found: dict[DataKey, list[Point]] = {}
        for data, contenders in self._contenders.items():
            for one in contenders:
                measured, x = measured_of(one), ours(one)
                if x is not None and measured.seeds(AVERAGE) and not self._differs(one.system):
                    point = _ours(one.system, x, measured, AVERAGE)
                    extra = one.system in self._study.public and bool(find_entry(one.system).extra_data)
                    found.setdefault(data, []).append(point._replace(seen=one.seen, extra_data=extra))
        return _with_published(found, theirs)

    def _differs(self, name: str) -> bool:
        """Return whether public weights estimate other targets, so that their average cannot be compared."""
        return name in self._study.public and targets_differ(self._study, name)

    def _measured_kwh(self, recipe: str) -> X | None:
        """Return the energy of our runs of a recipe with PUE, the mean over seeds and data sets."""
        runs = [run for run in self._runs if run.recipe == recipe]
        values = [
            kwh for some in measure_runs(runs, self._study.targets).values() for one in some for kwh in one.kwh.values()
        ]
        return X(statistics.fmean(values) * PUE, False) if values else None


def _stand_ins(system: StudySystem) -> list[str]:
    """Return names of costs that stand for a published row, the best first."""
    bags = [name for name in system.public[:1] if isinstance(find_entry(name).source, BagOfFiles)]
    return [*bags, *map(as_published, _parents(system))]


def _parents(system: StudySystem) -> list[str]:
    """Return the recipes of a system as published, which those of the study are made from."""
    return [parent for recipe in system.recipes if (parent := RECIPES[recipe].parent) is not None]


def _joules(row: SeparationCost) -> X:
    assert row.joules_per_min is not None
    return X(row.joules_per_min, row.estimated)


def _kwh(row: TrainingCost | None) -> X | None:
    return None if row is None or row.kwh is None else X(row.kwh[1] * PUE, True)


def _published_kwh(recipe: str) -> X | None:
    row = table2().get(recipe)
    return None if row is None else X(row.energy_kwh, False)


def _point(label: str, x: X, score_db: float, *, ours: bool) -> Point:
    return Point(label, x.value, score_db, ours=ours, estimated=x.estimated)


def _ours(label: str, x: X, one: Measured, key: str) -> Point:
    score = spread(one.seeds(key))
    assert score.mean is not None
    return _point(label, x, score.mean, ours=True)._replace(std_db=score.std)


def _with_published(found: Mapping[DataKey, list[Point]], theirs: Sequence[Point]) -> dict[DataKey, list[Point]]:
    """Put published points into the picture of the published songs, which comes first."""
    keys = [data for data in found if data.published] or ([ANY_BENCHMARK] if theirs else [])
    first = {data: [*theirs, *found.get(data, [])] for data in keys}
    return first | {data: points for data, points in found.items() if not data.published}

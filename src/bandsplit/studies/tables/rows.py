"""Rows of tables, from runs and scores, by data set: values by seed, cost, and the states of missing ones."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

from bandsplit.core.targets import TARGETS
from bandsplit.evaluation.comparison import Contender, contenders
from bandsplit.evaluation.groups import group, make_remarks, with_remark
from bandsplit.evaluation.results import Metric, Score, average_over_targets, over_songs
from bandsplit.published.paper import AVERAGE, table2
from bandsplit.runs.records import RunRecord, Stage
from bandsplit.runs.schema import BEST_FILE

BENCHMARK = "MUSDB18-HQ"
PUE = 1.5
"""PUE of the published energies; ours are multiplied by the same."""
NOT_RUN, RUNNING, UNFINISHED = "not run", "running", "unfinished"
Seeds = Mapping[int | None, float]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class DataKey:
    """Songs that numbers were measured on. Numbers from different songs are never in one table."""

    benchmark: str | None
    identity: str
    """The fingerprint of the audio; the folder's name where there is no fingerprint."""
    text: str = field(compare=False)
    """The benchmark, or the folder's name and the fingerprint."""

    @classmethod
    def of(cls, benchmark: str | None, fingerprint: str | None, name: str) -> DataKey:
        """Identify songs by benchmark, fingerprint and folder."""
        identity = fingerprint or f"{name}, no fingerprint"
        text = f"{name} ({fingerprint})" if fingerprint else identity
        return cls(benchmark, identity, BENCHMARK if benchmark == BENCHMARK else text)

    @property
    def published(self) -> bool:
        """Whether published numbers were measured on the same songs."""
        return self.benchmark == BENCHMARK

    @property
    def caption(self) -> str:
        """The text, with a warning where published numbers were measured on other songs."""
        apart = f", which is not {BENCHMARK}: no number here can be compared with a published one"
        return self.text + ("" if self.published else apart)


ANY_BENCHMARK = DataKey(BENCHMARK, "", BENCHMARK)
"""The published set, for tables without results of ours on it."""


@dataclass(frozen=True)
class Measured:
    """One recipe, or system, under one set of conditions."""

    name: str
    remark: str = ""
    """What distinguishes it from others of the same name."""
    values: Mapping[str, Seeds] = field(default_factory=dict)
    """By target and "average", the value of each seed."""
    states: Mapping[str, str] = field(default_factory=dict)
    """By target, the reason why there is no value yet: ``running`` or ``unfinished``."""
    kwh: Seeds = field(default_factory=dict)
    """Energy of the models of all targets, by seed, without PUE."""
    parameters_m: float | None = None
    """Of the models of all targets, in millions, as counted in their files."""

    @property
    def label(self) -> str:
        """Name and remark."""
        return with_remark(self.name, self.remark)

    def counts(self, columns: Iterable[str]) -> set[int]:
        """Return the numbers of seeds behind columns that have a value; empty for systems without seeds."""
        found = {sum(seed is not None for seed in self.values.get(column, {})) for column in columns}
        return found - {0}

    def seeds(self, column: str) -> list[float]:
        """Return the values of a target or of the average, in the order of the seeds."""
        return list(self.values.get(column, {}).values())

    def state(self, column: str, targets: Sequence[str] = TARGETS) -> str:
        """Return why a target, or the average, has no value."""
        states = [self.states.get(target, "") for target in (targets if column == AVERAGE else [column])]
        return next((state for state in (RUNNING, UNFINISHED) if state in states), NOT_RUN)


def short_label(one: Measured) -> str:
    """Return the row of Table II or the name, with the remark, for pictures."""
    row = table2().get(one.name)
    return with_remark(row.row if row else one.name, one.remark)


class Spread(NamedTuple):
    """Mean and spread over seeds."""

    mean: float | None
    std: float | None
    """Sample standard deviation; None with fewer than two seeds, where it is unknown."""
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Average over seeds."""
    mean = statistics.fmean(values) if values else None
    return Spread(mean, statistics.stdev(values) if len(values) > 1 else None, len(values))


def places_of(values: Mapping[Key, float]) -> dict[Key, str]:
    """Rank values, the largest first; equal ones share a place."""
    ranks = {name: 1 + sum(other > value for other in values.values()) for name, value in values.items()}
    taken = list(ranks.values())
    return {name: f"{rank}=" if taken.count(rank) > 1 else str(rank) for name, rank in ranks.items()}


# --- runs ------------------------------------------------------------------------------------------------------------


def validation_scores(run: RunRecord) -> list[Score]:
    """Return the best validation of a run as score rows, one for each song and target; empty for logs without songs."""
    best = run.best
    prints = data_of_run(run).identity if run.fingerprints else None
    return [
        Score(
            system=run.recipe, data=run.data, fingerprint=prints, benchmark=run.benchmark, split="valid",
            track=song.track, target=target, metric="usdr_db", value=value, convention="validation",
            mixture="sum" if run.mixture == "sum" else "file", inference=run.validated, scored_with=(),
            recipe=run.recipe, seed=run.seed, budget=run.budget, version=run.version or "unknown",
        )
        for song in (best.songs if best else ())
        for target, value in song.usdr_db.items()
    ]  # fmt: skip


def data_of_run(run: RunRecord) -> DataKey:
    """Return the songs that a run was trained and validated on."""
    prints = ", ".join(f"{split} {value}" for split, value in run.fingerprints.items() if split != "test")
    return DataKey.of(run.benchmark, prints or None, run.data)


def data_of_score(row: Score) -> DataKey:
    """Return the songs that a score was measured on."""
    return DataKey.of(row.benchmark, row.fingerprint, row.data)


def is_on(row: Score, data: DataKey) -> bool:
    """Return whether a score was measured on these songs; copies of the published set count as one."""
    return row.benchmark == data.benchmark if data.published else data_of_score(row) == data


def is_result(run: RunRecord) -> bool:
    """Return whether a run is finished and was not changed by hand: only such runs are in tables."""
    return run.finished and not run.changes and run.best is not None


def measure_runs(runs: Iterable[RunRecord], targets: Sequence[str] = TARGETS) -> dict[DataKey, list[Measured]]:
    """Group runs by data and recipe; those changed by hand are left out.

    Runs of one recipe that were validated differently, on other mixtures, or by another version are never averaged:
    each group has its own row.

    Args:
        runs: any runs.
        targets: all that a complete system estimates; average, energy and parameters cover all of these.
    """
    unchanged = (run for run in runs if not run.changes)
    found: dict[DataKey, list[Measured]] = {}
    for (data, recipe), some in group(unchanged, lambda run: (data_of_run(run), run.recipe)).items():
        alike = group(some, _conditions_of)
        remarks = make_remarks(
            [recipe] * len(alike), [one._asdict() for one in alike], lambda field, value: f"{field} {value}"
        )
        found.setdefault(data, []).extend(
            _measure(recipe, remark, members, targets) for remark, members in zip(remarks, alike.values(), strict=True)
        )
    return found


class _Conditions(NamedTuple):
    """Conditions that runs must share to be averaged; tables show the names of the fields."""

    validation: str
    mixture: str
    version: str
    budget: str


def _conditions_of(run: RunRecord) -> _Conditions:
    return _Conditions(run.validated, run.mixture or "not recorded", run.version or "unknown", run.budget or "none")


def _measure(recipe: str, remark: str, runs: Sequence[RunRecord], targets: Sequence[str]) -> Measured:
    done = [run for run in runs if is_result(run)]
    values: dict[str, dict[int | None, float]] = {}
    for run in done:
        for target, value in _best_by_target(run):
            values.setdefault(target, {})[run.seed] = value
    states = {
        target: RUNNING if run.state.stage is Stage.RUNNING else UNFINISHED
        for run in sorted(runs, key=lambda run: run.state.stage is Stage.RUNNING)
        for target in run.targets
        if run not in done
    }
    kwh: dict[int | None, float] = {}
    for seed in {run.seed for run in done}:
        spent = {run.targets: run.kwh for run in done if run.seed == seed}
        known = [energy for energy in spent.values() if energy is not None]
        if len(known) == len(spent) and {target for group in spent for target in group} >= set(targets):
            kwh[seed] = sum(known)
    counted = {run.targets: count_stored_parameters(run.folder / BEST_FILE) for run in done}
    sizes = [count for count in counted.values() if count]
    whole = bool(sizes) and len(sizes) == len(counted) and {t for group in counted for t in group} >= set(targets)
    return Measured(
        recipe, remark, _with_average(values, targets), states, dict(sorted(kwh.items(), key=_by_seed)),
        sum(sizes) / 1e6 if whole else None,
    )  # fmt: skip


def _best_by_target(run: RunRecord) -> Iterator[tuple[str, float]]:
    assert run.best is not None
    if len(run.targets) == 1:
        yield run.targets[0], run.best.validation_usdr_db
        return
    for target in run.targets:
        values = [song.usdr_db[target] for song in run.best.songs if target in song.usdr_db]
        if values:
            yield target, statistics.fmean(values)


def count_stored_parameters(file: Path) -> int | None:
    """Count the numbers in a file of weights from its header alone; None if it cannot be read.

    Source: safetensors format. Eight bytes hold the length of a JSON header of shapes.
    """
    try:
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        return sum(math.prod(one["shape"]) for name, one in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError):
        return None


# --- scores ----------------------------------------------------------------------------------------------------------


def measure_scores(rows: Iterable[Score], metric: Metric, split: str = "test") -> dict[DataKey, list[Contender]]:
    """Group the scores of a metric by data: systems with their seeds, each under one set of conditions."""
    by_data = group((row for row in rows if row.split == split), data_of_score)
    return {data: found for data, some in by_data.items() if (found := contenders(some, metric))}


def measured_of(one: Contender) -> Measured:
    """Aggregate a system over its songs, seed by seed."""
    metric = cast(Metric, one.conditions["metric"])
    values: dict[str, dict[int | None, float]] = {}
    for seed, by_target in one.values.items():
        for target, songs in by_target.items():
            present = [value for value in songs.values() if value is not None]
            if present:
                values.setdefault(target, {})[seed] = over_songs(metric, present)
    return Measured(one.system, one.remark, _with_average(values, TARGETS))


def _with_average(values: Mapping[str, Mapping[int | None, float]], targets: Sequence[str]) -> dict[str, Seeds]:
    """Add the average of the targets for each seed that has them all."""
    found: dict[str, Seeds] = {target: dict(sorted(seeds.items(), key=_by_seed)) for target, seeds in values.items()}
    averages: dict[int | None, float] = {}
    for seed in found.get(targets[0], {}):
        average = average_over_targets([found.get(target, {}).get(seed) for target in targets])
        if average is not None:
            averages[seed] = average
    return found | ({AVERAGE: averages} if averages else {})


def _by_seed(item: tuple[int | None, float]) -> tuple[bool, int]:
    return item[0] is not None, item[0] or 0

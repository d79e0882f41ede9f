"""Comparison of two systems and its confidence: a paired bootstrap over songs, with seeds as a second level.

Source: paper, section V-A; bootstrap book, chapter 13. The first for the spread between seeds, the second for
percentile intervals.
"""

from __future__ import annotations

import functools
import itertools
import math
import zlib
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import cast

import numpy as np
from numpy.typing import NDArray

from bandsplit.core.errors import BandsplitError
from bandsplit.core.targets import TARGETS
from bandsplit.core.text import counted
from bandsplit.evaluation.groups import differing, find_cliques, group, make_remarks, with_remark
from bandsplit.evaluation.results import METRICS, SEEN_MARK, SEEN_NOTE, Metric, Score
from bandsplit.published.paper import AVERAGE, repository

RESAMPLES = 10_000
LEVEL = 0.95
FEWEST_SONGS = 6
"""With fewer, no difference is significant: all of five songs favour one of two equal systems once in sixteen times."""

CONDITIONS = (
    "data", "fingerprint", "split", "metric", "convention", "mixture", "inference", "scored_with", "version",
)  # fmt: skip
"""Fields of a score that two systems must share before they are compared."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Contender:
    """A system under one set of conditions: all its scores of one metric."""

    system: str
    """Recipe, or the system where it has none."""
    conditions: Mapping[str, Hashable]
    """By field, see `CONDITIONS`. The data set's name counts only where there is no fingerprint."""
    values: Mapping[int | None, Mapping[str, Mapping[str, float | None]]]
    """Seed -> target -> song -> value. A system without seeds, such as a yardstick, has the seed None."""
    remark: str = ""
    """Conditions that distinguish it from another contender of the same system."""
    seen: bool = False
    """Whether it was trained on the songs: it is compared with no other."""

    @property
    def name(self) -> str:
        """The system, with the remark if there is one, and marked if it was trained on the songs."""
        return with_remark(self.system, self.remark) + f" {SEEN_MARK}" * self.seen

    def seeds(self, targets: Sequence[str]) -> list[int | None]:
        """Return the seeds that have all the targets, in order."""
        found = [seed for seed, by_target in self.values.items() if all(target in by_target for target in targets)]
        return sorted(found, key=lambda seed: (seed is not None, seed))

    @property
    def targets(self) -> tuple[str, ...]:
        """Targets of any seed, those of the paper in its order."""
        found = {target for by_target in self.values.values() for target in by_target}
        return tuple(sorted(found, key=lambda name: (TARGETS.index(name) if name in TARGETS else len(TARGETS), name)))


class Doubt(Enum):
    """A reason why a difference is not significant."""

    FEW_SONGS = auto()
    """Fewer than `FEWEST_SONGS`."""
    INTERVAL = auto()
    """The confidence interval contains 0."""
    ONE_SEED = auto()
    """One system has one seed, and published runs of one model differ by more."""


@dataclass(frozen=True)
class Comparison:
    """Two systems on one target, or on the average of the targets."""

    a: str
    b: str
    metric: Metric
    target: str
    """Or "average"."""
    a_value: float
    """Score of the set, mean over seeds, on the songs that both have."""
    b_value: float
    low: float
    """Lower end of the 95 % interval of the difference a - b; minus infinity with a single song."""
    high: float
    share_better: float
    """Share of songs in which a is better; ties count half."""
    songs: int
    """Songs compared."""
    left_out: tuple[str, ...]
    """Songs that one of them lacks, or that have no finite value in one of them."""
    seeds: tuple[int, int]
    """Seeds of a and of b; 0 where a system has none to vary. With 1 the variance between seeds is unknown."""
    across: tuple[str, ...] = ()
    """Conditions in which they differ, as the caller allowed."""

    @property
    def difference(self) -> float:
        """Score of a minus score of b."""
        return self.a_value - self.b_value

    @property
    def one_seed(self) -> bool:
        """Whether the variance between seeds is unknown for one of them."""
        return 1 in self.seeds

    @property
    def doubt(self) -> Doubt | None:
        """Why the difference is not significant; None where it is."""
        if self.songs < FEWEST_SONGS:
            return Doubt.FEW_SONGS
        if self.low <= 0 <= self.high:
            return Doubt.INTERVAL
        if self.one_seed and METRICS[self.metric].spread_known and abs(self.difference) < seed_spread_db() - 1e-9:
            return Doubt.ONE_SEED
        return None

    @property
    def reason(self) -> str:
        """The doubt in words; empty without one."""
        match self.doubt:
            case Doubt.FEW_SONGS:
                return f"fewer than {FEWEST_SONGS} songs"
            case Doubt.INTERVAL:
                return "the interval contains 0"
            case Doubt.ONE_SEED:
                return f"one seed, and runs of one model differ by up to {seed_spread_db():.1f} dB (paper, section V-A)"
            case None:
                return ""

    @property
    def verdict(self) -> str:
        """``<name> better`` or ``not significantly different``."""
        if self.doubt:
            return "not significantly different"
        return f"{self.a if (self.difference > 0) == METRICS[self.metric].higher_is_better else self.b} better"

    def __str__(self) -> str:
        """One line: the figures, the verdict and what limits it."""
        seeds = "" if self.seeds == (0, 0) else f", seeds {self.seeds[0]} and {self.seeds[1]}"
        limits = [self.reason] if self.doubt else []
        if self.one_seed and self.doubt is not Doubt.ONE_SEED:
            limits.append("variance between seeds unknown")
        if self.left_out:
            limits.append(f"{counted(len(self.left_out), 'song')} left out")
        if self.across:
            limits.append(f"they differ in {', '.join(self.across)}")
        return (
            f"{self.a} - {self.b}, {self.target}: {self.difference:+.2f} [{self.low:+.2f}, {self.high:+.2f}], "
            f"better in {self.share_better:.0%} of {counted(self.songs, 'song')}{seeds}: {self.verdict}"
            + (f" ({'; '.join(limits)})" if limits else "")
        )


@functools.cache
def seed_spread_db() -> float:
    """Return by how much the best and the worst of three published runs of one model differ, in dB.

    Source: paper, section V-A; paper, Fig. 2. The base model on vocals: 7.7, 8.1 and 7.4 dB.
    """
    runs = [row for row in repository() if row.recipe == "base" and row.seed is not None]
    values = [value for row in runs for value in row.values_db.values() if value is not None]
    return max(values) - min(values)


def contenders(rows: Iterable[Score], metric: Metric) -> list[Contender]:
    """Group the rows of a metric by system and conditions, in the order of first appearance.

    Seeds of one recipe and budget under the same conditions make one contender. The later of two rows for the same
    seed, target and song counts.
    """
    alike = group(
        (row for row in rows if row.metric == metric),
        lambda row: (row.recipe or row.system, row.recipe is None, row.budget, *_conditions(row).values()),
    )
    found, budgets = [], []
    for group_rows in alike.values():
        values: dict[int | None, dict[str, dict[str, float | None]]] = {}
        for row in group_rows:
            values.setdefault(row.seed, {}).setdefault(row.target, {})[row.track] = row.value
        first, seen = group_rows[0], any(row.saw_test_songs for row in group_rows)
        found.append(Contender(first.recipe or first.system, _conditions(first), values, seen=seen))
        budgets.append({"budget": first.budget or "none"})
    remarks = make_remarks(
        [one.system for one in found],
        [{**one.conditions, **budget} for one, budget in zip(found, budgets, strict=True)],
        lambda field, value: f"{field}: {_text(value)}",
    )
    return [replace(one, remark=remark) for one, remark in zip(found, remarks, strict=True)]


def _conditions(row: Score) -> dict[str, Hashable]:
    conditions: dict[str, Hashable] = {field: getattr(row, field) for field in CONDITIONS}
    # Where the fingerprint is known, it says which songs they are, whatever their folder is called.
    return conditions if row.fingerprint is None else conditions | {"data": ""}


def compare(
    rows: Iterable[Score], metric: Metric, *, across: Collection[str] = (), resamples: int = RESAMPLES, seed: int = 0
) -> list[Comparison]:
    """Compare every pair of systems that share their conditions, target by target and on the average of the targets.

    Pairs that do not share them, or were trained on the songs, are left out; `compare_pair` says why.

    Args:
        rows: scores of any number of systems and seeds.
        metric: the metric to compare.
        across: conditions that may differ, such as ``inference`` where it is the subject.
        resamples: resamples of the bootstrap.
        seed: of the resampling.
    """
    bootstrap = _Bootstrap(resamples, seed)
    found: list[Comparison] = []
    for a, b in itertools.combinations(contenders(rows, metric), 2):
        if a.seen or b.seen or _differing(a, b, across):
            continue
        common = [target for target in a.targets if target in b.targets]
        choices = [[target] for target in common]
        # No average over some of a system's targets: it would be read as the system's own average.
        if len(common) > 1 and set(a.targets) == set(b.targets):
            choices.append(common)
        for targets in choices:
            comparison = _compare(a, b, targets, bootstrap, across)
            if comparison is not None:
                found.append(comparison)
    return found


def compare_pair(
    a: Contender,
    b: Contender,
    targets: Sequence[str] = (),
    *,
    across: Collection[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two systems.

    Args:
        a: one of them.
        b: the other.
        targets: one target, or several for their average; all that they have if empty.
        across: conditions that may differ.
        resamples: resamples of the bootstrap.
        seed: of the resampling.

    Raises:
        BandsplitError: one was trained on the songs, conditions differ, or no song has these targets in both.
    """
    if a.seen or b.seen:
        raise BandsplitError(f"{a.name} and {b.name} cannot be compared ({SEEN_NOTE}); leave it out")
    differing = _differing(a, b, across)
    if differing:
        texts = [f"{field}: {_text(a.conditions[field])} and {_text(b.conditions[field])}" for field in differing]
        raise BandsplitError(
            f"{a.name} and {b.name} cannot be compared, they differ in {'; '.join(texts)}; evaluate both alike"
        )
    chosen = list(targets) or [target for target in a.targets if target in b.targets]
    comparison = _compare(a, b, chosen, _Bootstrap(resamples, seed), across)
    if comparison is None:
        raise BandsplitError(
            f"{a.name} and {b.name} cannot be compared on {', '.join(chosen) or 'any target'}: they have no song with "
            f"a value in common; evaluate both on the same songs"
        )
    return comparison


def indistinguishable_groups(found: Iterable[Comparison], names: Sequence[str], target: str) -> list[list[str]]:
    """Group the systems that are not significantly different on a target.

    A system may be in several groups: a and b, b and c may be alike while a and c are not.

    Returns:
        The largest groups in which all pairs were compared and none is significant, each in the order of ``names``.
    """
    alike = ((one.a, one.b) for one in found if one.target == target and one.doubt)
    return find_cliques(alike, names)


# --- the bootstrap ---------------------------------------------------------------------------------------------------


class _Bootstrap:
    """The resamples; those of a contender are kept, since it meets many others on the same songs."""

    def __init__(self, resamples: int, seed: int) -> None:
        self.resamples, self.seed = resamples, seed
        self._songs: dict[int, NDArray[np.int64]] = {}
        self._kept: dict[tuple[Hashable, ...], Array] = {}

    def songs(self, count: int) -> NDArray[np.int64]:
        """Return the songs of each resample, ``resample song``: the same for all systems, hence a paired bootstrap."""
        if count not in self._songs:
            # A generator for each number of songs: a pair's interval does not depend on the pairs compared before it.
            random = np.random.Generator(np.random.PCG64([self.seed, count]))
            self._songs[count] = random.integers(count, size=(self.resamples, count))
        return self._songs[count]

    def scores(self, one: Contender, targets: Sequence[str], songs: Sequence[str]) -> Array:
        """Return the score of each resample."""
        # By identity, since a contender holds tables, which have no hash; `compare` keeps all contenders alive.
        key = (id(one), *targets, *songs)
        if key not in self._kept:
            metric = cast(Metric, one.conditions["metric"])
            seeds = one.seeds(targets)
            values = _values(one, targets, songs)
            # All targets and seeds get the same draw of songs, because a hard song is hard for all of them.
            drawn = np.stack([
                np.mean([_over_songs(metric, row[self.songs(len(songs))]) for row in by_target], axis=0)
                for by_target in values
            ])  # fmt: skip
            self._kept[key] = self._over_seeds(one.system, seeds, drawn)
        return self._kept[key]

    def _over_seeds(self, system: str, seeds: Sequence[int | None], scores: Array) -> Array:
        """Average ``seed resample`` over seeds that are drawn again for each resample.

        Deviations from the mean are widened by sqrt(S / (S - 1)), since S values drawn from S spread less than S new
        ones would; without this, intervals from two seeds would be 30 % too narrow.
        """
        count = len(seeds)
        if count == 1:
            return scores[0]
        # One generator per recipe: two systems draw independently, one recipe under two inferences draws the same runs.
        random = np.random.Generator(np.random.PCG64([self.seed, zlib.crc32(repr((system, seeds)).encode())]))
        chosen = random.integers(count, size=(count, self.resamples))
        mean = scores.mean(axis=0)
        return mean + math.sqrt(count / (count - 1)) * (np.take_along_axis(scores, chosen, axis=0).mean(axis=0) - mean)


def _compare(
    a: Contender, b: Contender, targets: Sequence[str], bootstrap: _Bootstrap, across: Collection[str]
) -> Comparison | None:
    """Compare on the songs that have a finite value for all targets and seeds of both; None without such songs."""
    if not targets or not a.seeds(targets) or not b.seeds(targets):
        return None
    tables = [one.values[seed][target] for one in (a, b) for seed in one.seeds(targets) for target in targets]
    every = sorted(set().union(*tables))
    songs = [song for song in every if all(_is_finite(table.get(song)) for table in tables)]
    if not songs:
        return None
    of_a, of_b = (_values(one, targets, songs) for one in (a, b))
    metric = cast(Metric, a.conditions["metric"])
    a_value, b_value = (float(_over_songs(metric, table).mean()) for table in (of_a, of_b))
    low, high = -math.inf, math.inf  # one song says nothing about the spread
    if len(songs) > 1:
        differences = bootstrap.scores(a, targets, songs) - bootstrap.scores(b, targets, songs)
        low, high = (float(end) for end in np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    by_song = (of_a.mean(axis=(0, 1)) - of_b.mean(axis=(0, 1))) * (1 if METRICS[metric].higher_is_better else -1)
    return Comparison(
        a.name, b.name, metric, targets[0] if len(targets) == 1 else AVERAGE, a_value, b_value, low, high,
        share_better=float(np.mean((by_song > 0) + 0.5 * (by_song == 0))),
        songs=len(songs),
        left_out=tuple(song for song in every if song not in songs),
        seeds=(_count(a, targets), _count(b, targets)),
        across=tuple(field for field in across if a.conditions[field] != b.conditions[field]),
    )  # fmt: skip


def _values(one: Contender, targets: Sequence[str], songs: Sequence[str]) -> Array:
    """Return the values, ``seed target song``."""
    return np.array(
        [[[one.values[seed][target][song] for song in songs] for target in targets] for seed in one.seeds(targets)],
        dtype=np.float64,
    )


def _over_songs(metric: Metric, values: Array) -> Array:
    """Aggregate the last axis as `results.aggregate` does: the median for cSDR, else the mean."""
    return np.median(values, axis=-1) if METRICS[metric].median_over_songs else np.mean(values, axis=-1)


def _count(one: Contender, targets: Sequence[str]) -> int:
    return sum(seed is not None for seed in one.seeds(targets))


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _differing(a: Contender, b: Contender, across: Collection[str]) -> list[str]:
    return [field for field in differing((a.conditions, b.conditions)) if field not in across]


def _text(value: Hashable) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value) or "-"

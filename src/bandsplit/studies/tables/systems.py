"""Table I of a study of systems: each as published, from public weights, and trained here by one protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bandsplit.core.table import TextTable
from bandsplit.evaluation.comparison import Contender, compare, contenders
from bandsplit.evaluation.groups import group, make_remarks, with_remark
from bandsplit.evaluation.results import METRICS, SEEN_MARK, SEEN_NOTE, Metric, Score
from bandsplit.models.pretrained.registry import find_entry
from bandsplit.published.paper import AVERAGE, SystemRow
from bandsplit.recipes.catalogue import find_recipe
from bandsplit.recipes.protocol import EXCERPT_S
from bandsplit.recipes.table1 import StudySystem
from bandsplit.runs.records import RunRecord
from bandsplit.separation.chunks import describe_chunks
from bandsplit.studies.plans import Study
from bandsplit.studies.tables.cells import (
    NO_VALUE,
    CellRecord,
    columns_of,
    mean_text,
    printed_text,
    record_of,
    significance_notes,
)
from bandsplit.studies.tables.rows import (
    ANY_BENCHMARK,
    NOT_RUN,
    DataKey,
    data_of_score,
    is_on,
    is_result,
    measured_of,
    places_of,
    spread,
)

NOT_SCORED = "not scored"
_EXTRA = {True: "yes", False: "no", None: "not known"}
_OTHER_TARGETS = (
    "Weights of other targets are not compared with those above: other windows count, and other stems are left for "
    "the target other."
)


@dataclass(frozen=True)
class Line:
    """A form of a system in the table, or one of several ways in which it was scored."""

    form: str
    name: str
    plan: str
    extra: str
    values: Mapping[tuple[str, Metric], Sequence[float]] = field(default_factory=dict)
    """By column and metric, the value of each seed."""
    states: Mapping[str, str] = field(default_factory=dict)
    """By column, why there is no value."""
    published: SystemRow | None = None
    conditions: tuple[Any, ...] | None = None
    """What it must share with another line to have a place; None: it has none."""
    seen: bool = False
    """Whether it was trained on the songs."""

    @property
    def label(self) -> str:
        """Its name, marked if it was trained on the songs."""
        return f"{self.name} {SEEN_MARK}" if self.seen else self.name

    def cell(self, column: str, metric: Metric) -> str:
        """Write the value of a column, or why it has none."""
        if self.published is not None:
            value = self.published.csdr_db[column] if metric == "csdr_db" else None
            return printed_text(value) + "†" * (column == self.published.corrected)
        values = self.values.get((column, metric), ())
        return mean_text(spread(values), several=False) if values else self.states.get(column, NO_VALUE)


def targets_differ(study: Study, name: str) -> bool:
    """Return whether public weights estimate other targets than a study."""
    return set(find_entry(name).targets) != set(study.targets)


def systems_tables(study: Study, runs: Sequence[RunRecord], scores: Sequence[Score]) -> dict[str, list[TextTable]]:
    """Make Table I of a study: a table for each data set; and one each for public weights of other targets.

    Args:
        study: a study of systems.
        runs: its runs, in any state.
        scores: its scores on test songs.

    Returns:
        Tables by name, those of MUSDB18-HQ first.
    """
    makers = _makers(study, runs, scores).values()
    return {
        "table1": [one.main_table() for one in makers],
        "table1-other-targets": [table for one in makers if (table := one.other_table()).rows],
    }


def systems_lines(
    study: Study, runs: Sequence[RunRecord], scores: Sequence[Score]
) -> dict[DataKey, list[tuple[StudySystem, list[Line]]]]:
    """Return the lines of Table I of a study by system, for each data set; see `systems_tables`."""
    return {data: maker.main_lines() for data, maker in _makers(study, runs, scores).items()}


def _makers(study: Study, runs: Sequence[RunRecord], scores: Sequence[Score]) -> dict[DataKey, _Maker]:
    scores = [row for row in scores if row.split == "test"]
    others = [data for data in dict.fromkeys(map(data_of_score, scores)) if not data.published]
    return {
        data: _Maker(study, data, runs, [row for row in scores if is_on(row, data)])
        for data in (ANY_BENCHMARK, *others)
    }


class _Maker:
    """Maker of the tables of one data set."""

    def __init__(self, study: Study, data: DataKey, runs: Sequence[RunRecord], scores: Sequence[Score]) -> None:
        """Find the systems among the scores."""
        self.study, self.data, self.scores = study, data, scores
        self.runs = runs
        self.columns = columns_of(study.targets)
        self.found = {metric: contenders(scores, metric) for metric in ("csdr_db", "usdr_db")}
        self.plan = "" if study.plan is None else describe_chunks(study.plan)

    def main_lines(self) -> list[tuple[StudySystem, list[Line]]]:
        """Return the lines of the systems that estimate the targets of the study."""
        return [
            (system, [*self._published(system), *self._public(system, differ=False), *self._trained(system)])
            for system in self.study.systems
        ]

    def main_table(self) -> TextTable:
        """Tabulate the systems that estimate the targets of the study."""
        groups = self.main_lines()
        plain = [row for row in self.scores if row.inference == self.plan and row.system not in self._apart()]
        notes = [f"{system.name}: {system.note}." for system, lines in groups if lines]
        notes += _notes_of([line for _, lines in groups for line in lines])
        notes += significance_notes(compare(plain, "csdr_db"), self.columns[-1])
        return self._table("Table I under one protocol", groups, notes, places=True)

    def other_table(self) -> TextTable:
        """Tabulate public weights of other targets."""
        groups = [(system, list(self._public(system, differ=True))) for system in self.study.systems]
        notes = [_OTHER_TARGETS, *_notes_of([line for _, lines in groups for line in lines])]
        return self._table("Table I, public weights of other targets", groups, notes, places=False)

    def _apart(self) -> set[str]:
        """Return the systems that are not compared: yardsticks, and public weights of other targets."""
        alike = {name for name in self.study.public if not targets_differ(self.study, name)}
        return {row.system for row in self.scores if row.recipe is None and row.system not in alike}

    def _published(self, system: StudySystem) -> Iterator[Line]:
        for row in system.published if self.data.published else ():
            yield Line("published", NO_VALUE, NO_VALUE, _EXTRA[row.extra_data], published=row)

    def _public(self, system: StudySystem, differ: bool) -> Iterator[Line]:
        for name in system.public:
            entry = find_entry(name)
            if targets_differ(self.study, name) != differ:
                continue
            shown = f"{name}: {', '.join(entry.targets) or 'targets not known'}" if differ else name
            estimated = [column for column in self.columns if column in entry.targets or not (differ and entry.targets)]
            empty = Line("public", shown, NO_VALUE, _EXTRA[entry.extra_data], states=dict.fromkeys(estimated, NOT_RUN))
            lines = list(self._measured(name, empty))
            if not lines and self.data.published:
                lines = [replace(empty, seen=bool(entry.saw_test_songs))]
            yield from lines

    def _trained(self, system: StudySystem) -> Iterator[Line]:
        for recipe in system.recipes:
            done = {target for run in self.runs if run.recipe == recipe and is_result(run) for target in run.targets}
            done |= {AVERAGE} if done >= set(self.study.targets) else set()
            states = {column: NOT_SCORED if column in done else NOT_RUN for column in self.columns}
            excerpt_s = find_recipe(recipe).all_run_configs()[0].training.excerpt_s
            label = recipe if excerpt_s == EXCERPT_S else f"{recipe}, excerpts of {excerpt_s:.3g} s"
            empty = Line("trained", label, NO_VALUE, _EXTRA[False], states=states)
            lines = list(self._measured(recipe, empty))
            yield from lines or ([empty] if self.data.published else [])

    def _measured(self, name: str, empty: Line) -> Iterator[Line]:
        """Yield a line for each way in which a system was scored."""
        mine = [one for one in self.found["csdr_db"] if one.system == name]
        mine.sort(key=lambda one: one.conditions["inference"] == self.plan)
        other = {_shared(one): one for one in self.found["usdr_db"] if one.system == name}
        plans = ["protocol" if one.conditions["inference"] == self.plan else "authors'" for one in mine]
        conditions = [dict(_shared(one)) | {"inference": ""} for one in mine]
        remarks = make_remarks(plans, conditions, lambda what, value: f"{what} {value}")
        for one, plan, remark in zip(mine, plans, remarks, strict=True):
            both: dict[Metric, Contender | None] = {"csdr_db": one, "usdr_db": other.get(_shared(one))}
            values = {
                (column, metric): measured.seeds(column)
                for metric, contender in both.items()
                if contender is not None
                for measured in (measured_of(contender),)
                for column in self.columns
            }
            shared = _shared(one) if plan == "protocol" and not one.seen else None
            label = with_remark(empty.name, remark)
            yield replace(empty, name=label, plan=plan, values=values, conditions=shared, seen=one.seen)

    def _table(
        self, title: str, groups: Sequence[tuple[StudySystem, Sequence[Line]]], notes: Sequence[str], *, places: bool
    ) -> TextTable:
        key = self.columns[-1]
        ranks = _places([line for _, lines in groups for line in lines], key) if places else {}
        rows: list[tuple[str, ...]] = []
        records: list[CellRecord] = []
        for system, lines in groups:
            for number, line in enumerate(lines):
                cells = [line.cell(column, "csdr_db") for column in self.columns]
                place = (ranks.get(id(line), NO_VALUE),) if places else ()
                first = "" if number else system.name
                usdr = line.cell(key, "usdr_db")
                rows.append((first, line.form, line.label, line.plan, line.extra, *cells, usdr, *place))
                records += [
                    {"data": self.data.text, "system": system.name, "form": line.form, "model": line.label,
                     "plan": line.plan, "extra_data": line.extra, **fact} for fact in _facts(line, self.columns)
                ]  # fmt: skip
        header = ("system", "form", "weights or recipe", "plan", "extra data", *self.columns, f"{key} uSDR")
        return TextTable(
            f"{title}. cSDR, dB, median over songs of the median over 1 s windows, and our uSDR, mean over songs, on "
            f"{self.data.caption} (mean ± sample standard deviation over seeds)",
            (*header, *(("place",) if places else ())), tuple(rows), tuple(notes), text_columns=5,
            records=tuple(records),
        )  # fmt: skip


def _shared(one: Contender) -> tuple[tuple[str, Any], ...]:
    """Return the conditions of a system but for those of the metric."""
    return tuple((name, value) for name, value in one.conditions.items() if name not in ("metric", "convention"))


def _facts(line: Line, columns: Sequence[str]) -> Iterator[CellRecord]:
    for metric in ("csdr_db", "usdr_db"):
        for column in columns:
            theirs = line.published.csdr_db[column] if line.published and metric == "csdr_db" else None
            values = line.values.get((column, metric), ())
            state = "published" if line.published else line.states.get(column, "not estimated")
            yield record_of(column, METRICS[metric].name, "dB", theirs, values, state)


def _notes_of(lines: Sequence[Line]) -> list[str]:
    """Explain the marks of lines."""
    notes = [
        f"{'† ' if row.corrected else ''}{row.system}, extra data {_EXTRA[row.extra_data]}: {row.note}."
        for line in lines
        if (row := line.published) is not None and row.note
    ]
    return notes + [SEEN_NOTE] * any(line.seen for line in lines)


def _places(lines: Sequence[Line], column: str) -> dict[int, str]:
    """Rank the lines that share their conditions by a column, by the identity of a line."""
    ranked = [line for line in lines if line.conditions is not None and line.values.get((column, "csdr_db"))]
    alike = max(group(ranked, lambda line: line.conditions).values(), key=len, default=[])
    if len(alike) < 2:
        return {}
    return places_of({id(line): spread(line.values[column, "csdr_db"]).mean or 0.0 for line in alike})

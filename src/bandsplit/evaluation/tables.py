"""Score rows as tables: systems down, targets across."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from bandsplit.core.table import TextTable
from bandsplit.core.targets import order_targets
from bandsplit.core.text import counted, range_text
from bandsplit.evaluation.groups import make_remarks, with_remark
from bandsplit.evaluation.results import (
    METRICS,
    SEEN_MARK,
    SEEN_NOTE,
    Metric,
    Score,
    Setting,
    Summary,
    aggregate,
    average_over_targets,
)
from bandsplit.published.paper import PaperMetric

MAIN_METRICS: tuple[PaperMetric, ...] = ("usdr_db", "csdr_db")
"""Metrics of the paper; the commands show these."""

NOT_ESTIMATED, NOTHING_COUNTS = "-", "n/a"


def score_tables(rows: Iterable[Score]) -> list[TextTable]:
    """Aggregate rows and lay them out: one table for each data set, split and metric.

    A system that was scored under several settings has one line for each, which names the settings. Where systems cut
    songs by different plans, each names its plan. ``-``: the system does not estimate the target; ``n/a``: no song has
    a window that counts; ``‡``: the system was trained on these songs.
    """
    rows = list(rows)
    planned = {row.setting for row in rows if row.plan is not None}
    seen = {row.setting for row in rows if row.saw_test_songs}
    groups: dict[tuple[str, str | None, str, Metric], dict[Setting, dict[str, Summary]]] = {}
    for setting, targets in aggregate(rows).items():
        groups.setdefault((setting.data, setting.fingerprint, setting.split, setting.metric), {})[setting] = targets
    return [
        _table(data, split, metric, systems, planned & systems.keys(), seen & systems.keys())
        for (data, _, split, metric), systems in groups.items()
    ]


def _table(
    data: str,
    split: str,
    metric: Metric,
    systems: Mapping[Setting, dict[str, Summary]],
    planned: Collection[Setting],
    seen: Collection[Setting],
) -> TextTable:
    targets = order_targets(target for summaries in systems.values() for target in summaries)
    counts = {summary.songs for summaries in systems.values() for summary in summaries.values() if summary.songs}
    one_count = len(counts) <= 1
    songs = counted(max(counts, default=0), "song") if one_count else "songs"
    header = ["system", *targets]
    header += ["average"] if len(targets) > 1 else []
    header += [] if one_count else ["songs"]
    lines = []
    for label, summaries in zip(label_settings(list(systems), planned, seen), systems.values(), strict=True):
        line = [label, *(_cell(summaries.get(target)) for target in targets)]
        if len(targets) > 1:
            average = average_over_targets([summaries[t].value if t in summaries else None for t in targets])
            line.append(NOT_ESTIMATED if average is None else f"{average:.2f}")
        if not one_count:
            line.append(range_text([summary.songs for summary in summaries.values()]))
        lines.append(tuple(line))
    over_songs = METRICS[metric].over_songs.format(songs=songs)
    notes = (SEEN_NOTE,) if seen else ()
    return TextTable(f"{METRICS[metric]}, {over_songs} ({data}, {split})", tuple(header), tuple(lines), notes)


def label_settings(
    settings: list[Setting], planned: Collection[Setting] = (), seen: Collection[Setting] = ()
) -> list[str]:
    """Return the names of systems; a name that has several settings is followed by those that differ.

    Args:
        settings: of each system.
        planned: those whose ``inference`` is a chunk plan; where these differ, each is named.
        seen: those of systems that were trained on the songs, which are marked.
    """
    bare = [setting._replace(source=None) for setting in settings]
    hashed = {setting.system for setting, count in Counter(bare).items() if count > 1}  # a hash means nothing to people
    systems = [setting.system for setting in settings]
    named = planned if len({one.inference for one in planned}) > 1 else ()
    shown = [one if one.system in hashed else plain for one, plain in zip(settings, bare, strict=True)]
    shown = [one._replace(inference="") if full in named else one for one, full in zip(shown, settings, strict=True)]
    remarks = make_remarks(systems, [one._asdict() for one in shown], lambda field, value: f"{field}: {_text(value)}")
    plans = [f"inference: {one.inference}" if one in named else "" for one in settings]
    remarks = ["; ".join(filter(None, both)) for both in zip(plans, remarks, strict=True)]
    names = map(with_remark, systems, remarks)
    return [f"{name} {SEEN_MARK}" if one in seen else name for name, one in zip(names, settings, strict=True)]


def _text(value: str | int | tuple[str, ...] | None) -> str:
    return " ".join(value) if isinstance(value, tuple) else "none" if value is None else str(value)


def _cell(summary: Summary | None) -> str:
    if summary is None:
        return NOT_ESTIMATED
    return NOTHING_COUNTS if summary.value is None else f"{summary.value:.2f}"

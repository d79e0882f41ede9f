"""Score rows as tables: systems down, targets across."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from bandsplit.core.table import TextTable
from bandsplit.core.targets import order_targets
from bandsplit.core.text import counted, range_text
from bandsplit.evaluation.groups import group, make_remarks, with_remark
from bandsplit.evaluation.results import (
    METRICS,
    SDR_CONVENTIONS,
    SEEN_MARK,
    SEEN_NOTE,
    Metric,
    Score,
    Setting,
    Summary,
    aggregate,
    average_over_targets,
    summarise_conventions,
    without_metric,
)
from bandsplit.published.paper import PaperMetric, convention_users

MAIN_METRICS: tuple[PaperMetric, ...] = ("usdr_db", "csdr_db")
"""Metrics of the paper; the commands show these."""

NOT_ESTIMATED, NOTHING_COUNTS = "-", "n/a"
CONVENTION_NOTES = (
    "uSDR: mean over songs, 1e-7, or 1e-8, added to both energies of a song. cSDR: median, or mean, over songs of the "
    "median over windows of 1 s; pooled: the median over the windows of all songs.",
    "cSDR leaves out windows in which a scored stem or estimate is silent; cSDR-rest those in which the target or the "
    "rest of the mixture is, as stem or as estimate; cSDR-own those in which the target is.",
)


def score_tables(rows: Iterable[Score], by_plan: bool = False) -> list[TextTable]:
    """Aggregate rows and lay them out: one table for each data set, split and metric.

    A system that was scored under several settings has one line for each, which names the settings. Where systems cut
    songs by different plans, each names its plan. ``-``: the system does not estimate the target; ``n/a``: no song has
    a window that counts; ``‡``: the system was trained on these songs.

    Args:
        rows: scores of any systems.
        by_plan: whether plans have a column of their own, next to which the lines of a system follow each other.
    """
    rows = list(rows)
    planned = {row.setting for row in rows if row.plan is not None}
    seen = {row.setting for row in rows if row.saw_test_songs}
    groups: dict[tuple[str, str | None, str, Metric], dict[Setting, dict[str, Summary]]] = {}
    for setting, targets in aggregate(rows).items():
        groups.setdefault((setting.data, setting.fingerprint, setting.split, setting.metric), {})[setting] = targets
    return [
        _table(data, split, metric, systems, planned & systems.keys(), seen & systems.keys(), by_plan)
        for (data, _, split, metric), systems in groups.items()
    ]


def _table(
    data: str,
    split: str,
    metric: Metric,
    systems: Mapping[Setting, dict[str, Summary]],
    planned: Collection[Setting],
    seen: Collection[Setting],
    by_plan: bool,
) -> TextTable:
    targets = order_targets(target for summaries in systems.values() for target in summaries)
    counts = {summary.songs for summaries in systems.values() for summary in summaries.values() if summary.songs}
    one_count = len(counts) <= 1
    songs = counted(max(counts, default=0), "song") if one_count else "songs"
    header = [*(("system", "inference") if by_plan else ("system",)), *targets]
    header += ["average"] if len(targets) > 1 else []
    header += [] if one_count else ["songs"]
    if by_plan:
        labels = _label_plans(list(systems), seen)
    else:
        labels = [(label,) for label in label_settings(list(systems), planned, seen)]
    lines = []
    for words, summaries in zip(labels, systems.values(), strict=True):
        line = [*words, *_cells(summaries, targets)]
        if not one_count:
            line.append(range_text([summary.songs for summary in summaries.values()]))
        lines.append(tuple(line))
    if by_plan:
        lines = [line for some in group(lines, lambda line: line[0]).values() for line in _name_once(some)]
    over_songs = METRICS[metric].over_songs.format(songs=songs)
    caption = f"{METRICS[metric]}, {over_songs} ({data}, {split})"
    notes = (SEEN_NOTE,) if seen else ()
    return TextTable(caption, tuple(header), tuple(lines), notes, text_columns=2 if by_plan else 1)


def _label_plans(settings: list[Setting], seen: Collection[Setting]) -> list[tuple[str, ...]]:
    bare = [one._replace(inference="") for one in settings]
    names = label_settings(bare, seen={one._replace(inference="") for one in seen})
    return [(name, one.inference) for name, one in zip(names, settings, strict=True)]


def _name_once(lines: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [lines[0], *(("", *line[1:]) for line in lines[1:])]


def convention_tables(rows: Iterable[Score]) -> list[TextTable]:
    """Lay out the SDR of each system by every convention in use: conventions down, targets across.

    The last column counts the songs or windows that are aggregated. Conventions that rows of earlier versions cannot
    give are left out.
    """
    rows = list(rows)
    systems = summarise_conventions(rows)
    planned = {without_metric(row.setting) for row in rows if row.plan is not None}
    seen = {without_metric(row.setting) for row in rows if row.saw_test_songs}
    labels = label_settings(list(systems), planned, seen)
    tables = [
        _convention_table(label, setting, conventions)
        for label, (setting, conventions) in zip(labels, systems.items(), strict=True)
    ]
    notes = (*CONVENTION_NOTES, *((SEEN_NOTE,) if seen else ()))
    return [*tables[:-1], *(replace(last, footnotes=notes) for last in tables[-1:])]


def _convention_table(label: str, setting: Setting, conventions: Mapping[str, Mapping[str, Summary]]) -> TextTable:
    targets = order_targets(target for summaries in conventions.values() for target in summaries)
    users = convention_users()
    lines = []
    for id, summaries in conventions.items():
        counts = [summary.songs for summary in summaries.values()]
        unit = "window" if SDR_CONVENTIONS[id].over == "pooled" else "song"
        lines.append((
            SDR_CONVENTIONS[id].name, users.get(id, ""), *_cells(summaries, targets),
            f"{range_text(counts)} {unit}{'s' * (max(counts) != 1)}",
        ))  # fmt: skip
    header = ("convention", "used by", *targets, *(["average"] if len(targets) > 1 else []), "counted")
    caption = f"{label}: SDR in dB by convention ({setting.data}, {setting.split})"
    return TextTable(caption, header, tuple(lines), text_columns=2)


def _cells(summaries: Mapping[str, Summary], targets: list[str]) -> list[str]:
    """Return the cells of the targets, and the average of several."""
    cells = [_cell(summaries.get(target)) for target in targets]
    if len(targets) > 1:
        average = average_over_targets([summaries[t].value if t in summaries else None for t in targets])
        cells.append(NOT_ESTIMATED if average is None else f"{average:.2f}")
    return cells


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

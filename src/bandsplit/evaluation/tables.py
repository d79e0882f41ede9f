"""Tables as text, for Markdown, LaTeX, CSV and the screen; and score rows as tables, systems down, targets across."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bandsplit.core.table import TextTable
from bandsplit.core.targets import order_targets
from bandsplit.evaluation.results import Metric, Score, Setting, Summary, aggregate, average_over_targets

METRIC_TEXT: dict[Metric, str] = {
    "usdr_db": "uSDR, dB, mean over {songs}",
    "csdr_db": "cSDR, dB, median over {songs} of the median over 1 s windows",
    "si_sdr_db": "SI-SDR, dB, mean over {songs}",
    "l1_freq": "L1-freq, 0 to 100, mean over {songs}",
}

MAIN_METRICS: tuple[Metric, ...] = ("usdr_db", "csdr_db")
"""Those of the paper, which commands show."""


NOT_ESTIMATED, NOTHING_COUNTS = "-", "n/a"


def score_tables(rows: Iterable[Score]) -> list[TextTable]:
    """Aggregate rows and lay them out: one table for each data set, split and metric.

    A system that was scored under several settings has one line for each, told apart by its settings. ``-``: the system
    does not estimate the target; ``n/a``: no song has a window that counts.
    """
    groups: dict[tuple[str, str | None, str, Metric], dict[Setting, dict[str, Summary]]] = {}
    for setting, targets in aggregate(rows).items():
        groups.setdefault((setting.data, setting.fingerprint, setting.split, setting.metric), {})[setting] = targets
    return [_table(data, split, metric, systems) for (data, _, split, metric), systems in groups.items()]


def _table(data: str, split: str, metric: Metric, systems: Mapping[Setting, dict[str, Summary]]) -> TextTable:
    targets = order_targets(target for summaries in systems.values() for target in summaries)
    counts = {summary.songs for summaries in systems.values() for summary in summaries.values() if summary.songs}
    one_count = len(counts) <= 1
    songs = _plural(max(counts, default=0)) if one_count else "songs"
    header = ["system", *targets]
    header += ["average"] if len(targets) > 1 else []
    header += [] if one_count else ["songs"]
    lines = []
    for label, summaries in zip(label_settings(list(systems)), systems.values(), strict=True):
        line = [label, *(_cell(summaries.get(target)) for target in targets)]
        if len(targets) > 1:
            average = average_over_targets([summaries[t].value if t in summaries else None for t in targets])
            line.append(NOT_ESTIMATED if average is None else f"{average:.2f}")
        if not one_count:
            found = sorted({summary.songs for summary in summaries.values()})
            line.append(" to ".join(str(count) for count in dict.fromkeys((found[0], found[-1]))))
        lines.append(tuple(line))
    return TextTable(f"{METRIC_TEXT[metric].format(songs=songs)} ({data}, {split})", tuple(header), tuple(lines))


def label_settings(settings: list[Setting]) -> list[str]:
    """System names; where one stands for several settings, with the settings that differ."""
    labels: list[str] = []
    for setting in settings:
        twins = [other for other in settings if other.system == setting.system]
        differing = [field for field in Setting._fields if len({getattr(twin, field) for twin in twins}) > 1]
        if len({twin._replace(source=None) for twin in twins}) == len(twins):  # a hash says nothing: only if needed
            differing = [field for field in differing if field != "source"]
        extra = "; ".join(f"{field}: {_text(getattr(setting, field))}" for field in differing)
        labels.append(f"{setting.system} ({extra})" if extra else setting.system)
    return labels


def _text(value: str | int | tuple[str, ...] | None) -> str:
    return " ".join(value) if isinstance(value, tuple) else "none" if value is None else str(value)


def _cell(summary: Summary | None) -> str:
    if summary is None:
        return NOT_ESTIMATED
    return NOTHING_COUNTS if summary.value is None else f"{summary.value:.2f}"


def _plural(songs: int) -> str:
    return f"{songs} song{'' if songs == 1 else 's'}"

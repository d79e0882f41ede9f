"""Score rows laid out for the page: the songs they were measured on, and a line per song, system and metric."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bandsplit.core.table import TextTable
from bandsplit.core.targets import order_targets
from bandsplit.evaluation.groups import group
from bandsplit.evaluation.results import METRICS, SEEN_NOTE, Score, Setting
from bandsplit.evaluation.tables import label_settings
from bandsplit.reports.player.markup import with_minus

MISSING = "\N{EN DASH}"
_NO_NUMBER = {"", "-", MISSING, "n/a", "not run"}
_MIXTURE_FROM = {"file": "its own file", "sum": "sum of the stems"}
_NUMBER = re.compile(r"[<>~≈]?\s*[+\-\N{MINUS SIGN}]?\d")


@dataclass(frozen=True)
class ScoreLine:
    """One song, one system, one metric."""

    song: str
    system: str
    metric: str
    values: tuple[float | None, ...]
    """One per target of the listing."""


@dataclass(frozen=True)
class Listing:
    """All lines, and the values that they can be filtered by."""

    targets: tuple[str, ...]
    metrics: tuple[str, ...]
    systems: tuple[str, ...]
    lines: tuple[ScoreLine, ...]


def list_scores(scores: Sequence[Score]) -> Listing:
    """Lay out scores; the later of two scores of the same song, setting and target counts."""
    targets = tuple(order_targets(score.target for score in scores))
    settings = list(dict.fromkeys(score.setting for score in scores))
    metrics = _name_metrics(settings)
    systems: dict[Setting, str] = {}
    seen = {score.setting for score in scores if score.saw_test_songs}
    for alike in group(settings, metrics.__getitem__).values():
        systems.update(zip(alike, label_settings(alike, seen=seen), strict=True))
    values: dict[tuple[Setting, str], dict[str, float | None]] = {}
    for score in scores:
        values.setdefault((score.setting, score.track), {})[score.target] = score.value
    lines = [
        ScoreLine(track, systems[setting], metrics[setting], tuple(map(found.get, targets)))
        for (setting, track), found in values.items()
    ]
    return Listing(
        targets, tuple(dict.fromkeys(metrics.values())), tuple(dict.fromkeys(systems.values())), tuple(lines)
    )


def measured_on(scores: Sequence[Score]) -> TextTable:
    """Tabulate the data sets and songs of the scores, and the definition of each metric."""
    groups = group(scores, lambda score: (score.data, score.split, score.fingerprint))
    rows = tuple(
        (
            data,
            split,
            fingerprint or "not computed",
            str(len({score.track for score in found})),
            " and ".join(sorted({_MIXTURE_FROM[score.mixture] for score in found})),
            ", ".join(sorted({score.version for score in found})),
        )
        for (data, split, fingerprint), found in groups.items()
    )
    header = ("data set", "split", "fingerprint", "songs", "mixture", "bandsplit")
    notes = dict.fromkeys(f"{METRICS[score.metric]}: {score.convention}" for score in scores if score.convention)
    if any(score.saw_test_songs for score in scores):
        notes[SEEN_NOTE] = None
    return TextTable("What the scores were measured on", header, rows, tuple(notes))


def score_beside(scores: Sequence[Score], song: str, system: str, target: str) -> str:
    """Return the uSDR of an estimate as text, to show next to its track; empty unless there is exactly one."""
    values = {
        score.setting: score
        for score in scores
        if (score.track, score.system, score.target, score.metric) == (song, system, target, "usdr_db")
    }
    (score,) = values.values() if len(values) == 1 else (None,)
    if score is None or score.value is None:
        return ""
    return with_minus(f"uSDR {score.value:.2f} dB{', trained on this song' * bool(score.saw_test_songs)}")


def number_columns(table: TextTable) -> list[bool]:
    """Return which columns hold numbers: most cells with a digit begin with one, or all cells mean no number."""
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.header)
    return [number > 0 and _holds_numbers(column) for number, column in enumerate(columns)]


def _holds_numbers(cells: Sequence[str]) -> bool:
    wordy = [cell for cell in cells if any(map(str.isdigit, cell))]
    if not wordy:
        return bool(cells) and set(cells) <= _NO_NUMBER
    return 2 * sum(bool(_NUMBER.match(cell)) for cell in wordy) > len(wordy)


def _name_metrics(settings: Sequence[Setting]) -> dict[Setting, str]:
    """Name the metrics briefly; with the data set and the definition only where there are several."""
    names = {}
    for setting in settings:
        parts = [str(METRICS[setting.metric])]
        if len({(s.data, s.split, s.fingerprint) for s in settings}) > 1:
            parts.append(f"{setting.data}, {setting.split}")
            twins = {s.fingerprint for s in settings if (s.data, s.split) == (setting.data, setting.split)}
            parts += [str(setting.fingerprint)[:8]] if len(twins) > 1 else []
        if len({s.convention for s in settings if s.metric == setting.metric}) > 1:
            parts.append(setting.convention or "not recorded")
        names[setting] = " \N{MIDDLE DOT} ".join(parts)
    return names

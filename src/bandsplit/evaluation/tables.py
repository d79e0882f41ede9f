"""Tables as text, for Markdown, LaTeX, CSV and the screen; and score rows as tables, systems down, targets across."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rich.console import Group
from rich.text import Text

from bandsplit.core.printable import printable
from bandsplit.core.screen import PlainTable
from bandsplit.evaluation.results import Metric, Score, Setting, Summary, aggregate, average_over_targets
from bandsplit.models.bsrnn.config import TARGETS

METRIC_TEXT: dict[Metric, str] = {
    "usdr_db": "uSDR, dB, mean over {songs}",
    "csdr_db": "cSDR, dB, median over {songs} of the median over 1 s windows",
    "si_sdr_db": "SI-SDR, dB, mean over {songs}",
    "l1_freq": "L1-freq, 0 to 100, mean over {songs}",
}

MAIN_METRICS: tuple[Metric, ...] = ("usdr_db", "csdr_db")
"""Those of the paper, which commands show."""

_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
    "[": "{[}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "µ": r"$\mu$", "†": r"$\dagger$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip

NOT_ESTIMATED, NOTHING_COUNTS = "-", "n/a"

_NUMBER = r"[+-]?(\d+(\.\d+)?(e[+-]?\d+)?%?|inf|nan)"
_NUMBERS = re.compile(rf"{NOT_ESTIMATED}|{_NUMBER}( (±|to) {_NUMBER})*")  # what our own cells begin with a sign for


@dataclass(frozen=True)
class TextTable:
    """Text of one table, in one unit or with the units in its header; what is no text on one line is written out."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """A row whose first cell is empty goes on with the one above it."""
    footnotes: tuple[str, ...] = ()
    text_columns: int = 1
    """Columns from the left that hold words; the others hold numbers."""
    records: tuple[Mapping[str, str | float | None], ...] = ()
    """For CSV, where a row of the table has more than one number in a cell: one record per number, of equal keys."""

    def __post_init__(self) -> None:
        """Make all texts printable."""
        records = tuple({k: printable(v) if isinstance(v, str) else v for k, v in one.items()} for one in self.records)
        for name, value in {
            "caption": printable(self.caption),
            "header": tuple(map(printable, self.header)),
            "rows": tuple(tuple(map(printable, row)) for row in self.rows),
            "footnotes": tuple(map(printable, self.footnotes)),
            "records": records,
        }.items():
            object.__setattr__(self, name, value)

    def markdown(self) -> str:
        """Markdown, caption in front."""
        align = ("---" if number < self.text_columns else "---:" for number in range(len(self.header)))
        lines = (self.header, align, *self.rows)
        escaped = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
        notes = [line for note in self.footnotes for line in ("", note)]
        return "\n".join([self.caption, "", *escaped, *notes, ""])

    def latex(self) -> str:
        """A LaTeX table for the package booktabs."""
        align = "l" * self.text_columns + "r" * (len(self.header) - self.text_columns)
        lines = [
            r"\begin{table}", r"\centering", rf"\caption{{{_latex(self.caption)}}}", rf"\begin{{tabular}}{{{align}}}",
            r"\toprule", _latex_row(self.header), r"\midrule",
        ]  # fmt: skip
        grouped = any(row[0] == "" for row in self.rows)
        for number, row in enumerate(self.rows):
            if grouped and number and row[0]:
                lines.append(r"\addlinespace")
            lines.append(_latex_row(row))
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par\smallskip{{\footnotesize {_latex(note)}\par}}" for note in self.footnotes]
        return "\n".join([*lines, r"\end{table}", ""])

    def csv(self) -> str:
        """Comma-separated values: the records if there are any, else the rows as they are.

        Text that a spreadsheet would take for a formula gets an apostrophe in front.
        """
        text = io.StringIO()
        lines = [list(self.records[0]), *(one.values() for one in self.records)] if self.records else []
        csv.writer(text, lineterminator="\n").writerows(
            map(_for_spreadsheets, line) for line in lines or [self.header, *self.rows]
        )
        return text.getvalue()

    def screen(self) -> Group:
        """Caption and table, for a rich console to print."""
        table = PlainTable()
        for number, name in enumerate(self.header):
            table.add_column(name, justify="left" if number < self.text_columns else "right")
        for row in self.rows:
            table.add_row(*row)
        return Group(Text(self.caption), table, *map(Text, self.footnotes))


def _for_spreadsheets(cell: str | float | None) -> str | float | None:
    is_formula = isinstance(cell, str) and cell.startswith(("=", "+", "-", "@")) and not _NUMBERS.fullmatch(cell)
    return f"'{cell}" if is_formula else cell


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"


def score_tables(rows: Iterable[Score]) -> list[TextTable]:
    """Aggregate rows and lay them out: one table for each data set, split and metric.

    A system that was scored under several settings has one line for each, told apart by its settings. ``-``: the system
    does not estimate the target; ``n/a``: no song has a window that counts.
    """
    groups: dict[tuple[str, str | None, str, Metric], dict[Setting, dict[str, Summary]]] = {}
    for setting, targets in aggregate(rows).items():
        groups.setdefault((setting.data, setting.fingerprint, setting.split, setting.metric), {})[setting] = targets
    return [_table(data, split, metric, systems) for (data, _, split, metric), systems in groups.items()]


def order_targets(targets: Iterable[str]) -> list[str]:
    """Sort target names: vocals, bass, drums, other, then the rest by name."""
    rank = {name: number for number, name in enumerate(TARGETS)}
    return sorted(set(targets), key=lambda name: (rank.get(name, len(rank)), name))


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

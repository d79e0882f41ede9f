"""Text tables for terminals, Markdown, LaTeX, CSV and the page of a report."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.text import Text

from bandsplit.core.printable import printable
from bandsplit.core.screen import PlainTable

_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
    "[": "{[}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "µ": r"$\mu$", "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip


@dataclass(frozen=True)
class TextTable:
    """Text of one table, in one unit or with the units in its header; control characters are escaped."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """A row whose first cell is empty continues the row above it."""
    footnotes: tuple[str, ...] = ()
    text_columns: int = 1
    """Columns from the left that hold words; the others hold numbers."""
    records: tuple[Mapping[str, str | float | None], ...] = ()
    """For CSV, if cells of the table contain more than one number: one record per number, all with the same keys."""
    files: tuple[Path, ...] = ()
    """The same table as files, for a report to copy and link."""

    def __post_init__(self) -> None:
        """Escape control characters in all texts."""
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
        """Return Markdown, with the caption first."""
        align = ("---" if number < self.text_columns else "---:" for number in range(len(self.header)))
        lines = (self.header, align, *self.rows)
        escaped = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
        notes = [line for note in self.footnotes for line in ("", note)]
        return "\n".join([self.caption, "", *escaped, *notes, ""])

    def latex(self) -> str:
        """Return a LaTeX table for the package booktabs."""
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
        """Return comma-separated values: the records if there are any, otherwise the rows.

        Text that a spreadsheet would interpret as a formula gets a leading apostrophe.
        """
        text = io.StringIO()
        lines = [list(self.records[0]), *(one.values() for one in self.records)] if self.records else []
        csv.writer(text, lineterminator="\n").writerows(
            map(_for_spreadsheets, line) for line in lines or [self.header, *self.rows]
        )
        return text.getvalue()

    def screen(self) -> Group:
        """Return caption and table for a rich console."""
        table = PlainTable()
        for number, name in enumerate(self.header):
            if number < self.text_columns:
                table.add_column(name, justify="left", overflow="fold")  # a name without its end may be another's
            else:
                table.add_column(name, justify="right")
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


_NUMBER = r"[+-]?(\d+(\.\d+)?(e[+-]?\d+)?%?|inf|nan)"


_NUMBERS = re.compile(rf"-|{_NUMBER}( (±|to) {_NUMBER})*")  # our own cells that may begin with a sign

"""Terminal output: a console and tables that escape control characters in names and texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from bandsplit.core.printable import printable, printable_lines


class PlainConsole(Console):
    """A console that escapes control characters in everything it prints, except for its own styles."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the pieces of an object to print."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable_lines(text), style, control)


class PlainTable(Table):
    """A table for the screen whose cells are text, not markup: each is one line, or a list of such lines."""

    def add_column(self, header: RenderableType = "", footer: RenderableType = "", **options: Any) -> None:
        """Add a column; the options are those of rich."""
        super().add_column(_plain(header), _plain(footer), **options)

    def add_row(self, *cells: RenderableType | Sequence[str] | None, **options: Any) -> None:
        """Add a row; the options are those of rich."""
        super().add_row(*(_plain(cell) for cell in cells), **options)


def lean_table(**options: Any) -> PlainTable:
    """Make a table without frames, with a line below its header; the options are those of rich."""
    return PlainTable(**{"box": box.SIMPLE_HEAD, "pad_edge": False, "padding": (0, 1, 0, 0)} | options)


def _plain(cell: Any) -> Text:
    if isinstance(cell, Text):
        return cell
    return Text("\n".join(map(printable, [cell] if isinstance(cell, str) else cell or [""])))

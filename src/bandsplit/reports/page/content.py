"""Content of a report, as plain data. All texts are plain: HTML in them is shown as text, not interpreted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bandsplit.core.table import TextTable
from bandsplit.evaluation.results import Score


@dataclass(frozen=True)
class ReportFigure:
    """A picture, copied into the report."""

    caption: str
    path: Path
    """An .svg, .png, .jpg or .webp file."""
    alt: str
    """Description of the picture, for those who cannot see it."""


@dataclass(frozen=True)
class SongAudio:
    """Audio files of one song, of one sample rate and length."""

    name: str
    """Equal to ``track`` of its scores, which the page then shows next to its tracks."""
    mixture: Path
    references: Mapping[str, Path]
    """Target -> file."""
    estimates: Mapping[str, Mapping[str, Path]]
    """System -> target -> file."""


@dataclass(frozen=True)
class Report:
    """Everything on the page; empty parts are left out. The page shows texts in tables as they are."""

    title: str
    notice: str = ""
    """A warning, for example that the data is a toy problem; shown first, in a box."""
    remarks: Sequence[str] = ()
    """Paragraphs."""
    tables: Sequence[TextTable] = ()
    """The first column of a table names its rows."""
    figures: Sequence[ReportFigure] = ()
    comparisons: Sequence[TextTable] = ()
    energy: Sequence[TextTable] = ()
    scores: Sequence[Score] = ()
    songs: Sequence[SongAudio] = ()

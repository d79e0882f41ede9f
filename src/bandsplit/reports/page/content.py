"""What a report shows, as plain data. All texts are plain: what looks like HTML in them is shown as it is written."""

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
    """What the picture shows, for those who cannot see it."""


@dataclass(frozen=True)
class SongAudio:
    """Audio files of one song, of one sample rate and length."""

    name: str
    """As ``track`` of its scores, which are then shown beside its tracks."""
    mixture: Path
    references: Mapping[str, Path]
    """Target -> file."""
    estimates: Mapping[str, Mapping[str, Path]]
    """System -> target -> file."""


@dataclass(frozen=True)
class Report:
    """Everything on the page; parts that are empty are left out. Texts in tables are as they are to be read."""

    title: str
    notice: str = ""
    """What a reader must not overlook, such as that the data is a toy problem; shown first, in a box."""
    remarks: Sequence[str] = ()
    """Paragraphs."""
    tables: Sequence[TextTable] = ()
    """The first column of a table names its rows."""
    figures: Sequence[ReportFigure] = ()
    comparisons: Sequence[TextTable] = ()
    energy: Sequence[TextTable] = ()
    scores: Sequence[Score] = ()
    songs: Sequence[SongAudio] = ()

"""A folder of static HTML that shows results: opened from the disk, without a server or a network."""

from bandsplit.reports.page.content import Report, ReportFigure, SongAudio
from bandsplit.reports.page.page import write_report

__all__ = ["Report", "ReportFigure", "SongAudio", "write_report"]

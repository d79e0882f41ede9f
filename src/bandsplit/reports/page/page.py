"""Writer of the report: the page, and next to it everything that it shows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from bandsplit.core.errors import BandsplitError
from bandsplit.core.interrupt import held
from bandsplit.core.unfinished import hidden_folder
from bandsplit.core.version import __version__
from bandsplit.evaluation.results import METRICS
from bandsplit.reports.page.content import Report
from bandsplit.reports.page.listing import MISSING, list_scores, measured_on, number_columns, score_beside
from bandsplit.reports.page.songs import write_song
from bandsplit.reports.player.markup import ASSETS, read_asset, templates, with_minus

PICTURES = (".svg", ".png", ".jpg", ".webp")
GENERATOR = '<meta name="generator" content="bandsplit'


def write_report(folder: Path | str, report: Report) -> Path:
    """Write a folder of static HTML that a browser opens from the disk: ``index.html`` and ``assets/``.

    An earlier report in the folder is replaced, once the new one is complete.

    Args:
        folder: the folder to write, made with its parents.
        report: the content of the page.

    Returns:
        The page.

    Raises:
        BandsplitError: the folder holds anything but a report, cannot be written, or a file that the page shows is
            missing or has a format that browsers do not show.
        AudioError: a song's audio cannot be read, or its files do not fit one another.
    """
    folder = Path(folder)
    _check_folder(folder)
    try:
        with hidden_folder(folder) as unfinished:
            (unfinished / "assets").mkdir()
            _write_page(unfinished, report)
            with held():
                if folder.exists():
                    shutil.rmtree(folder)
                unfinished.rename(folder)
    except OSError as error:
        raise BandsplitError(f"{folder}: the report cannot be written ({error}); choose another folder") from None
    return folder / "index.html"


def _check_folder(folder: Path) -> None:
    try:
        found = {path.name for path in folder.iterdir()} if folder.exists() else set()
        page = folder / "index.html"
        ours = "index.html" in found and GENERATOR in page.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BandsplitError(
            f"{folder}: is not a folder that can be written ({error.strerror}); choose another"
        ) from None
    others = found - {"index.html", "assets"} if ours else found
    if others:
        raise BandsplitError(
            f"{folder}: holds {sorted(others)[0]!r}, which is not part of a report, and a report replaces its folder; "
            f"choose a new or empty folder"
        )


def _write_page(folder: Path, report: Report) -> None:
    own = {name: read_asset(name, "bandsplit.reports.page") for name in ("report.css", "scores.js")}
    for name, text in {**own, **{name: read_asset(name) for name in ASSETS}}.items():
        (folder / "assets" / name).write_text(text, encoding="utf-8")
    tables = [*report.tables, *report.comparisons, *report.energy]
    linked = {path: address for table in tables for path, address in _copy(folder, "tables", table.files)}
    pictures = {
        path: address
        for figure in report.figures
        for path, address in _copy(folder, "figures", [figure.path], PICTURES)
    }
    songs = [write_song(folder, number, song) for number, song in enumerate(report.songs, start=1)]
    environment = templates("bandsplit.reports.page")
    environment.filters["number"] = _number
    scores = [score for score in report.scores if METRICS[score.metric].listed]
    page = environment.get_template("report.html").render(
        report=report,
        version=__version__,
        measured=measured_on(scores) if scores else None,
        listing=list_scores(scores),
        linked=linked,
        pictures=pictures,
        songs=songs,
        number_columns=number_columns,
        beside_of=lambda song: partial(score_beside, report.scores, song.name),
    )
    (folder / "index.html").write_text(page, encoding="utf-8")


def _copy(folder: Path, kind: str, paths: Sequence[Path], legal: tuple[str, ...] = ()) -> Iterator[tuple[Path, str]]:
    """Copy files to ``assets/<kind>/``; yield them with their addresses on the page."""
    target = folder / "assets" / kind
    for path in paths:
        if legal and path.suffix.lower() not in legal:
            raise BandsplitError(f"{path}: is not a picture that browsers show; legal: {', '.join(legal)}")
        if not path.is_file():
            raise BandsplitError(f"{path}: the report shows this file, but it does not exist; make it first")
        target.mkdir(parents=True, exist_ok=True)
        # Numbered: two folders may have files of one name, and a name may contain characters that an address must not.
        copy = target / f"{sum(1 for _ in target.iterdir()) + 1}{path.suffix.lower()}"
        shutil.copyfile(path, copy)
        yield path, copy.relative_to(folder).as_posix()


def _number(value: float | None) -> str:
    return MISSING if value is None else with_minus(f"{value:.2f}")

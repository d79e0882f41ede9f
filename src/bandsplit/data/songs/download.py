"""Download known data sets: check the disk, fetch the archive, check its md5, unpack it, mark the folder as whole.

Nothing half done looks done: the archive has its name only with the right md5, and the songs lie in a hidden folder
until all of them, and then a marker file, are there.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import pooch
import requests

from bandsplit.core.archives import unpack
from bandsplit.core.errors import DataError
from bandsplit.core.fetching import (
    CHECK_CONNECTION,
    PATIENCE,
    ByteProgress,
    Patience,
    check_source,
    failure_of,
    fetch,
    in_gb,
    part_of,
    persist,
    require_space,
    size_of,
)

MARKER = ".bandsplit-download.json"
"""Written last: a set that has it is whole."""


@dataclass(frozen=True)
class KnownSet:
    """A data set that can be downloaded as one zip archive of a Zenodo record."""

    name: str
    """What users type, and the folder the set gets."""
    about: str
    licence: str
    doi: str
    """Of the record, which knows the archive's md5."""
    url: str
    """Folder of the archive; a mirror takes its place."""
    file: str
    archive_bytes: int
    """About; with `unpacked_bytes` it decides whether the disk has room."""
    unpacked_bytes: int
    splits: tuple[str, ...]
    """Folders at the top of a whole set."""

    def notice(self) -> str:
        """Say what it is, how big, and what may be done with it: to be shown before the download."""
        return (
            f"{self.name}: {self.about}\n"
            f"size:    {in_gb(self.archive_bytes)} to download, {in_gb(self.unpacked_bytes)} unpacked\n"
            f"licence: {self.licence}\n"
            f"source:  https://doi.org/{self.doi}"
        )


KNOWN_SETS = {
    known.name: known
    for known in (
        KnownSet(
            name="musdb18hq",
            about="MUSDB18-HQ, 150 songs (100 train, 50 test) with vocals, bass, drums and other; wav, 44.1 kHz stereo",
            licence="educational, non-commercial use only; each song keeps the terms of its source, see "
            "https://sigsep.github.io/datasets/musdb.html",
            doi="10.5281/zenodo.3338373",
            url="https://zenodo.org/records/3338373/files",
            file="musdb18hq.zip",
            archive_bytes=22_700_000_000,
            unpacked_bytes=32_000_000_000,  # five 16-bit files per song, of ten hours at most
            splits=("train", "test"),
        ),
    )
}


class Downloaded(NamedTuple):
    """Where a set is, and whether this call brought it."""

    folder: Path
    new: bool


def find_known_set(name: str) -> KnownSet:
    """Look a data set up by its name.

    Raises:
        DataError: no such set is known.
    """
    if name not in KNOWN_SETS:
        raise DataError(f"{name}: not a data set that can be downloaded; legal: {', '.join(KNOWN_SETS)}")
    return KNOWN_SETS[name]


def is_downloaded(known: KnownSet, to: str | Path = ".") -> bool:
    """Say whether ``to`` holds the whole set, going by the marker and the folders of its splits."""
    folder = Path(to) / known.name
    return (folder / MARKER).is_file() and all((folder / split).is_dir() for split in known.splits)


def download_dataset(
    known: KnownSet,
    to: str | Path = ".",
    *,
    mirror: str | None = None,
    md5: str | None = None,
    keep_archive: bool = False,
    progress: ByteProgress = lambda stage, done_bytes, total_bytes: None,
    patience: Patience = PATIENCE,
) -> Downloaded:
    """Bring a data set to ``TO/<name>``, unless it is there; an archive ``TO/<file>`` that is whole is used.

    Args:
        known: the set, from `find_known_set`.
        to: the folder to put it in; made if missing.
        mirror: address of another folder that has the archive, http or https.
        md5: of the archive; by default that of the Zenodo record, for a mirror too.
        keep_archive: leave the archive beside the unpacked set.
        progress: called often as ``progress(stage, done_bytes, total_bytes)``; stages: record (while its md5 is asked
            for; no bytes), download, check, unpack.
        patience: time limit and retries of the download; the record is asked with pooch's time limit.

    Raises:
        DataError: the folder is taken, cannot be written, or the archive holds something else.
        DownloadError: the archive cannot be fetched or unpacked; both messages say what to do.
    """
    check_source(mirror, md5)
    folder, archive = Path(to) / known.name, Path(to) / known.file
    if is_downloaded(known, to):
        return Downloaded(folder, new=False)
    try:
        _check_unused(known, folder)
        _check_space(known, archive)
        digest = (md5 or _md5_of_record(known, progress, patience)).lower()
        url = f"{(mirror or known.url).rstrip('/')}/{known.file}"
        by_hand = f"put {known.file} of https://doi.org/{known.doi} into {archive.parent}"
        archive.parent.mkdir(parents=True, exist_ok=True)
        fix = f"name another source with --mirror, or {by_hand}"
        fetch(url, archive, digest, fix, progress, patience, most_bytes=_most(known.archive_bytes))
        _unpack_whole(known, archive, folder, {"source": url, "md5": digest}, progress)
        if not keep_archive:
            archive.unlink()
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: cannot be written or read ({error.strerror or error}); mend that, or choose "
            f"another folder with --to"
        ) from error
    return Downloaded(folder, new=True)


def _check_unused(known: KnownSet, folder: Path) -> None:
    if folder.exists():
        raise DataError(
            f"{folder}: exists, but not as a whole download ({MARKER}, {'/ or '.join(known.splits)}/ is missing); if "
            f"its songs are whole, use it as it is, else move it away or choose another folder with --to"
        )
    if _hidden(folder).exists():  # an earlier run was killed while it unpacked
        shutil.rmtree(_hidden(folder))


def _check_space(known: KnownSet, archive: Path) -> None:
    missing_bytes = 0 if archive.exists() else max(known.archive_bytes - size_of(part_of(archive)), 0)
    needed_bytes = missing_bytes + known.unpacked_bytes
    needs = f"{in_gb(missing_bytes)} to download, {in_gb(known.unpacked_bytes)} unpacked"
    what = f"{known.name} needs {in_gb(needed_bytes)} ({needs})"
    require_space(archive.parent, needed_bytes, what, "choose a folder on another disk with --to")


def _md5_of_record(known: KnownSet, progress: ByteProgress, patience: Patience) -> str:
    progress("record", 0, 0)
    record = pooch.create(path=".", base_url=f"doi:{known.doi}")
    try:
        persist(record.load_registry_from_doi, patience)
        algorithm, _, digest = record.registry[known.file].partition(":")
        if algorithm != "md5":
            raise ValueError(f"{algorithm} instead of md5")
        return digest
    except (requests.RequestException, ValueError, KeyError) as error:
        why = failure_of(error) if isinstance(error, requests.RequestException) else f"unexpected answer, {error!r}"
        raise DataError(
            f"https://doi.org/{known.doi}: the md5 of {known.file} cannot be read there ({why}); {CHECK_CONNECTION}, "
            f"try again later, or give the md5 with --md5"
        ) from error


def _unpack_whole(known: KnownSet, archive: Path, folder: Path, source: dict[str, str], progress: ByteProgress) -> None:
    """Unpack beside ``folder``, mark what is whole, then give it its name."""
    hidden = _hidden(folder)
    try:
        unpack(
            archive,
            hidden,
            most_bytes=_most(known.unpacked_bytes),
            fix="remove it and name another source with --mirror",
            progress=lambda done, total: progress("unpack", done, total),
        )
        top = _find_top(known, archive, hidden)
        date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        marker = {"name": known.name, "doi": known.doi, **source, "date": date, "licence": known.licence}
        (top / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
        top.rename(folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _find_top(known: KnownSet, archive: Path, unpacked: Path) -> Path:
    """Find the splits at the top of the archive or in one of its folders, as some mirrors have them."""
    folders = sorted(path for path in unpacked.iterdir() if path.is_dir()) if unpacked.exists() else []
    for top in (unpacked, *folders):
        if all((top / split).is_dir() for split in known.splits):
            return top
    inside = ", ".join(path.name for path in folders) or "none"
    raise DataError(
        f"{archive}: not {known.name}: it needs the folders {' and '.join(known.splits)}, and has {inside}; remove it "
        f"and name another source with --mirror"
    )


def _most(about_bytes: int) -> int:
    """Leave room for sizes that are known to three digits."""
    return int(1.1 * about_bytes)


def _hidden(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.unpacking")

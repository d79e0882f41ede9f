"""Known data sets and their download.

An incomplete download never looks complete: the archive gets its name only if its md5 is right, and the songs stay in
a hidden folder until all of them, and then a marker file, are written.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pooch
import requests

from bandsplit.core.archives import Archive, install
from bandsplit.core.errors import DataError
from bandsplit.core.fetching import (
    CHECK_CONNECTION,
    PATIENCE,
    ByteProgress,
    Patience,
    check_source,
    failure_of,
    in_gb,
    missing_bytes,
    persist,
    require_space,
)

MARKER = ".bandsplit-download.json"
"""Written last: a data set that contains it is complete."""


@dataclass(frozen=True)
class KnownSet:
    """A data set that can be downloaded as one zip archive of a Zenodo record."""

    name: str
    """Name that users type; also the name of the set's folder."""
    about: str
    licence: str
    doi: str
    """DOI of the record, which contains the archive's md5."""
    url: str
    """Folder of the archive; a mirror replaces it."""
    file: str
    archive_bytes: int
    """Approximate size; together with `unpacked_bytes` it is compared with the free space of the disk."""
    unpacked_bytes: int
    splits: tuple[str, ...]
    """Folders at the top of a complete set."""

    def notice(self) -> str:
        """Return a text with content, size, licence and source, to be shown before the download."""
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
            unpacked_bytes=32_000_000_000,  # five 16-bit files per song, at most ten hours of music
            splits=("train", "test"),
        ),
    )
}


class Downloaded(NamedTuple):
    """Folder of a data set, and whether this call downloaded it."""

    folder: Path
    new: bool


def find_known_set(name: str) -> KnownSet:
    """Look up a data set by its name.

    Raises:
        DataError: no data set has this name.
    """
    if name not in KNOWN_SETS:
        raise DataError(f"{name}: not a data set that can be downloaded; legal: {', '.join(KNOWN_SETS)}")
    return KNOWN_SETS[name]


def is_downloaded(known: KnownSet, to: str | Path = ".") -> bool:
    """Return whether ``to`` contains the complete set, judging by the marker and the folders of its splits."""
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
    """Download a data set to ``TO/<name>``, unless it exists; an existing complete archive ``TO/<file>`` is used.

    Args:
        known: the set, from `find_known_set`.
        to: the folder for the data set; created if missing.
        mirror: address of another folder with the archive, http or https.
        md5: of the archive; by default that of the Zenodo record, also for a mirror.
        keep_archive: keep the archive next to the unpacked set.
        progress: called often as ``progress(stage, done_bytes, total_bytes)``; stages: record (while its md5 is
            requested; no bytes), download, check, unpack.
        patience: time limit and retries of the download; the request for the record has pooch's time limit.

    Raises:
        DataError: the folder exists already, cannot be written, or the archive has the wrong content.
        DownloadError: the archive cannot be fetched or unpacked; both messages say what to do.
    """
    check_source(mirror, md5)
    folder, path = Path(to) / known.name, Path(to) / known.file
    if is_downloaded(known, to):
        return Downloaded(folder, new=False)
    try:
        _check_unused(known, folder)
        _check_space(known, path)
        archive = _archive_of(known, path, mirror, md5 or _md5_of_record(known, progress, patience))
        path.parent.mkdir(parents=True, exist_ok=True)
        install(
            archive, _hidden(folder), folder, MARKER, partial(_find_top, known, archive),
            keep=keep_archive, progress=progress, patience=patience,
        )  # fmt: skip
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: cannot be written or read ({error.strerror or error}); fix that, or choose "
            f"another folder with --to"
        ) from error
    return Downloaded(folder, new=True)


def _archive_of(known: KnownSet, path: Path, mirror: str | None, md5: str) -> Archive:
    return Archive(
        url=f"{(mirror or known.url).rstrip('/')}/{known.file}",
        path=path,
        md5=md5.lower(),
        most_bytes=_most(known.archive_bytes),
        most_unpacked_bytes=_most(known.unpacked_bytes),
        other_ways=f"name another source with --mirror, or put {known.file} of https://doi.org/{known.doi} into "
        f"{path.parent}",
        if_wrong="remove it and name another source with --mirror",
    )


def _check_unused(known: KnownSet, folder: Path) -> None:
    if folder.exists():
        raise DataError(
            f"{folder}: exists, but not as a complete download ({MARKER}, {'/ or '.join(known.splits)}/ is missing); "
            f"if its songs are complete, use it as it is, else move it away or choose another folder with --to"
        )
    shutil.rmtree(_hidden(folder), ignore_errors=True)  # leftovers of a killed process may fill the disk


def _check_space(known: KnownSet, path: Path) -> None:
    missing = missing_bytes(path, known.archive_bytes)
    needed = missing + known.unpacked_bytes
    what = f"{known.name} needs {in_gb(needed)} ({in_gb(missing)} to download, {in_gb(known.unpacked_bytes)} unpacked)"
    require_space(path.parent, needed, what, "choose a folder on another disk with --to")


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
            f"https://doi.org/{known.doi}: the md5 of {known.file} cannot be read ({why}); {CHECK_CONNECTION}, "
            f"try again later, or give the md5 with --md5"
        ) from error


def _find_top(known: KnownSet, archive: Archive, unpacked: Path) -> tuple[Path, dict[str, str]]:
    """Find the folder that contains the splits, the top or one below it, as in some mirrors; describe the set."""
    folders = sorted(path for path in unpacked.iterdir() if path.is_dir()) if unpacked.exists() else []
    for top in (unpacked, *folders):
        if all((top / split).is_dir() for split in known.splits):
            return top, {"name": known.name, "doi": known.doi, "source": archive.url, "licence": known.licence}
    inside = ", ".join(path.name for path in folders) or "none"
    raise DataError(
        f"{archive.path}: not {known.name}: it needs the folders {' and '.join(known.splits)}, and has {inside}; "
        f"{archive.if_wrong}"
    )


def _most(about_bytes: int) -> int:
    """Return an upper bound for a size that is known to three digits."""
    return int(1.1 * about_bytes)


def _hidden(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.unpacking")

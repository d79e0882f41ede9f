"""Download known data sets: check the disk, fetch the archive, check its md5, unpack it, mark the folder as whole.

Nothing half done looks done: the archive has its name only with the right md5, and the songs lie in a hidden folder
until all of them, and then a marker file, are there.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import pooch
import requests

from bandsplit.data.fetch import (
    CHECK_CONNECTION,
    PATIENCE,
    Patience,
    Progress,
    fetch,
    in_gb,
    part_of,
    persist,
    reason,
    size_of,
)
from bandsplit.errors import DataError

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
    progress: Progress = lambda stage, done_bytes, total_bytes: None,
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
        DataError: the set cannot be brought whole; the message says what to do.
    """
    _check_arguments(mirror, md5)
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
        fetch(url, archive, digest, f"name another source with --mirror, or {by_hand}", progress, patience)
        _unpack_whole(known, archive, folder, {"source": url, "md5": digest}, progress)
        if not keep_archive:
            archive.unlink()
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: cannot be written or read ({error.strerror or error}); mend that, or choose "
            f"another folder with --to"
        ) from error
    return Downloaded(folder, new=True)


def _check_arguments(mirror: str | None, md5: str | None) -> None:
    if mirror is not None and not re.match(r"https?://[^/]", mirror):
        raise DataError(f"--mirror {mirror}: must be the address of a folder, as in https://example.org/data")
    if md5 is not None and not re.fullmatch(r"[0-9a-fA-F]{32}", md5):
        raise DataError(f"--md5 {md5}: must be 32 digits of 0-9 and a-f")


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
    existing = next(folder for folder in archive.absolute().parents if folder.exists())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes:
        raise DataError(
            f"{archive.parent}: {known.name} needs {in_gb(needed_bytes)} ({in_gb(missing_bytes)} to download, "
            f"{in_gb(known.unpacked_bytes)} unpacked), the disk has {in_gb(free_bytes)} free; "
            f"free {in_gb(needed_bytes - free_bytes)}, or choose a folder on another disk with --to"
        )


def _md5_of_record(known: KnownSet, progress: Progress, patience: Patience) -> str:
    progress("record", 0, 0)
    record = pooch.create(path=".", base_url=f"doi:{known.doi}")
    try:
        persist(record.load_registry_from_doi, patience)
        algorithm, _, digest = record.registry[known.file].partition(":")
        if algorithm != "md5":
            raise ValueError(f"{algorithm} instead of md5")
        return digest
    except (requests.RequestException, ValueError, KeyError) as error:
        why = reason(error) if isinstance(error, requests.RequestException) else f"unexpected answer, {error!r}"
        raise DataError(
            f"https://doi.org/{known.doi}: the md5 of {known.file} cannot be read there ({why}); {CHECK_CONNECTION}, "
            f"try again later, or give the md5 with --md5"
        ) from error


def _unpack_whole(known: KnownSet, archive: Path, folder: Path, source: dict[str, str], progress: Progress) -> None:
    """Unpack beside ``folder``, mark what is whole, then give it its name."""
    hidden = _hidden(folder)
    try:
        _unpack(archive, hidden, progress)
        top = _find_top(known, archive, hidden)
        date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        marker = {"name": known.name, "doi": known.doi, **source, "date": date, "licence": known.licence}
        (top / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
        top.rename(folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _unpack(archive: Path, folder: Path, progress: Progress) -> None:
    """Unpack into ``folder``, and nowhere else."""
    try:
        with zipfile.ZipFile(archive) as file:
            members = file.infolist()
            for member in members:
                path = PureWindowsPath(member.filename)  # knows both kinds of slash
                if path.anchor or ".." in path.parts:
                    raise DataError(
                        f"{archive}: its member {member.filename!r} leads out of the folder it is unpacked into; "
                        f"nothing was unpacked; remove this archive and name another source with --mirror"
                    )
            done, total = 0, sum(member.file_size for member in members)
            unpacked: list[tuple[Path, int]] = []
            for member in members:
                unpacked.append((Path(file.extract(member, folder)), member.file_size))
                done += member.file_size
                progress("unpack", done, total)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(
            f"{archive}: has the expected md5, but cannot be unpacked ({error}); remove it and name another source "
            f"with --mirror"
        ) from error
    if changed := [path for path, size_bytes in unpacked if not path.is_dir() and size_of(path) != size_bytes]:
        raise DataError(
            f"{changed[0]}: vanished or changed while the archive was unpacked; perhaps the same command runs twice: "
            f"let one finish, then run it again"
        )


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


def _hidden(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.unpacking")

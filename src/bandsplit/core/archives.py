"""Untrusted zip archives: download them, unpack them safely, and turn them into folders that are complete or absent.

No member can leave the folder it is unpacked into or be a link, and no member can exceed its announced size.
"""

from __future__ import annotations

import json
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from bandsplit.core.errors import DownloadError
from bandsplit.core.fetching import PATIENCE, ByteProgress, Digest, Patience, fetch, in_gb, size_of


class Archive(NamedTuple):
    """A zip archive, its source, and limits on its size."""

    url: str
    path: Path
    """File to download to, or an existing archive; its folder must exist."""
    md5: str
    """In lower case."""
    most_bytes: int
    most_unpacked_bytes: int
    other_ways: str
    """What to do if the download fails, for error messages."""
    if_wrong: str
    """What to do if the archive has the wrong content, for error messages."""


def install(
    archive: Archive,
    hidden: Path,
    folder: Path,
    marker: str,
    finish: Callable[[Path], tuple[Path, dict[str, Any]]],
    *,
    wanted: Callable[[str], bool] = lambda member: True,
    keep: bool = False,
    progress: ByteProgress,
    patience: Patience = PATIENCE,
) -> None:
    """Fetch an archive, unless it exists, and unpack it to a folder atomically: the folder is complete or absent.

    Args:
        archive: the archive.
        hidden: folder to unpack into, on the disk of ``folder``; leftovers of a killed process are removed first.
        folder: created by one rename; it must not exist at that point.
        marker: name of a JSON file in it that describes it, written last.
        finish: called with ``hidden``; returns the folder in it that becomes ``folder``, and the content of the marker.
        wanted: returns whether to unpack a member, given its name.
        keep: keep the archive.
        progress: called often; stages: download, check, unpack.
        patience: time limit and retries of the download.

    Raises:
        DownloadError: the archive cannot be fetched or unpacked.
        OSError: a file cannot be written.
    """
    digest = Digest("md5", archive.md5)
    fetch(archive.url, archive.path, digest, archive.other_ways, progress, patience, most_bytes=archive.most_bytes)

    def make(hidden: Path) -> tuple[Path, dict[str, Any]]:
        unpack(
            archive.path, hidden, most_bytes=archive.most_unpacked_bytes, fix=archive.if_wrong, wanted=wanted,
            progress=lambda done_bytes, total_bytes: progress("unpack", done_bytes, total_bytes),
        )  # fmt: skip
        made, facts = finish(hidden)
        return made, {**facts, "md5": archive.md5}

    make_folder(hidden, folder, marker, make)
    if not keep:
        archive.path.unlink()


def make_folder(hidden: Path, folder: Path, marker: str, make: Callable[[Path], tuple[Path, dict[str, Any]]]) -> None:
    """Make a folder atomically: it is complete or absent.

    Args:
        hidden: folder to work in, on the disk of ``folder``; leftovers of a killed process are removed first.
        folder: created by one rename; it must not exist at that point.
        marker: name of a JSON file in it that describes it, written last.
        make: called with ``hidden``; returns the folder in it that becomes ``folder``, and the content of the marker.

    Raises:
        OSError: a file cannot be written.
    """
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        made, facts = make(hidden)
        date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        (made / marker).write_text(json.dumps({**facts, "date": date}, indent=1) + "\n", encoding="utf-8")
        made.rename(folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def unpack(
    archive: Path,
    folder: Path,
    *,
    most_bytes: int,
    fix: str,
    wanted: Callable[[str], bool] = lambda member: True,
    progress: Callable[[int, int], None] = lambda done_bytes, total_bytes: None,
) -> None:
    """Unpack into ``folder`` and nowhere else.

    Args:
        archive: a zip file.
        folder: created if missing.
        most_bytes: largest total size of all members.
        fix: what to do about an archive that is refused, for the error message.
        wanted: returns whether to unpack a member, given its name.
        progress: called with the bytes done and the total, at the start and after each member.

    Raises:
        DownloadError: the archive is not a zip file, a member leads out of ``folder`` or is a link, or the total size
            is too large; in these cases nothing is unpacked. Or a member is damaged, or disappears right after it was
            extracted.
        OSError: the folder cannot be written.
    """
    with _opened(archive, fix) as file:
        members = [member for member in _checked(archive, file, most_bytes, fix) if wanted(member.filename)]
        done, total = 0, sum(member.file_size for member in members)
        progress(done, total)
        unpacked: list[tuple[Path, int]] = []
        for member in members:
            unpacked.append((Path(file.extract(member, folder)), member.file_size))
            done += member.file_size
            progress(done, total)
    if changed := [path for path, size_bytes in unpacked if not path.is_dir() and size_of(path) != size_bytes]:
        raise DownloadError(
            f"{changed[0]}: vanished or changed while the archive was unpacked; perhaps the same command runs twice: "
            f"let one finish, then run it again"
        )


@contextmanager
def _opened(archive: Path, fix: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as file:
            yield file
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # RuntimeError: encrypted, unknown method
        raise DownloadError(f"{archive}: has the expected md5, but cannot be unpacked ({error}); {fix}") from error


def _checked(archive: Path, file: zipfile.ZipFile, most_bytes: int, fix: str) -> list[zipfile.ZipInfo]:
    members = file.infolist()
    for member in members:
        path = PureWindowsPath(member.filename)  # knows both kinds of slash
        if path.anchor or ".." in path.parts:
            raise DownloadError(
                f"{archive}: its member {member.filename!r} leads out of the folder it is unpacked into; nothing was "
                f"unpacked; {fix}"
            )
        if stat.S_ISLNK(member.external_attr >> 16):
            raise DownloadError(f"{archive}: its member {member.filename!r} is a link; nothing was unpacked; {fix}")
    # zipfile stops at the size that a member announces, so no member can grow beyond it.
    if (total_bytes := sum(member.file_size for member in members)) > most_bytes:
        raise DownloadError(
            f"{archive}: needs {in_gb(total_bytes)} when unpacked, more than the expected {in_gb(most_bytes)}; "
            f"nothing was unpacked; {fix}"
        )
    return members

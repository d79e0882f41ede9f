"""Unpack zip archives that strangers made: nothing leads out of the folder, no links, no more than was announced."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

from bandsplit.core.errors import DownloadError
from bandsplit.core.fetching import in_gb, size_of


def member_sizes(archive: Path, most_bytes: int, fix: str) -> dict[str, int]:
    """List the files of an archive by name, with their size in bytes when unpacked.

    Args:
        archive: a zip file.
        most_bytes: what all of them may have together.
        fix: what to do about an archive that is refused, for the error message.

    Raises:
        DownloadError: it is no zip file, or a member leads out of the folder it is unpacked into, is a link, or they
            are too big together; then nothing was unpacked.
    """
    with _opened(archive, fix) as file:
        return {member.filename: member.file_size for member in _checked(archive, file, most_bytes, fix)}


def unpack(
    archive: Path,
    folder: Path,
    *,
    most_bytes: int,
    fix: str,
    only: Collection[str] | None = None,
    progress: Callable[[int, int], None] = lambda done_bytes, total_bytes: None,
) -> None:
    """Unpack into ``folder``, and nowhere else.

    Args:
        archive: a zip file.
        folder: made if missing.
        most_bytes: what all members may have together.
        fix: what to do about an archive that is refused, for the error message.
        only: names of the members to unpack; all by default.
        progress: called with the bytes done and in all, at the start and after each member.

    Raises:
        DownloadError: as `member_sizes`, or a member is damaged or vanishes at once.
        OSError: the folder cannot be written.
    """
    with _opened(archive, fix) as file:
        members = _checked(archive, file, most_bytes, fix)
        members = [member for member in members if only is None or member.filename in only]
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
    # Unpacking stops at the size that a member announces, so none grows beyond it.
    if (total_bytes := sum(member.file_size for member in members)) > most_bytes:
        raise DownloadError(
            f"{archive}: would fill {in_gb(total_bytes)} when unpacked, expected are {in_gb(most_bytes)} at most; "
            f"nothing was unpacked; {fix}"
        )
    return members

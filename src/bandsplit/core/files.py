"""Atomic file writes, and journals that survive a kill and a full disk.

All functions raise a plain ``OSError`` that names the file; callers turn it into their own message.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

from bandsplit.core.unfinished import Unfinished, swept, temporary_name

try:
    import fcntl
except ImportError:  # no such locks on Windows: there, one process at a time may append to a journal
    fcntl = None


@contextmanager
def replacing(path: Path, suffix: str = ".part") -> Iterator[Path]:
    """Yield a temporary name in the folder of ``path``; the file with that name replaces ``path`` at the end.

    If the block raises, the temporary file is removed and ``path`` is unchanged.

    Args:
        path: the file to write; its folder must exist.
        suffix: of the temporary name, for writers that depend on it.

    Raises:
        OSError: the file cannot be written.
    """
    unfinished = Unfinished(temporary_name(path.parent, suffix))
    temporary = unfinished.path
    try:
        with swept(path.parent):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())  # otherwise a power cut could leave the new name with old or no content
            os.replace(temporary, path)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(temporary):  # users do not know the temporary name
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        unfinished.remove()


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file atomically: an existing file is replaced only by a complete one.

    Args:
        path: the file; its folder must exist.
        content: the bytes, or a function that writes them to a file object.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(path) as temporary:
        disk = _DiskFile(temporary, "w")
        with io.BufferedWriter(disk) as file:
            if not callable(content):
                file.write(content)
                return
            try:
                content(file)
            except Exception:
                if disk.error is not None:  # torch reports a full disk as "unexpected pos"
                    raise disk.error from None
                raise


class _DiskFile(io.FileIO):
    """A file that writes all bytes or raises, and remembers the error for callers of libraries that hide it."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return _write_all(super().write, data)
        except OSError as error:
            self.error = error
            raise


class Line(NamedTuple):
    """A line of a journal."""

    number: int
    """From 1."""
    text: str
    value: Any
    """The JSON value."""


class Content(NamedTuple):
    """A journal as read."""

    path: Path
    lines: list[Line]
    """Lines that are JSON, in order."""
    cut: list[Line]
    """Lines that begin like a row but are not JSON, because their writer was killed. They have no value."""
    foreign: list[Line]
    """All other lines; they were not written by this package."""

    @property
    def damage(self) -> str:
        """One line for users about the lines that were left out; otherwise empty."""
        numbers = sorted(line.number for line in self.cut + self.foreign)
        what = "a line that is" if len(numbers) == 1 else "lines that are"
        return f"{self.path}: left out {what} cut or damaged: {', '.join(map(str, numbers))}" if numbers else ""


class Journal:
    """A file of JSON lines that several processes may append to.

    A truncated line damages no other: the next line starts on a new line, and readers skip the truncated one.
    """

    def __init__(self, path: Path) -> None:
        """Store the path; the first append creates the file."""
        self.path = path

    def append(self, *lines: str) -> None:
        """Append lines of JSON and flush them to disk; if that fails, the file is unchanged.

        Raises:
            OSError: the file cannot be written.
        """
        data = "".join(f"{line}\n" for line in lines).encode()
        try:
            with self.path.open("ab+", buffering=0) as file, _locked(file, exclusive=True) as alone:
                end = file.seek(0, os.SEEK_END)
                if end:
                    file.seek(-1, os.SEEK_END)
                    data = data if file.read(1) == b"\n" else b"\n" + data
                try:
                    _write_all(file.write, data)
                    os.fsync(file.fileno())
                except BaseException:
                    if alone:
                        with suppress(OSError):
                            file.truncate(end)
                    raise
        except OSError as error:
            error.filename = str(self.path)
            raise

    def read(self) -> Content:
        """Read all lines, which are expected to be objects; lines that are not JSON are listed separately.

        Raises:
            OSError: the file is missing or cannot be read.
        """
        with self.path.open("rb") as file, _locked(file, exclusive=False):
            content = file.read()
        found = Content(self.path, [], [], [])
        for number, line in enumerate(content.split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                text = line.decode()
                found.lines.append(Line(number, text, json.loads(text)))
            except (ValueError, RecursionError):
                row = line.lstrip(b"\0")  # a power cut may leave zeros
                kind = found.cut if row.startswith(b"{") or not row else found.foreign
                kind.append(Line(number, line.decode(errors="replace"), None))
        return found


@contextmanager
def _locked(file: IO[bytes], *, exclusive: bool) -> Iterator[bool]:
    """Lock the file against other processes and threads; yield whether the lock was obtained."""
    locked = False
    if fcntl is not None:
        with suppress(OSError):  # some network disks do not support locks
            fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            locked = True
    try:
        yield locked
    finally:
        if fcntl is not None and locked:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough: a forked process may hold the file open


def _write_all(write: Callable[[Any], int | None], data: Any) -> int:
    """Call ``write`` until all bytes are written: on a full disk it writes a part before it raises."""
    view = memoryview(data).cast("B")
    done = 0
    while done < len(view):
        done += write(view[done:]) or 0
    return done

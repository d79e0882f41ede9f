"""Files that are complete or absent, and journals that survive a kill and a full disk.

Everything here raises plain ``OSError`` that names the file in question; callers turn it into their own message.
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
    """Yield a temporary name in the folder of ``path``; what is there at the end replaces ``path``.

    Nothing remains of the temporary file if the block raises, and ``path`` is then as it was.

    Args:
        path: the file to write; its folder must exist.
        suffix: of the temporary name, for writers that look at it.

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
        if error.filename is None or str(error.filename) == str(temporary):  # nobody knows the temporary name
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        unfinished.remove()


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a complete file or none; an existing one is replaced only then.

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
    """Lines that begin as a row but are no JSON: their writer was killed. They have no value."""
    foreign: list[Line]
    """All other lines: nothing that appends rows wrote them."""

    @property
    def damage(self) -> str:
        """One line for people about what was left out; empty if nothing was."""
        numbers = sorted(line.number for line in self.cut + self.foreign)
        what = "a line that is" if len(numbers) == 1 else "lines that are"
        return f"{self.path}: left out {what} cut or damaged: {', '.join(map(str, numbers))}" if numbers else ""


class Journal:
    """A file of JSON lines that several processes may append to.

    A line that was cut stays alone: the next one starts on a new line, and readers leave the cut one out.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; it is made by the first append."""
        self.path = path

    def append(self, *lines: str) -> None:
        """Append lines of JSON and bring them to the disk; if that fails, the file is as it was.

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
        """Read all lines, which are expected to be objects; those that are no JSON are set apart.

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
                row = line.lstrip(b"\0")  # which a power cut may leave
                kind = found.cut if row.startswith(b"{") or not row else found.foreign
                kind.append(Line(number, line.decode(errors="replace"), None))
        return found


@contextmanager
def _locked(file: IO[bytes], *, exclusive: bool) -> Iterator[bool]:
    """Keep other processes and threads from writing meanwhile; yield whether that is certain."""
    locked = False
    if fcntl is not None:
        with suppress(OSError):  # some network disks have no locks
            fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            locked = True
    try:
        yield locked
    finally:
        if fcntl is not None and locked:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough: a forked process may hold the file open


def _write_all(write: Callable[[Any], int | None], data: Any) -> int:
    """Call ``write`` until it has taken all bytes: on a full disk it takes a part before it raises."""
    view = memoryview(data).cast("B")
    done = 0
    while done < len(view):
        done += write(view[done:]) or 0
    return done

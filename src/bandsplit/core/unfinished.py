"""Temporary files and folders: registered before they exist, so that they are removed however the work ends."""

from __future__ import annotations

import atexit
import glob
import os
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bandsplit.core.interrupt import held

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None


def temporary_name(folder: Path, suffix: str = ".part") -> Path:
    """Return a unique, hidden file name; ``suffix`` begins with ".part"."""
    return folder / f".bandsplit-{uuid.uuid4().hex}{suffix}"


class Unfinished:
    """A temporary file or folder. It is removed on request, when this object is garbage collected, and at exit.

    The object is created before the file, so that an exception such as Ctrl-C cannot leave the file behind.
    """

    def __init__(self, path: Path) -> None:
        """Register the file or folder; it need not exist, now or later."""
        self.path = path
        self.remove = weakref.finalize(self, _remove, path, os.getpid())
        """Remove the file or folder; further calls do nothing."""


def _remove(path: Path, process: int) -> None:
    if process != os.getpid():
        return  # a forked process has a copy of the object but does not own the file
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Create a folder for use in ``with``; it is removed with its content even if Ctrl-C arrives before ``with``.

    Raises:
        OSError: the folder cannot be created.
    """
    folder = None
    try:
        with held():
            folder = tempfile.TemporaryDirectory(prefix="bandsplit-")
        return folder
    except BaseException:
        if folder is not None:
            folder.cleanup()
        raise


@contextmanager
def hidden_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder next to ``folder``, to be renamed to it; leftovers of killed processes are removed.

    Raises:
        OSError: it cannot be created.
    """
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}-*.part"):
        handle = _lock(leftover)
        if handle is not None:
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(handle)
    unfinished = Unfinished(folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}.part"))
    handle = None
    try:
        unfinished.path.mkdir(parents=True)
        handle = _lock(unfinished.path)
        yield unfinished.path
    except BaseException:
        # Threads that a second Ctrl-C did not wait for may still write; at exit they have ended.
        atexit.register(_remove, unfinished.path, os.getpid())
        raise
    finally:
        unfinished.remove()
        if handle is not None:
            os.close(handle)


def _lock(folder: Path) -> int | None:
    """Open a folder and lock it; None if another process has locked it, or if locks are not supported."""
    if fcntl is None:
        return None
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


@contextmanager
def swept(folder: Path) -> Iterator[None]:
    """Remove files that killed processes left in ``folder``, unless another process or thread is writing there.

    Locks on the folder detect this; without lock support, as on some network disks, old files stay.
    """
    if fcntl is None or not folder.is_dir():
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # another process or thread is writing
            else:
                for leftover in folder.glob(".bandsplit-*.part*"):
                    leftover.unlink(missing_ok=True)
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)

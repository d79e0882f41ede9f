"""Files and folders in the making: known before they exist, so that nothing remains of them however the work ends."""

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
    """Name a file that nobody else uses and that users do not see; ``suffix`` begins with ".part"."""
    return folder / f".bandsplit-{uuid.uuid4().hex}{suffix}"


class Unfinished:
    """A temporary file or folder. It is removed when that is asked for, when this object is lost, and at exit.

    Made before the file is, it leaves no gap in which an exception from outside, such as Ctrl-C, loses the file.
    """

    def __init__(self, path: Path) -> None:
        """Name the file or folder, which need not exist, now or later."""
        self.path = path
        self.remove = weakref.finalize(self, _remove, path, os.getpid())
        """Remove what is there; further calls do nothing."""


def _remove(path: Path, process: int) -> None:
    if process != os.getpid():
        return  # a forked process has a copy of the object, but the file is not its own
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Make a folder for use in ``with``, which is removed with all that is in it even if Ctrl-C comes before that.

    Raises:
        OSError: there is no room for it.
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
    """Yield a new folder beside ``folder``, to be renamed to it; what killed processes left of such is removed.

    Raises:
        OSError: it cannot be made.
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
        # Threads that a second Ctrl-C did not wait for may write on; at exit they have ended.
        atexit.register(_remove, unfinished.path, os.getpid())
        raise
    finally:
        unfinished.remove()
        if handle is not None:
            os.close(handle)


def _lock(folder: Path) -> int | None:
    """Open a folder and lock it; None where another process has done so, or where there are no locks."""
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
    """Remove files that killed processes left in ``folder``, unless another process or thread writes there now.

    Locks on the folder say so; where there are none, as on some network disks, old files stay.
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
                pass  # another one writes
            else:
                for leftover in folder.glob(".bandsplit-*.part*"):
                    leftover.unlink(missing_ok=True)
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)

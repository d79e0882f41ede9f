"""A folder of bounded size for files that can be made again; several processes may share it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from bandsplit.core.files import write_atomically

SUFFIX = ".cached"
"""End of the names of all files, so that no file of anyone else is removed."""
LOCK_WAIT_S = 60.0
KEPT_SHARE = 0.9
"""Share of the space that stays in use when old files are removed, so that not every file removes others."""


@dataclass(frozen=True)
class BoundedFolder:
    """Files of at most ``most_bytes`` together; those that were not used for longest make room for new ones."""

    path: Path
    """Made with the first file."""
    most_bytes: int

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is no such file."""
        path = self._place(name)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        with suppress(OSError):  # another process may have removed it, and the folder may be read-only
            os.utime(path)
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically, and remove others if it needs their space; too large a file is not written.

        Raises:
            OSError: it cannot be written, or another process holds the folder for too long.
        """
        if len(content) > self.most_bytes:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / ".lock", timeout=LOCK_WAIT_S):
            used = self._used_bytes() + len(content)
            if used > self.most_bytes:
                used = self._remove_oldest(len(content)) + len(content)
            # Written first: a process that is killed here leaves too large a number, which the next removal corrects.
            write_atomically(self.path / ".used", str(used).encode())
            write_atomically(self._place(name), content)

    def _place(self, name: str) -> Path:
        return self.path / f"{name}{SUFFIX}"

    def _used_bytes(self) -> int:
        """Return the recorded sum of the sizes; without a record, one that leads to a count."""
        try:
            return int((self.path / ".used").read_bytes())
        except (OSError, ValueError):
            return self.most_bytes

    def _remove_oldest(self, needed_bytes: int) -> int:
        """Remove files until there is room, and return the sum of the sizes of the others."""
        files = self.path.glob(f"*{SUFFIX}")
        known = sorted(((status := path.stat()).st_mtime_ns, status.st_size, path) for path in files)
        used = sum(size for _, size, _ in known)
        if used + needed_bytes > self.most_bytes:
            kept_bytes = min(KEPT_SHARE * self.most_bytes, self.most_bytes - needed_bytes)
            for _, size, path in known:
                if used <= kept_bytes:
                    break
                path.unlink(missing_ok=True)
                used -= size
        return used

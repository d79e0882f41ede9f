"""Disks that take no more: limited, full or read-only, and what may be left on them then."""

import errno
import io
import json
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from PIL import Image

from bandsplit.audio import files as audio
from bandsplit.models.card import read_card

REASONS = (
    *map(os.strerror, (errno.EFBIG, errno.ENOSPC, errno.EROFS, errno.EACCES)),
    "only a part was written to the disk",
    "the disk has 0.0 MB free",
)


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a disk that has only so much left."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """Make a folder that is a file system of so many MB."""
    folder.mkdir()
    if not _mount_memory(folder, megabytes):
        pytest.skip("this user may not mount a file system here")
    try:
        yield
    finally:
        _unmount(folder)


class Disk:
    """A folder that can be made to take no more."""

    def __init__(self, folder: Path, kind: str) -> None:
        """Make it.

        Args:
            folder: where; it must not exist.
            kind: ``half``: files may have half the size that is wanted; ``full``: not a byte more; ``read-only``. The
                last two are a file system of its own where the user may mount one, else the limit of this process's
                files, and a folder without the right to write.
        """
        self.folder, self.kind, self._mounted = folder, kind, False
        folder.mkdir()
        if kind in ("full", "read-only"):
            self._mounted = _mount_memory(folder, 64)
            if not self._mounted and kind == "read-only" and os.geteuid() == 0:
                pytest.skip("root may write everywhere, and may not mount a file system here")

    @contextmanager
    def broken(self, largest_bytes: int) -> Iterator[None]:
        """Take no more within this block; the largest file that is wanted has ``largest_bytes``."""
        if self.kind == "half" or (self.kind == "full" and not self._mounted):
            with largest_file(largest_bytes // 2 if self.kind == "half" else 0):
                yield
        elif self.kind == "full":
            filler = self.folder / "filler"
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
            yield
            filler.unlink()
        elif self._mounted:
            assert _mount("-o", "remount,ro", self.folder)
            yield
            assert _mount("-o", "remount,rw", self.folder)
        else:
            folders = [path for path in (self.folder, *self.folder.rglob("*")) if path.is_dir()]
            for folder in folders:
                folder.chmod(0o555)
            yield
            for folder in folders:
                folder.chmod(0o755)

    def close(self) -> None:
        """Remove the file system."""
        if self._mounted:
            _unmount(self.folder)

    def content(self) -> dict[str, bytes]:
        """Every file but locks: name -> content."""
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.name != "filler" and not path.name.endswith(".lock")
        }


def _mount(*arguments: str | Path) -> bool:
    return os.geteuid() == 0 and subprocess.run(["mount", *arguments], capture_output=True).returncode == 0


def _mount_memory(folder: Path, megabytes: int) -> bool:
    return _mount("-t", "tmpfs", "-o", f"size={megabytes * 1_000_000}", "tmpfs", folder)


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", folder], check=True)


def assert_complete(name: str, content: bytes, folder: Path) -> None:
    """Fail if a file is only a part of what its name promises."""
    suffix = Path(name).suffix
    if suffix in (".json", ".jsonl"):
        assert not content or content.endswith((b"\n", b"}")), name
        for text in content.splitlines() if suffix == ".jsonl" or not content else [content]:
            json.loads(text)
    elif suffix == ".safetensors":
        read_card(folder / name)
    elif suffix == ".pt":
        torch.load(io.BytesIO(content), weights_only=True)
    elif suffix in (".wav", ".flac"):
        audio.read(folder / name)
    elif suffix == ".svg":
        assert content.endswith(b"</svg>\n"), name
    elif suffix == ".png":
        Image.open(io.BytesIO(content)).load()
    elif suffix in (".csv", ".tex", ".md"):
        assert content.endswith(b"\n"), name
    else:
        raise AssertionError(f"{name}: nothing says when such a file is complete")

"""A small data set to be downloaded, and a folder to bring it to."""

import hashlib
import io
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bandsplit.core.errors import DataError, DownloadError
from bandsplit.core.fetching import Patience
from bandsplit.data.songs.download import KNOWN_SETS, MARKER, Downloaded, KnownSet, download_dataset
from webserver import Behaviour, Server

CALM = Patience(timeout_s=30, retries=2, pause_s=0)
HASTY = Patience(timeout_s=0.5, retries=2, pause_s=0)


class Archive(NamedTuple):
    body: bytes
    md5: str
    known: KnownSet


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def set_in(body: bytes) -> Archive:
    """Make a set as small as its archive, under a name that only the tests use."""
    known = replace(
        KNOWN_SETS["musdb18hq"], name="tiny", file="tiny.zip", archive_bytes=len(body), unpacked_bytes=2_000_000
    )
    return Archive(body, hashlib.md5(body).hexdigest(), known)


@dataclass
class Here:
    """A folder, the set to bring there, and a mirror that has it."""

    server: Server
    archive: Archive
    to: Path
    seen: list[tuple[str, int, int]] = field(default_factory=list)

    def mirror_does(self, *behaviours: Behaviour) -> None:
        self.server.pages["/sets/tiny.zip"] = list(behaviours)

    def download(self, patience: Patience = CALM, **options: Any) -> Downloaded:
        options = {"mirror": f"{self.server.url}/sets", "md5": self.archive.md5, **options}
        options.setdefault("progress", lambda *news: self.seen.append(news))
        return download_dataset(self.archive.known, self.to, patience=patience, **options)

    def error(self, **options: Any) -> str:
        with pytest.raises((DataError, DownloadError)) as caught:
            self.download(**options)
        return str(caught.value)

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.to.iterdir()) if self.to.exists() else []

    @property
    def ranges(self) -> list[str | None]:
        return [asked for _, asked in self.server.asked]


def contents(folder: Path) -> dict[str, bytes]:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files.pop(MARKER)
    return files

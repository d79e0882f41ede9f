"""Records of songs that were separated: lines of a manifest in a folder, or one file for each song of a catalogue."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from bandsplit.core.errors import AudioError
from bandsplit.core.files import Journal
from bandsplit.core.stores import Store
from bandsplit.separation.songs import Song

Facts = Mapping[str, Any]
"""A song and how it is separated: equal facts give equal stems."""


class Records(Protocol):
    """Results of earlier songs, of this process and others."""

    notes: Sequence[str]
    """Notes for the user on records that were left out."""

    def is_done(self, facts: Facts) -> bool:
        """Return whether a song was separated from the same file, by the same models and settings."""
        ...

    def write(self, facts: Facts, record: Facts) -> dict[str, Any]:
        """Record the result of a song; return what was written.

        Raises:
            AudioError: the disk is full, or gone, or a store refuses.
        """
        ...


class Manifest:
    """A journal in the output folder, ``manifest.jsonl``; each shard appends to its own and reads all."""

    def __init__(self, folder: Path, shard: str | None = None) -> None:
        """Read the earlier manifests."""
        name = "manifest.jsonl" if shard is None else f"manifest.{shard.replace('/', '-of-')}.jsonl"
        self._folder, self._journal = folder, Journal(folder / name)
        self._done: dict[str, Facts] = {}
        self._waiting: list[str] = []
        self._lock = threading.Lock()
        self.notes: Sequence[str] = self._read()

    def is_done(self, facts: Facts) -> bool:
        """Compare with the last record of the song, whose stems must be there in full."""
        record = self._done.get(facts["input"])
        if record is None or any(record.get(name) != value for name, value in facts.items()):
            return False
        sizes = record.get("output_bytes", {})  # not in records of older versions
        return all(_is_whole(self._folder / name, sizes.get(stem)) for stem, name in facts["outputs"].items())

    def write(self, facts: Facts, record: Facts) -> dict[str, Any]:
        """Append a line. Failures before the first song that is done wait for it: they alone create no folder."""
        line = _dated(record)
        try:
            with self._lock:
                self._waiting.append(json.dumps(line))
                if os.path.isdir(self._folder):
                    self._journal.append(*self._waiting)
                    self._waiting.clear()
        except OSError as error:
            raise AudioError(
                f"{self._journal.path}: cannot be written ({error.strerror}); the stems are complete, but the "
                f"next run will separate this song again"
            ) from None
        return line

    def _read(self) -> list[str]:
        notes: list[str] = []
        for path in sorted(self._folder.glob("manifest*.jsonl")) if os.path.isdir(self._folder) else ():
            try:
                content = Journal(path).read()
            except OSError:
                continue  # reported when the first record is written
            notes += [content.damage] if content.damage else []
            for line in content.lines:
                match line.value:
                    case {"status": "done", "input": str(song)}:
                        self._done[song] = line.value
        return notes


class CatalogueRecords:
    """One file for each song: ``done/<key>.json``, written after its stems, or ``failed/<key>.json``.

    The first is the commit: a song without it is separated again, whatever stems it has.
    """

    notes: Sequence[str] = ()

    def __init__(self, store: Store) -> None:
        """Take the folder of the catalogue."""
        self._store = store

    def is_done(self, facts: Facts) -> bool:
        """Return whether the song was committed before this process asked for the first time."""
        return _file_name(facts) in self._done

    def write(self, facts: Facts, record: Facts) -> dict[str, Any]:
        """Write the file of the song."""
        line, name = _dated(record), _file_name(facts)
        self._store.write(f"{record['status']}/{name}", json.dumps(line, indent=1).encode() + b"\n")
        return line

    def forgive(self, facts: Facts) -> None:
        """Remove the record of an earlier failure of a song that is done now."""
        if (name := _file_name(facts)) in self._failed:
            self._store.remove(f"failed/{name}")

    def write_list(self, songs: Sequence[Song]) -> str:
        """Store the list of songs under the hash of its content, so that it never changes; return its name."""
        lines = [json.dumps({"input": song.name, "track": song.track, **song.identify()}) for song in songs]
        content = "".join(f"{line}\n" for line in lines).encode()
        name = f"inputs/{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
        self._store.write(name, content)
        return name

    @cached_property
    def _done(self) -> set[str]:
        return self._store.names("done")

    @cached_property
    def _failed(self) -> set[str]:
        return self._store.names("failed")


def _is_whole(path: Path, size_bytes: int | None) -> bool:
    try:
        found_bytes = path.stat().st_size
    except OSError:
        return False
    return found_bytes == size_bytes if size_bytes is not None else found_bytes > 0


def _file_name(facts: Facts) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32] + ".json"


def _dated(record: Facts) -> dict[str, Any]:
    return {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **record}

"""What was found out about the files of a data set, kept beside it so that it is found out once.

Facts belong to files as they were (size and time of change); a changed file is looked at again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import platformdirs

from bandsplit.data.tracks import Dataset, Track

Progress = Callable[[int, int], None]
"""Told how many songs are done, of how many."""


def facts_folder(root: Path) -> Path:
    """Return the folder ``.bandsplit`` of a data set, or one in the user's cache where the set cannot be written to."""
    root = root.resolve()
    home = root if root.is_dir() else root.parent
    folder = home / ".bandsplit"
    try:
        folder.mkdir(exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    key = hashlib.sha256(str(root).encode(errors="surrogateescape")).hexdigest()[:12]
    folder = Path(platformdirs.user_cache_dir("bandsplit")) / "data" / f"{root.name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Facts:
    """A file of facts about songs: computed where they are missing or old, else read."""

    def __init__(self, dataset: Dataset, name: str) -> None:
        """Open ``name``.json in the facts folder of ``dataset``; a damaged file counts as empty."""
        self.path = facts_folder(dataset.root) / f"{name}.json"
        try:
            self._known = dict(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            self._known = {}

    def of(
        self, tracks: Sequence[Track], find: Callable[[Track], Any], progress: Progress | None = None
    ) -> Iterator[Any]:
        """Yield ``find(track)`` for each track, in order; tracks are looked at side by side, and all is stored."""
        stamps = [_stamp(track) for track in tracks]
        known = [self._known.get(_key(track)) for track in tracks]
        fresh = [entry is not None and entry["files"] == stamp for entry, stamp in zip(known, stamps, strict=True)]
        # Threads: decoding, hashing and transforming all release the interpreter.
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            pending = [None if done else pool.submit(find, track) for track, done in zip(tracks, fresh, strict=True)]
            try:
                for number, (track, job) in enumerate(zip(tracks, pending, strict=True), start=1):
                    if job is not None:
                        self._known[_key(track)] = {"files": stamps[number - 1], "facts": job.result()}
                    if progress:
                        progress(number, len(tracks))
                    yield self._known[_key(track)]["facts"]
            finally:
                pool.shutdown(cancel_futures=True)
                if not all(fresh):
                    self._save()

    def _save(self) -> None:
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        temporary.write_text(json.dumps(self._known, indent=1), encoding="utf-8")
        os.replace(temporary, self.path)


def _key(track: Track) -> str:
    return str(next(file.path for files in track.files.values() for file in files))


def _stamp(track: Track) -> list[list[Any]]:
    """Name, size and time of every file."""
    found = []
    for part, files in track.files.items():
        for file in files:
            status = file.path.stat()
            found.append([part, str(file.path), status.st_size, status.st_mtime_ns])
    return found

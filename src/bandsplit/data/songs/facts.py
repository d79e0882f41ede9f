"""Cache of facts about the files of a data set, stored next to it so that each file is analysed once.

Facts are valid for a file's size and modification time; a changed file is analysed again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bandsplit.core.errors import AudioError, DataError
from bandsplit.core.files import write_atomically
from bandsplit.core.interrupt import check
from bandsplit.core.machine import cores
from bandsplit.core.settings import cache_folder
from bandsplit.data.songs.tracks import Dataset, Track

FORMAT = 1
"""Incremented whenever the format of the cache changes: files in an older format count as empty."""

SongProgress = Callable[[int, int], None]
"""Called with the number of songs done and the total."""


def facts_folder(root: Path) -> Path:
    """Return the folder ``.bandsplit`` of a data set, or one in the user's cache if the set is not writable.

    Raises:
        DataError: neither is writable.
    """
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
    folder = cache_folder() / "data" / f"{root.name}-{key}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be created ({error.strerror}), and {home / '.bandsplit'} is not writable either; one of "
            f"them must store facts about the songs; make one of them writable"
        ) from None
    return folder


class Facts:
    """A file of facts about songs: read if they are up to date, otherwise computed."""

    def __init__(self, dataset: Dataset, name: str) -> None:
        """Open ``name``.json in the facts folder of ``dataset``; a damaged file counts as empty."""
        self.path = facts_folder(dataset.root) / f"{name}.json"
        self._known: dict[str, dict[str, Any]] = {}
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            if stored["format"] == FORMAT:
                songs = stored["songs"].items()
                self._known = {key: {"files": entry["files"], "facts": entry["facts"]} for key, entry in songs}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass

    def of(
        self,
        tracks: Sequence[Track],
        find: Callable[[Track], Any],
        progress: SongProgress | None = None,
        *,
        keep: Callable[[Any], bool] = lambda facts: True,
    ) -> Iterator[Any]:
        """Yield ``find(track)`` for each track, in order; tracks are analysed in parallel.

        Results for which ``keep`` returns False are not stored; the next call computes them again.
        """
        stamps = [_stamp(track) for track in tracks]
        known = [self._known.get(_key(track), {"files": None, "facts": None}) for track in tracks]
        fresh = [entry["files"] == stamp for entry, stamp in zip(known, stamps, strict=True)]
        # Threads suffice: decoding, hashing and transforming all release the GIL.
        with ThreadPoolExecutor(cores()) as pool:
            pending = [
                None if done else pool.submit(_unless_stopped, find, track)
                for track, done in zip(tracks, fresh, strict=True)
            ]
            try:
                for number, (track, job) in enumerate(zip(tracks, pending, strict=True), start=1):
                    facts = known[number - 1]["facts"] if job is None else job.result()
                    if job is not None and keep(facts):
                        self._known[_key(track)] = {"files": stamps[number - 1], "facts": facts}
                    if progress:
                        progress(number, len(tracks))
                    yield facts
            finally:
                pool.shutdown(cancel_futures=True)
                if not all(fresh):
                    self._save()

    def _save(self) -> None:
        content = json.dumps({"format": FORMAT, "songs": self._known}, indent=1).encode()
        try:
            write_atomically(self.path, content)
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be written ({error.strerror}), but facts about the songs must be stored; make "
                f"room on that disk"
            ) from None


def _unless_stopped(find: Callable[[Track], Any], track: Track) -> Any:
    check()
    return find(track)


def _key(track: Track) -> str:
    return str(next(file.path for files in track.files.values() for file in files))


def _stamp(track: Track) -> list[list[Any]]:
    """Return the length of the song, which options may change, and name, size and time of every file."""
    found: list[list[Any]] = [["samples", track.samples]]
    for part, files in track.files.items():
        for file in files:
            try:
                status = file.path.stat()
            except OSError as error:
                raise AudioError(
                    f"{file.path}: was removed after the data set was indexed ({error.strerror}); restore it"
                ) from None
            found.append([part, str(file.path), status.st_size, status.st_mtime_ns])
    return found

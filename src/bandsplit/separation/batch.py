"""Batches of songs: one way to separate, applied to many, with a record of each."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pooch import file_hash

from bandsplit.audio.streams import SecondsProgress
from bandsplit.core.errors import (
    AudioError,
    BandsplitError,
    Cancelled,
    ConfigError,
    NoRoomError,
    OutputError,
    StoreError,
)
from bandsplit.core.machine import cpu_name, cpu_threads, memory_gb
from bandsplit.core.stores import Store, canonical, fetch_file, shown_in
from bandsplit.core.unfinished import temporary_folder
from bandsplit.core.version import __version__
from bandsplit.separation.outputs import OutputConfig, folder_name
from bandsplit.separation.records import CatalogueRecords, Manifest, Records
from bandsplit.separation.separator import FileResult, Separator
from bandsplit.separation.songs import Song

Reason = Literal["song", "fetch", "room", "output", "time", "worker"]
"""Reason of a failure: the song itself, its store, the temporary folder of a machine, the disk or store of the results,
the time limit, or a worker that ended while it separated the song."""


class Outcome(NamedTuple):
    """Result of one attempt at a song."""

    status: Literal["done", "skipped", "failed", "cancelled"]
    record: dict[str, Any]
    result: FileResult | None = None
    error: BandsplitError | None = None
    reason: Reason | None = None


class Batch:
    """One way to separate, applied to many songs, each of which gets a record."""

    def __init__(
        self,
        separator: Separator,
        out: Path | Store,
        output: OutputConfig,
        *,
        start_s: float = 0,
        duration_s: float | None = None,
        shard: str | None = None,
    ) -> None:
        """Take the settings and read the earlier manifests.

        Args:
            separator: the models, loaded from files.
            out: the output folder, whose ``manifest.jsonl`` records the results; or the store of a catalogue, which
                has a file for each song.
            output: the stems and their files.
            start_s: start of the separated part of each song.
            duration_s: its greatest length.
            shard: "I/N" if other processes write to the same folder; each has a manifest of its own.

        Raises:
            ConfigError: ``output`` does not fit the separator's targets.
        """
        output.check(separator.targets)
        self.separator, self.output = separator, output
        self.part = {"start_s": start_s, "duration_s": duration_s}
        store = out if isinstance(out, Store) else None
        self._remote = None if store is None or store.local is not None else store
        self.out_dir = Path(out.local or out.name) if isinstance(out, Store) else out
        self.catalogue = None if store is None else CatalogueRecords(store)
        self._records: Records = self.catalogue or Manifest(self.out_dir, shard)
        plans = [chunks.model_dump(mode="json") for chunks in separator.chunks]
        settings = {"chunks": plans, "output": output.model_dump(mode="json")}
        self._how = {
            "models": {name: file_hash(str(path)) for name, path in _named(separator.files).items()},
            "settings": settings | self.part | {"targets": list(separator.targets), "precision": separator.precision},
            "version": __version__,
        }

    @property
    def notes(self) -> Sequence[str]:
        """Notes for the user on earlier records that were left out."""
        return self._records.notes

    def check(self, songs: Sequence[Song]) -> None:
        """Refuse songs whose stems would share a name, or replace another song.

        Raises:
            ConfigError: there are such songs; the message names both.
        """
        sources = {song.file for song in songs}
        owners: dict[Path, Song] = {}
        for song in songs:
            try:
                paths = self.paths(song)
            except BandsplitError:
                continue  # reported when its turn comes
            for path in paths.values():
                name = self._name_of(path)
                if (os.path.realpath(path) if self._remote is None else canonical(name)) in sources:
                    raise ConfigError(f"{name}: is a song and would become a stem of {song.name}; choose another -o")
                other = owners.setdefault(path, song)
                if other is not song:
                    folders = folder_name(song.path) != folder_name(other.path)
                    pattern = "{folder}/{track}" if folders else "{track}.{trackext}"
                    raise ConfigError(
                        f"{other.name} and {song.name}: the stems of both would be called {name}; choose another "
                        f"--filename, such as '{pattern}/{{stem}}.{{ext}}', or separate them one by one"
                    )

    def paths(self, song: Song) -> dict[str, Path]:
        """Name the stems of a song."""
        separator = self.separator
        return self.output.paths(self.out_dir, song.path, separator.targets, track=song.track, model=separator.name)

    def place(self, song: Song) -> str:
        """Name the folder of the stems of a song, as users know it."""
        return self._name_of(next(iter(self.paths(song).values())).parent)

    def is_done(self, song: Song) -> bool:
        """Return whether the stems exist and were made from this file by these models and settings.

        Raises:
            AudioError: the stems can have no names.
            StoreError: the records cannot be read.
        """
        return self._records.is_done(self._facts(song))

    def attempt(
        self, song: Song, progress: SecondsProgress | None = None, *, force: bool = False, limit: Callable[[], bool]
    ) -> Outcome:
        """Separate a song unless it is done. A failure is returned, not recorded: there may be more attempts.

        Args:
            song: the song.
            progress: as for `Separator.separate_file`.
            force: separate it even if it is done.
            limit: asked often whether the time for this song is over.
        """
        late = False

        def report(done_s: float, total_s: float, stage: str) -> bool:
            nonlocal late
            late = limit()
            return not late and (progress is None or progress(done_s, total_s, stage) is not False)

        try:
            if not force and self.is_done(song):
                return Outcome("skipped", self.describe(song, "skipped"))
            result, record = self.separate(song, report)
        except Cancelled:
            if late:
                return Outcome("failed", {}, error=time_error(song), reason="time")
            return Outcome("cancelled", {})  # reported by the code that stopped it
        except BandsplitError as error:
            kinds: dict[type[BandsplitError], Reason] = {
                OutputError: "output", StoreError: "fetch", NoRoomError: "room",
            }  # fmt: skip
            return Outcome("failed", {}, error=error, reason=kinds.get(type(error), "song"))
        except Exception as error:
            if self.catalogue is None:
                raise
            return unexpected(song, error, traceback.format_exc())
        return Outcome("done", record, result)

    def separate(self, song: Song, progress: SecondsProgress | None = None) -> tuple[FileResult, dict[str, Any]]:
        """Separate a song and record the result.

        Raises:
            BandsplitError: it failed.
        """
        facts = self._facts(song)  # of the file as it is before the separation
        remote = self._remote
        with _on_disk(song) as path, nullcontext(self.out_dir) if remote is None else _folder(song) as out_dir:
            try:
                result = self.separator.separate_file(
                    path, out_dir, progress, output=self.output, track=song.track, **self.part
                )
            except OutputError as error:
                if remote is None:
                    raise
                raise NoRoomError(
                    f"{song.name}: its stems wait in the temporary folder of the machine until they are uploaded; "
                    f"{error}; set TMPDIR to a folder on another disk"
                ) from None
            sizes = {stem: os.path.getsize(name) for stem, name in result.paths.items()}
            if remote is not None:
                for stem, name in facts["outputs"].items():
                    remote.put(result.paths[stem], name)
        record = {"status": "done", **facts, "output_bytes": sizes, "gain": result.gain, "audio_s": result.audio_s}
        record |= {"wall_s": round(result.wall_s, 3), "notes": list(result.notes)}
        record |= {} if self.catalogue is None else {"machine": self._machine()}
        return replace(result, paths=self.paths(song)), self._records.write(facts, record)

    def record_failure(self, song: Song, outcome: Outcome) -> dict[str, Any]:
        """Record that a song failed for good; return what was written.

        Raises:
            AudioError: as `Records.write`.
        """
        try:
            facts = self._facts(song)
        except AudioError:  # its stems can have no names
            facts = {"input": song.name, **song.identify(), "outputs": {}, **self._how}
        record = {"status": "failed", **facts, "outputs": {}, "error": str(outcome.error), **outcome.record}
        return self._records.write(facts, record if self.catalogue is None else record | {"reason": outcome.reason})

    def forgive(self, song: Song) -> None:
        """Forget an earlier failure of a song of a catalogue, which is done now."""
        if self.catalogue is not None:
            self.catalogue.forgive(self._facts(song))

    def describe(self, song: Song, status: str) -> dict[str, Any]:
        """Return a record without writing it."""
        return {"status": status, **self._facts(song)}

    def _name_of(self, path: Path) -> str:
        """Write a path below the output folder as users know it: below a store, it is no path."""
        if self._remote is None:
            return str(path)
        return f"{self._remote.name}/{path.relative_to(self.out_dir).as_posix()}".removesuffix("/.")

    def _machine(self) -> dict[str, Any]:
        """Describe what computes a song; for the estimate of energy."""
        torch = sys.modules.get("torch")
        gpu = torch is not None and str(self.separator.device).startswith("cuda")
        return {
            "cpu": cpu_name(),
            "cores": os.cpu_count() or 1,
            "threads": cpu_threads(),
            "memory_gb": round(memory_gb(), 1),
            "gpu": torch.cuda.get_device_name(self.separator.device) if torch is not None and gpu else None,
        }

    def _facts(self, song: Song) -> dict[str, Any]:
        outputs = {stem: path.relative_to(self.out_dir).as_posix() for stem, path in self.paths(song).items()}
        return {"input": song.name, **song.identify(), "outputs": outputs, **self._how}


def unexpected(song: Song, error: BaseException, trace: str) -> Outcome:
    """Return the failure of a song by an error that nobody foresaw; its record keeps the trace."""
    text = shown_in(next(iter(str(error).splitlines()), ""))
    message = f"{song.name}: failed unexpectedly ({type(error).__name__}: {text}); its record has the trace"
    return Outcome("failed", {"trace": shown_in(trace)}, error=BandsplitError(message), reason="song")


def time_error(song: Song) -> BandsplitError:
    """Return the error of a song that took longer than it may."""
    return BandsplitError(f"{song.name}: took longer than the time limit; raise it with --time-limit")


@contextmanager
def _on_disk(song: Song) -> Iterator[Path]:
    """Yield the file of a song: a temporary copy if it is elsewhere, whose name errors do not show."""
    if song.uri is None:
        yield song.path
        return
    with _folder(song) as folder:
        path = fetch_file(song.uri, folder)
        try:
            yield path
        except BandsplitError as error:
            raise type(error)(*(str(line).replace(str(path), song.name) for line in error.args)) from None


@contextmanager
def _folder(song: Song) -> Iterator[Path]:
    try:
        folder = temporary_folder()
    except OSError as error:
        raise NoRoomError(
            f"{song.name}: no temporary folder can be made for it ({error.strerror}); set TMPDIR to another disk"
        ) from None
    with folder as name:
        yield Path(name)


def _named(files: Sequence[Path]) -> dict[str, Path]:
    """Name files of models without their folders, which differ between machines; equal names get numbers in order."""
    names = [path.name for path in files]
    return {
        path.name if names.count(path.name) == 1 else f"{number}:{path.name}": path
        for number, path in enumerate(files, 1)
    }

"""Batches of songs: the files to separate, those that are done already, and the manifest of results."""

import glob
import json
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pooch import file_hash

from bandsplit.audio.streams import SecondsProgress
from bandsplit.core.errors import AudioError, BandsplitError, Cancelled, ConfigError
from bandsplit.core.files import Journal
from bandsplit.core.version import __version__
from bandsplit.separation.outputs import OutputConfig, track_name
from bandsplit.separation.separator import FileResult, Separator

SUFFIXES = frozenset(
    "." + suffix
    for suffix in (
        *("wav", "flac", "mp3", "ogg", "oga", "opus", "aif", "aiff", "caf"),
        *("m4a", "m4b", "mp4", "aac", "mov", "webm", "mka", "mkv", "wma"),
    )
)
"""Suffixes of the files that are taken from folders."""


@dataclass(frozen=True)
class Song:
    """A file, and the name of the folder for its stems, with the folders above the file if it was found in one."""

    path: Path
    track: str


def find_songs(inputs: Iterable[str], out_dir: Path, stdin: Iterable[str] = ()) -> list[Song]:
    """Find the files that the inputs name, each once.

    Args:
        inputs: files, folders (all audio in them, at any depth), patterns such as ``*.flac``, ``@list.txt`` (a name a
            line), and ``-`` (names from ``stdin``).
        out_dir: the output folder; files in it are not taken.
        stdin: lines with names.

    Raises:
        ConfigError: a list cannot be read, or a folder or pattern has no audio files.
    """
    songs: dict[str, Song] = {}
    for given in inputs:
        if given == "-":
            found = [song for line in _names(stdin) for song in _expand(line, out_dir)]
        elif given.startswith("@") and not os.path.exists(given):
            found = [song for line in _names(_lines(Path(given[1:]))) for song in _expand(line, out_dir)]
        else:
            found = _expand(given, out_dir)
        for song in found:
            songs.setdefault(os.path.realpath(song.path), song)
    if not songs:
        raise ConfigError("no audio files were named; give files, folders, patterns, @list.txt, or - for stdin")
    return list(songs.values())


def choose_shard(songs: Sequence[Song], shard: str) -> list[Song]:
    """Return the songs that the I-th of N processes takes, for ``shard`` "I/N".

    Raises:
        ConfigError: it has another form, or I is not in 1 to N.
    """
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"shard: {shard!r} is not I/N with 1 <= I <= N, such as 2/8")
    return list(songs[int(number) - 1 :: int(count)])


class Batch:
    """One way to separate, applied to many songs; ``manifest.jsonl`` in the output folder records the results."""

    def __init__(
        self,
        separator: Separator,
        out_dir: Path,
        output: OutputConfig,
        *,
        start_s: float = 0,
        duration_s: float | None = None,
        shard: str | None = None,
    ) -> None:
        """Take the settings and read the earlier manifests.

        Args:
            separator: the models, loaded from files.
            out_dir: the output folder.
            output: the stems and their files.
            start_s: start of the separated part of each song.
            duration_s: its greatest length.
            shard: "I/N" if other processes write to the same folder; each has a manifest of its own.

        Raises:
            ConfigError: ``output`` does not fit the separator's targets.
        """
        output.check(separator.targets)
        self.separator, self.out_dir, self.output = separator, out_dir, output
        self.part = {"start_s": start_s, "duration_s": duration_s}
        plans = [chunks.model_dump(mode="json") for chunks in separator.chunks]
        settings = {"chunks": plans, "output": output.model_dump(mode="json")}
        self._how = {
            "models": {name: file_hash(str(path)) for name, path in _named(separator.files).items()},
            "settings": settings | self.part | {"targets": list(separator.targets), "precision": separator.precision},
            "version": __version__,
        }
        name = "manifest.jsonl" if shard is None else f"manifest.{shard.replace('/', '-of-')}.jsonl"
        self._manifest = Journal(out_dir / name)
        self._done, self.notes = _read_manifests(out_dir)

    def check(self, songs: Sequence[Song]) -> None:
        """Refuse songs whose stems would share a name, or replace another song.

        Raises:
            ConfigError: there are such songs; the message names both.
        """
        sources = {os.path.realpath(song.path) for song in songs}
        owners: dict[Path, Path] = {}
        for song in songs:
            try:
                paths = self.paths(song)
            except BandsplitError:
                continue  # reported when its turn comes
            for path in paths.values():
                if os.path.realpath(path) in sources:
                    raise ConfigError(f"{path}: is a song and would become a stem of {song.path}; choose another -o")
                other = owners.setdefault(path, song.path)
                if other != song.path:
                    raise ConfigError(
                        f"{other} and {song.path}: the stems of both would be called {path}; choose another "
                        f"--filename, such as '{{track}}.{{trackext}}/{{stem}}.{{ext}}', or separate them one by one"
                    )

    def paths(self, song: Song) -> dict[str, Path]:
        """Name the stems of a song."""
        separator = self.separator
        return self.output.paths(self.out_dir, song.path, separator.targets, track=song.track, model=separator.name)

    def is_done(self, song: Song) -> bool:
        """Return whether the stems exist and were made from this file by these models and settings."""
        record = self._done.get(str(song.path))
        wanted = self._key(song)
        return (
            record is not None
            and all(record.get(name) == value for name, value in wanted.items())
            and all(os.path.isfile(path) for path in self.paths(song).values())
        )

    def separate(self, song: Song, progress: SecondsProgress | None = None) -> tuple[FileResult, dict[str, Any]]:
        """Separate a song and record the result.

        Raises:
            BandsplitError: it failed; the failure is recorded too.
        """
        key = self._key(song)  # of the file as it is before the separation
        try:
            result = self.separator.separate_file(
                song.path, self.out_dir, progress, output=self.output, track=song.track, **self.part
            )
        except Cancelled:
            raise
        except BandsplitError as error:
            with suppress(BandsplitError):
                self.record({"status": "failed", **key, "error": str(error)})
            raise
        record = {"status": "done", **key, "gain": result.gain, "audio_s": result.audio_s}
        record |= {"wall_s": round(result.wall_s, 3), "notes": list(result.notes)}
        return result, self.record(record)

    def describe(self, song: Song, status: str) -> dict[str, Any]:
        """Return a record without writing it."""
        return {"status": status, **self._key(song)}

    def record(self, record: dict[str, Any]) -> dict[str, Any]:
        """Append to the manifest, in one write; return what was written.

        Raises:
            AudioError: the disk is full, or gone.
        """
        record = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **record}
        try:
            if os.path.isdir(self.out_dir):  # not created only to record a failure
                self._manifest.append(json.dumps(record))
        except OSError as error:
            raise AudioError(
                f"{self._manifest.path}: cannot be written ({error.strerror}); the stems are complete, but the "
                f"next run will separate this song again"
            ) from None
        return record

    def _key(self, song: Song) -> dict[str, Any]:
        try:
            facts = song.path.stat()
            file = {"bytes": facts.st_size, "modified_ns": facts.st_mtime_ns}
        except OSError:
            file = {}
        outputs = {stem: path.relative_to(self.out_dir).as_posix() for stem, path in self.paths(song).items()}
        return {"input": str(song.path), **file, "outputs": outputs, **self._how}


def _named(files: Sequence[Path]) -> dict[str, Path]:
    """Name files of models: by their paths where several have one name."""
    names = [path.name for path in files]
    return {path.name if names.count(path.name) == 1 else str(path): path for path in files}


def _expand(given: str, out_dir: Path) -> list[Song]:
    path = Path(given)
    if os.path.isdir(given):  # unlike Path.is_dir, it accepts names that are too long
        found = _walk(path, out_dir)
    elif glob.has_magic(given) and not os.path.lexists(given):
        found = []
        for name in sorted(_deep_glob(given) if "**" in given else glob.glob(given)):
            matched = Path(name)
            found += _walk(matched, out_dir) if os.path.isdir(name) else [Song(matched, track_name(matched))]
    else:
        return [Song(path, track_name(path))]
    if not found:
        raise ConfigError(f"{given}: no audio files were found; the folder or pattern must have wav, flac, mp3, ...")
    return found


def _deep_glob(pattern: str) -> list[str]:
    """Expand a pattern with ``**`` as `glob.glob` does, but without following links, which may lead in circles."""
    wanted = Path(pattern)
    return [
        str(path)
        for path in Path(wanted.anchor).glob(str(wanted.relative_to(wanted.anchor)))
        if not any(part.startswith(".") and part not in wanted.parts for part in path.parts)
    ]


def _walk(folder: Path, out_dir: Path) -> list[Song]:
    """Find the audio below a folder, without following links to folders, which may lead in circles."""
    outputs = os.path.realpath(out_dir)
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and os.path.realpath(Path(place, name)) != outputs
        )
        for name in sorted(names):
            path = Path(place, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                found.append(Song(path, (path.parent.relative_to(folder) / track_name(path)).as_posix()))
    return found


def _lines(path: Path) -> list[str]:
    try:
        # Not splitlines, which also splits at characters that names may contain; Notepad of Windows writes a BOM first.
        return path.read_bytes().decode("utf-8-sig", "surrogateescape").split("\n")
    except OSError as error:
        raise ConfigError(f"@{path}: the list cannot be read ({error.strerror}); check its name") from None


def _names(lines: Iterable[str]) -> list[str]:
    names = [line.strip("\r\n") for line in lines if line.strip()]
    if any("\0" in name for name in names):
        raise ConfigError("the list of names contains a null byte; it must be text, one name a line")
    return names


def _read_manifests(out_dir: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the last record of each input that was separated, and notes for the user on lines that were left out."""
    done: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for path in sorted(out_dir.glob("manifest*.jsonl")) if os.path.isdir(out_dir) else ():
        try:
            content = Journal(path).read()
        except OSError:
            continue  # reported when the first record is written
        notes += [content.damage] if content.damage else []
        for line in content.lines:
            match line.value:
                case {"status": "done", "input": str(song)}:
                    done[song] = line.value
    return done, notes

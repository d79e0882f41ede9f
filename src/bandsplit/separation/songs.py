"""Songs to separate: files, folders, patterns, lists, URIs, and the part of them that a shard takes."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from bandsplit.core.errors import ConfigError, StoreError
from bandsplit.core.stores import canonical, facts_of, find_files, is_pattern, is_uri, local_path, read_text, shown
from bandsplit.separation.outputs import track_name

SUFFIXES = frozenset(
    "." + suffix
    for suffix in (
        *("wav", "flac", "mp3", "ogg", "oga", "opus", "aif", "aiff", "caf"),
        *("m4a", "m4b", "mp4", "aac", "mov", "webm", "mka", "mkv", "wma"),
    )
)
"""Suffixes of the files that are taken from folders."""
_BYTES_PER_S = {".wav": 176_400, ".aif": 176_400, ".aiff": 176_400, ".caf": 176_400, ".flac": 110_000}
"""Usual rates of stereo at 44.1 kHz; `about_s` orders songs by them, so rough ones do."""
_CODED_BYTES_PER_S = 24_000
_QUESTIONS = 32
"""Songs that a store is asked about at the same time."""


@dataclass(frozen=True)
class Song:
    """A song to separate, and the name of the folder for its stems, with the folders above it in a folder given."""

    path: Path
    """The file; of a song that is elsewhere, its URI as a path, which gives names and suffixes."""
    track: str
    uri: str | None = None
    """Where it is, unless it is a local file."""
    facts: Mapping[str, Any] | None = None
    """Its size and a tag that changes with its content, as its store listed them."""

    @property
    def name(self) -> str:
        """The path or URI, as users know it and records hold it: without the secrets of a signed address."""
        return str(self.path) if self.uri is None else shown(self.uri)

    @property
    def file(self) -> str:
        """The file itself: equal for songs that are one file under several names."""
        return os.path.realpath(self.path) if self.uri is None else canonical(self.uri)

    def absolute(self) -> Song:
        """Return the song with a path that any process of this machine understands."""
        return self if self.uri else replace(self, path=self.path.absolute())

    def identify(self) -> Mapping[str, Any]:
        """Return facts that change with the content of the file; none if it cannot be reached."""
        if self.uri is not None:
            facts = self.facts or {}
            if self.uri == self.name or facts.get("tag"):
                return facts
            # The query may choose the song, and nothing else says which one it is.
            return {**facts, "query": hashlib.sha256(self.uri.encode("utf-8", "surrogateescape")).hexdigest()[:16]}
        try:
            facts = self.path.stat()
        except OSError:
            return {}
        return {"bytes": facts.st_size, "modified_ns": facts.st_mtime_ns}


def find_songs(inputs: Iterable[str], out: Path | str, stdin: Iterable[str] = ()) -> list[Song]:
    """Find the files that the inputs name, each once.

    Args:
        inputs: files, folders (all audio in them, at any depth), patterns such as ``*.flac``, ``@list.txt`` (a name a
            line), and ``-`` (names from ``stdin``); each may be a URI.
        out: the output folder; files in it are not taken.
        stdin: lines with names.

    Raises:
        ConfigError: a list cannot be read, or a folder or pattern has no audio files.
        StoreError: the store of a URI cannot be read.
    """
    songs: dict[str, Song] = {}
    for given in inputs:
        if given == "-":
            found = _expand_all(_names(stdin), out)
        elif given.startswith("@") and not os.path.exists(given):
            found = _expand_all(_names(_lines(given[1:])), out)
        else:
            found = _expand(given, out)
        for song in found:
            songs.setdefault(song.file, song)
    if not songs:
        raise ConfigError("no audio files were named; give files, folders, patterns, @list.txt, or - for stdin")
    return list(songs.values())


def look_up(songs: Sequence[Song]) -> list[Song]:
    """Return the songs with their facts: those of stores are asked for, many at a time. Missing songs have none."""

    def ask(song: Song) -> Song:
        if song.uri is None or song.facts:
            return song
        try:
            return replace(song, facts=facts_of(song.uri))
        except StoreError:
            return song  # reported when its turn comes

    with ThreadPoolExecutor(_QUESTIONS) as pool:
        return list(pool.map(ask, songs))


def about_s(song: Song) -> float:
    """Estimate the length of a song from the size and the kind of its file, so that it need not be opened."""
    size_bytes = song.identify().get("bytes") or 0
    return size_bytes / _BYTES_PER_S.get(song.path.suffix.lower(), _CODED_BYTES_PER_S)


def choose_shard(songs: Sequence[Song], shard: str) -> list[Song]:
    """Return the songs that the I-th of N processes takes, for ``shard`` "I/N".

    Raises:
        ConfigError: it has another form, or I is not in 1 to N.
    """
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"shard: {shard!r} is not I/N with 1 <= I <= N, such as 2/8")
    return list(songs[int(number) - 1 :: int(count)])


def _expand_all(names: Sequence[str], out: Path | str) -> list[Song]:
    """Expand names, of which those of stores may cost questions, many at a time."""
    with ThreadPoolExecutor(_QUESTIONS) as pool:
        return [song for songs in pool.map(partial(_expand, out=out), names) for song in songs]


def _expand(given: str, out: Path | str) -> list[Song]:
    local, out_dir = local_path(given), local_path(str(out))
    found = _expand_uri(given, str(out)) if local is None else _expand_path(str(local), out_dir)
    if not found:
        raise ConfigError(
            f"{shown(given)}: no audio files were found; the folder or pattern must have wav, flac, mp3, ..."
        )
    return found


def _expand_uri(given: str, out: str) -> list[Song]:
    songs, pattern, name = [], is_pattern(given), Path(shown(given))
    is_song = not pattern and name.suffix.lower() in SUFFIXES  # a long list of plain names costs no questions
    files = [] if is_song else find_files(given, pattern=pattern)
    if is_song or (len(files) == 1 and not files[0].facts):
        return [Song(name, track_name(name), uri=given)]
    for uri, facts in files:
        path = PurePosixPath(shown(uri))
        hidden = path.name.startswith(".") or canonical(uri).startswith(f"{canonical(out).rstrip('/')}/")
        if path.suffix.lower() in SUFFIXES and not hidden:
            # Without the schemes, of which some have two names.
            folders = [PurePosixPath(name.partition("://")[2]) for name in (shown(uri), shown(given))]
            folder = PurePosixPath(".") if pattern else folders[0].parent.relative_to(folders[1])
            songs.append(Song(Path(path), (folder / track_name(Path(path))).as_posix(), uri, facts))
    return songs


def _expand_path(given: str, out_dir: Path | None) -> list[Song]:
    path = Path(given)
    if os.path.isdir(given):  # unlike Path.is_dir, it accepts names that are too long
        return _walk(path, out_dir)
    if glob.has_magic(given) and not os.path.lexists(given):
        found = []
        for name in sorted(_deep_glob(given) if "**" in given else glob.glob(given)):
            matched = Path(name)
            found += _walk(matched, out_dir) if os.path.isdir(name) else [Song(matched, track_name(matched))]
        return found
    return [Song(path, track_name(path))]


def _deep_glob(pattern: str) -> list[str]:
    """Expand a pattern with ``**`` as `glob.glob` does, but without following links, which may lead in circles."""
    wanted = Path(pattern)
    return [
        str(path)
        for path in Path(wanted.anchor).glob(str(wanted.relative_to(wanted.anchor)))
        if not any(part.startswith(".") and part not in wanted.parts for part in path.parts)
    ]


def _walk(folder: Path, out_dir: Path | None) -> list[Song]:
    """Find the audio below a folder, without following links to folders, which may lead in circles."""
    outputs = None if out_dir is None else os.path.realpath(out_dir)
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


def _lines(name: str) -> list[str]:
    if is_uri(name) and local_path(name) is None:
        return read_text(name).split("\n")
    try:
        # Not splitlines, which also splits at characters that names may contain; Notepad of Windows writes a BOM first.
        return (local_path(name) or Path()).read_bytes().decode("utf-8-sig", "surrogateescape").split("\n")
    except OSError as error:
        raise ConfigError(f"@{name}: the list cannot be read ({error.strerror}); check its name") from None


def _names(lines: Iterable[str]) -> list[str]:
    names = [line.strip("\r\n") for line in lines if line.strip()]
    if any("\0" in name for name in names):
        raise ConfigError("the list of names contains a null byte; it must be text, one name a line")
    return names

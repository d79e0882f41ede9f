"""Errors in the words of a client: by the names that it knows, and without folders of this machine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from bandsplit.serve.job import suffix_of


def name_song(text: str, song: Path, name: str) -> str:
    """Name a song as its owner does, also in a command that an error advises.

    Args:
        text: the error.
        song: its file, whose name is ``song`` with a suffix.
        name: its name, as `clean_name` returns it.
    """
    stem = name[: len(name) - len(suffix_of(name))]

    def rename(found: re.Match[str]) -> str:
        if found["to"] is None:
            return name
        return f"ffmpeg -i {shlex.quote(name)} {shlex.quote(stem + found['to'])}"

    return re.sub(rf"{re.escape(str(song))}|ffmpeg -i {re.escape(song.name)} song(?P<to>[\w-]*(\.\w+)?)", rename, text)


def shorten_paths(text: str, files: Iterable[Path]) -> str:
    """Replace the paths of files by their names."""
    for path in sorted(files, key=lambda path: -len(str(path))):
        text = text.replace(str(path), path.name)
    return text

"""Jobs: one song each, what a client wants of it, and what became of it."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field

from bandsplit.core.config import Config
from bandsplit.core.printable import printable

State = Literal["queued", "running", "done", "failed", "cancelled"]
Format = Literal["wav", "flac", "mp3"]

_LONGEST_NAME = 200


class Wish(Config):
    """Separation that a client wants."""

    model: str
    """Id of a model in `/models`."""
    format: Format = "wav"
    """Format of the stems: float32 wav, 24-bit flac, or mp3."""
    two_stems: str | None = None
    """One target of the model: the stems are this one and the rest of the song. Null: all targets."""


class Result(Config):
    """Stems of a song, and copies of them to listen to."""

    stems: dict[str, str]
    """Stem -> name of its file."""
    audio_s: float
    """Length of the song."""
    wall_s: float
    """Time of the separation, without that of the copies."""
    notes: tuple[str, ...]
    """Notes for the user: channels duplicated, audio resampled, levels changed."""
    listen_hz: int
    """Sample rate of the copies."""
    listen_gain_db: float
    """Below 0 where the copies were turned down together so that none clips."""


class Job(Wish):
    """A song, its separation, and its state."""

    id: str = Field(pattern="^[0-9a-f]{32}$")
    """Random, so that it cannot be guessed."""
    number: int
    """Order of arrival."""
    name: str
    """Name of the song, as it was uploaded."""
    bytes: int
    """Size of the upload."""
    state: State = "queued"
    created_at: float
    """Time of the upload, in seconds since 1970."""
    ended_at: float | None = None
    """Time when it was done, failed or was cancelled."""
    about_s: float | None = None
    """Length of the song as its header states it; null if that takes decoding."""
    deaths: int = 0
    """Number of times that the process died while it separated this song."""
    error: str | None = None
    """Reason of a failure."""
    result: Result | None = None
    """Only of jobs that are done."""

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("queued", "running")

    @property
    def track(self) -> str:
        """Name of the song without its suffix, fit for names of files."""
        stem = self.name.rpartition(".")[0] if self.suffix else self.name
        return re.sub(r'[/\\:*?"<>|]', "_", stem).strip(". ") or "song"

    @property
    def suffix(self) -> str:
        """Suffix of the name, as `suffix_of` returns it."""
        return suffix_of(self.name)


class Progress(Config):
    """Progress of the job that runs."""

    stage: str
    """``load``, ``decode``, ``count``, ``separate``, ``write`` or ``listen``."""
    share: float
    """Part of the job that is done, 0 to 1 over all stages."""
    left_s: float | None = None
    """Time until the job is done, as far as it can be known."""


class JobView(Job):
    """A job as clients see it."""

    position: int | None = None
    """Place in the queue, from 1; null unless it waits."""
    progress: Progress | None = None
    """Only of the job that runs."""
    left_s: float | None = None
    """Time until it is done; null if it is not known."""


def clean_name(name: str) -> str:
    """Make a name from a client fit to be shown: its last part, on one line, of bounded length."""
    shown = printable(re.split(r"[/\\]", name)[-1]).strip()
    if len(shown) > _LONGEST_NAME:
        shown = shown[: _LONGEST_NAME - 10] + suffix_of(shown)
    return shown or "song"


def suffix_of(name: str) -> str:
    """Return the suffix of a name, with its dot, in lower case; empty without one or if it is not plain."""
    found = re.search(r"\.[A-Za-z0-9]{1,5}$", name)
    return found[0].lower() if found else ""

"""Errata of MUSDB18 and MUSDB18-HQ: known faults of songs, with their sources, and three ways to treat them.

The faults are what the authors of the data set list, and what a listener reported to them; see docs/data.md#errata.
"""

from __future__ import annotations

import functools
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from importlib import resources
from typing import Literal, TypeAlias

from bandsplit.core.config import Config
from bandsplit.data.songs.tracks import MIXTURE, Dataset, Errata, Track

ErrataChoice: TypeAlias = Literal["keep", "exclude", "relabel"]
"""Treatment of songs with listed faults: as they are; left out; or repaired, where other labels of their files can."""


class Erratum(Config):
    """A known fault of a song."""

    song: str
    """Name of the song."""
    part: str
    """The stem at fault, or ``mixture``."""
    from_s: tuple[float, ...] = ()
    """Where the fault begins, in seconds; empty: the sources do not say, so it may be anywhere."""
    kind: Literal["bleeding", "misplaced", "noise", "sum"]
    """Other instruments are audible in the stem; it holds parts of another stem; it has noise; the mixture is not the
    sum of the stems."""
    text: str
    """The fault in words."""
    confidence: Literal["listed", "reported"]
    """Listed by the authors of the data set; or reported by one listener, and not confirmed."""
    sources: tuple[str, ...]
    """Addresses of the list or the report."""

    def __str__(self) -> str:
        """Return the fault, its place and its source in one line."""
        places = ", ".join(
            f"{minutes:.0f}:{seconds:02.0f}" for minutes, seconds in (divmod(at, 60) for at in self.from_s)
        )
        return f"{self.text}{f' (from {places})' if places else ''} ({self.confidence}: {self.sources[-1]})"


@functools.cache
def all_errata() -> tuple[Erratum, ...]:
    """Return all known errata, the listed ones first."""
    text = resources.files("bandsplit.data.songs").joinpath("errata.json").read_text(encoding="utf-8")
    return tuple(map(Erratum.parse, json.loads(text)))


def errata_of(track: Track) -> tuple[Erratum, ...]:
    """Find the errata of a song, by its name and parts."""
    name = unicodedata.normalize("NFC", track.name)
    return tuple(each for each in all_errata() if each.song == name and each.part in (MIXTURE, *track.stems))


def apply_errata(dataset: Dataset, choice: ErrataChoice) -> Dataset:
    """Treat songs with listed errata; its choices say what was done. Faults that were only reported are kept.

    A song whose mixture is not the sum of its stems can be relabelled: its mixture becomes the sum. The data set
    records the treatment if it changed any song.
    """
    if choice == "keep":
        return dataset
    errata: Errata | None = None
    tracks: list[Track] = []
    notes: list[str] = []
    for track in dataset.tracks:
        listed = [each for each in errata_of(track) if each.confidence == "listed"]
        label = f"errata: {track.split}/{track.name}"
        if listed and choice == "exclude":
            notes.append(f"{label} is left out: {_join(listed)}")
            errata = choice
            continue
        if any(each.kind == "sum" for each in listed) and track.mixture is not None:
            track, errata = replace(track, mixture=None), choice
            notes.append(f"{label}: the mixture is the sum of the stems")
        if others := [each for each in listed if each.kind != "sum"]:
            notes.append(f"{label} is kept, no other label repairs it: {_join(others)}")
        tracks.append(track)
    return replace(dataset, tracks=tuple(tracks), choices=(*dataset.choices, *notes), errata=errata)


def _join(errata: Iterable[Erratum]) -> str:
    return "; ".join(f"{each.part}: {each.text}" for each in errata)

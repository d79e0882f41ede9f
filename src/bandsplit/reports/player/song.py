"""Songs as the player's markup describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MIXTURE, REFERENCE = "mixture", "reference"


@dataclass(frozen=True)
class Version:
    """One signal of a track: the mixture, a reference or an estimate."""

    key: str
    """Its key among the signals of the song."""
    name: str
    picture: str
    """Address of its picture, which spans exactly the signal."""


@dataclass(frozen=True)
class PlayerSong:
    """A song, its tracks, and their signals."""

    id: str
    name: str
    duration_s: float
    gain_db: float
    """Below 0 where all signals were turned down together so that none clips."""
    systems: tuple[str, ...]
    """Names of the systems whose estimates can be exchanged for the references; empty if there is nothing to choose."""
    tracks: Mapping[str, tuple[Version, ...]]
    """Mixture or target -> its signals, references last."""

    def starts_muted(self, track: str) -> bool:
        """Return whether a track is muted at first: estimates sound, or references if there are no estimates."""
        if track == MIXTURE:
            return len(self.tracks) > 1
        return bool(self.systems) and all(version.name == REFERENCE for version in self.tracks[track])

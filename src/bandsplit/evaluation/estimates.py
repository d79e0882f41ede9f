"""Stems that any tool wrote, as a system to score: ``folder/[<split>/]<song>/<target>.wav`` or ``.flac``.

Tools that name a folder after the file they separate write ``<song>/mixture/<target>.wav``, which is found as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bandsplit.audio import files as audio
from bandsplit.core.errors import AudioError, BandsplitError, DataError
from bandsplit.data.songs.tracks import FORMATS, MIXTURE, Audio, Track, TrackAudio
from bandsplit.evaluation.systems import About, hash_files

_SHOWN = 10


def name_and_folder(text: str) -> tuple[str, Path]:
    """Split ``NAME=DIR``; without a name, the name of the folder is used.

    Raises:
        DataError: there is no such folder.
    """
    name, equals, rest = text.partition("=")
    named = bool(equals) and not Path(text).is_dir()
    folder = Path(rest if named else text)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of estimates; give DIR or NAME=DIR with DIR/<song>/<target>.wav")
    return (name if named and name else folder.resolve().name), folder


class EstimateFiles:
    """The stems of some songs, found and checked before anything is scored."""

    def __init__(self, folder: Path, tracks: Sequence[Track], targets: Sequence[str]) -> None:
        """Look for the stems ``targets`` of every song.

        Files that are longer than their song are cut at its end, shorter ones are filled with zeros, as museval does;
        `notes` names them.

        Raises:
            DataError: a song or a stem is missing, exists twice, cannot be read, or has another sample rate or number
                of channels than its song; the message names the files.
        """
        self.notes: list[str] = []
        self._files: dict[tuple[str, str], dict[str, Path]] = {}
        targets = tuple(targets)
        problems: list[str] = []
        for track in tracks:
            try:
                place = _song_folder(folder, track)
                found = {target: _stem_file(place, track, target, targets) for target in targets}
                self._note_lengths(place, track, {path: _check(path, track) for path in found.values()})
            except BandsplitError as error:
                problems.append(str(error))
            else:
                self._files[track.split, track.name] = found
        if problems:
            more = [f"... and {len(problems) - _SHOWN} more songs"] if len(problems) > _SHOWN else []
            raise DataError(*problems[:_SHOWN], *more)
        # One hash for all songs: rows of a song that was separated again are never averaged with the older rows.
        source = hash_files(path for song in self._files.values() for path in song.values())
        self._about = About(inference="files", source=source, targets=targets, timed=False)

    def _note_lengths(self, place: Path, track: Track, surplus_samples: Mapping[Path, int]) -> None:
        for surplus in sorted(set(surplus_samples.values()) - {0}):
            names = ", ".join(path.name for path, value in surplus_samples.items() if value == surplus)
            what = "longer than the song: cut" if surplus > 0 else "shorter than the song: filled with zeros"
            self.notes.append(f"{place}: {names}: {abs(surplus)} samples {what} at the end, as museval does")

    def about(self, track: Track) -> About:
        """Describe the files; how long they took to make is unknown."""
        return self._about

    def __call__(self, song: TrackAudio) -> Mapping[str, Audio]:
        """Read the stems of a song, cut or filled to its length.

        Raises:
            AudioError: a file is damaged or has samples that are not finite; the message names file and sample.
        """
        samples = song.track.samples
        estimates: dict[str, Audio] = {}
        for target, path in self._files[song.track.split, song.track.name].items():
            signal, _ = audio.read(path)
            estimates[target] = np.pad(signal[:, :samples], ((0, 0), (0, max(0, samples - signal.shape[1]))))
        return estimates


def _song_folder(folder: Path, track: Track) -> Path:
    places = folder / track.split / track.name, folder / track.name
    for place in places:
        if place.is_dir():
            return place / MIXTURE if (place / MIXTURE).is_dir() else place
    raise DataError(f"song {track.name!r}: no estimates; {places[0]} or {places[1]} must hold its stems")


def _stem_file(place: Path, track: Track, target: str, targets: Sequence[str]) -> Path:
    found = sorted(path for path in place.iterdir() if path.stem == target and path.suffix.lower() in FORMATS)
    if len(found) > 1:
        raise DataError(f"{place}: {' and '.join(path.name for path in found)} are the same stem; remove one")
    if found:
        return found[0]
    there = [other for other in targets if any((place / f"{other}{suffix}").exists() for suffix in FORMATS)]
    fix = f"or score only existing stems: --targets {','.join(there)}" if there else "as wav or flac"
    raise DataError(f"song {track.name!r}: no estimate of {target}; add {place / target}.wav, {fix}")


def _check(path: Path, track: Track) -> int:
    """Compare a file's header with its song; return by how many samples the file is longer."""
    header = audio.info(path)
    if header.sample_rate_hz != track.sample_rate_hz:
        raise AudioError(
            f"{path}: has {header.sample_rate_hz} Hz, its song {track.sample_rate_hz} Hz; resample it to "
            f"{track.sample_rate_hz} Hz"
        )
    if header.channels != track.channels:
        raise AudioError(
            f"{path}: has {header.channels} channel(s), its song {track.channels}; write it with {track.channels}"
        )
    return header.samples - track.samples

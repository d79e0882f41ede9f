"""Songs without stems: a folder of mixtures, which must not hold songs that models are validated or tested on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bandsplit.core.errors import DataError
from bandsplit.core.text import counted
from bandsplit.data.songs.check import DatasetReport, check_dataset
from bandsplit.data.songs.tracks import FORMATS, MIXTURE, SPLITS, Dataset, Problem, Track, make_track

LAYOUT = "unlabelled"
_COMPRESSED = (".mp3", ".m4a", ".mp4", ".ogg", ".opus", ".aac", ".wma", ".aiff", ".aif", ".webm")


class UnlabelledSong(NamedTuple):
    """A song without stems."""

    track: Track
    digest: str
    """Hash of its rate, channels and samples."""


def index_unlabelled(root: Path) -> Dataset:
    """Find the mixtures in a folder and the folders below it, and check their headers and last samples.

    Of a folder with a file ``mixture`` only this file is taken, so that a data set with stems can be used as if it had
    none.

    Raises:
        DataError: it is not a folder, has no mixtures, or some are broken; every problem is listed.
    """
    if not root.is_dir():
        raise DataError(f"{root}: is not a folder; name the folder of the unlabelled songs")
    files = sorted(
        path for path in root.rglob("*") if not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    mixtures = {path.parent: path for path in files if path.stem == MIXTURE and path.suffix.lower() in FORMATS}
    found = [path for path in files if path.suffix.lower() in FORMATS and mixtures.get(path.parent, path) == path]
    others = Counter(path.suffix.lower() for path in files if path.suffix.lower() in _COMPRESSED)
    if not found:
        held = f" (it has {', '.join(others)}: convert them)" if others else ""
        raise DataError(f"{root}: has no wav or flac files, which unlabelled songs must be{held}; add some")
    tracks: list[Track] = []
    problems: list[Problem] = []
    for path in found:
        song = path.parent if path in mixtures.values() and path.parent != root else path.with_suffix("")
        name = song.relative_to(root).as_posix()
        track, wrong = make_track(name, name, SPLITS[0], {MIXTURE: [path]})
        problems += wrong
        if track and track.mixture:
            tracks.append(replace(track, stems={MIXTURE: (track.mixture,)}, mixture=None))
    if problems:
        raise DataError(f"{root}: {counted(len(problems), 'problem')}", *(f"  {problem}" for problem in problems))
    notes = [f"unlabelled: {counted(len(tracks), 'song')}"]
    notes += [f"unlabelled: {number} {suffix} left out; convert to wav or flac" for suffix, number in others.items()]
    return Dataset(root, LAYOUT, (MIXTURE,), tuple(tracks), tuple(notes))


def unlabelled_songs(unlabelled: Dataset, dataset: Dataset, channels: int) -> tuple[UnlabelledSong, ...]:
    """Return the unlabelled songs, unless some are held-out songs of the data sets, by the fingerprints of the audio.

    Args:
        unlabelled: the songs.
        dataset: the labelled songs; those of its splits ``valid`` and ``test``, and of the split ``test`` of its
            ``others``, are held out.
        channels: number of channels that songs must have.

    Raises:
        DataError: songs are held out, broken, or have other channels; each is named.
    """
    report = check_dataset(unlabelled)
    problems = [f"  {problem}" for problem in report.broken]
    problems += [
        f"  {track.name}: channels is {track.channels}, the model needs {channels}; convert the song"
        for track in unlabelled.tracks
        if track.channels != channels
    ]
    held_out = _held_out(dataset)
    songs = tuple(UnlabelledSong(song.track, song.parts[MIXTURE].digest) for song in report.songs)
    problems += [
        f"  {song.track.name}: is {held_out[song.digest]}, on which models are scored; remove it"
        for song in songs
        if song.digest in held_out
    ]
    if problems:
        raise DataError(f"{unlabelled.root}: {counted(len(problems), 'problem')}", *problems)
    return songs


def _held_out(dataset: Dataset) -> dict[str, str]:
    """Return the held-out songs by the digests of their mixtures."""
    reports: list[DatasetReport] = [check_dataset(dataset, ("valid", "test"))]
    reports += [check_dataset(other, ("test",)) for other in dataset.others]
    return {song.parts[MIXTURE].digest: song.label for report in reports for song in report.songs}

"""Tracks: the songs of a data set in any layout, each a set of stems that are sums of files.

A track of a collection of loose stems has only some of the stems; songs in the layout of MUSDB18-HQ have all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandsplit.audio import arrays
from bandsplit.audio import files as audio
from bandsplit.core.errors import AudioError, DataError

SPLITS = ("train", "valid", "test")
FORMATS = (".wav", ".flac")
MIXTURE = "mixture"

Audio = NDArray[np.float32]
Errata = Literal["exclude", "relabel"]
"""Treatment of songs with known faults, where they are not kept as they are; see `bandsplit.data.songs.errata`."""
Lengths = Literal["error", "pad", "trim"]
"""Treatment of files of one song that differ in length: refuse, pad with zeros, cut to the shortest."""


class AudioFile(NamedTuple):
    """A file and its length in samples when it was indexed."""

    path: Path
    samples: int


@dataclass(frozen=True)
class Track:
    """One song, or some stems of one: files of equal sample rate and number of channels."""

    name: str
    split: str
    stems: dict[str, tuple[AudioFile, ...]]
    """A stem is the sum of its files; one without files is silent. The only stem of an unlabelled song is its
    ``mixture``."""
    mixture: AudioFile | None
    """None: the mixture is the sum of the stems."""
    samples: int
    channels: int
    sample_rate_hz: int

    @property
    def mixture_from(self) -> Literal["file", "sum"]:
        """Source of the mixture, as result rows record it."""
        return "sum" if self.mixture is None else "file"

    @property
    def is_summed(self) -> bool:
        """Whether the mixture is the sum of the stems, rather than audio of its own."""
        return self.mixture is None and MIXTURE not in self.stems

    @property
    def files(self) -> dict[str, tuple[AudioFile, ...]]:
        """The files of the mixture, if it has one, and of every stem."""
        mixture = {} if self.mixture is None else {MIXTURE: (self.mixture,)}
        return mixture | self.stems

    def read(
        self, part: str, start: int = 0, samples: int | None = None, gain: float = 1.0, out: Audio | None = None
    ) -> Audio:
        """Read a stem or the mixture times ``gain``, ``c samples``; zeros follow the end of a shorter file.

        Args:
            part: name of the stem, or ``mixture``.
            start: first sample.
            samples: number of samples; to the end if None.
            gain: factor.
            out: array to fill, ``c samples``; allocated if None.

        Raises:
            AudioError: a file is missing or has changed since it was indexed.
        """
        samples = self.samples - start if samples is None else samples
        out = np.empty((self.channels, samples), np.float32) if out is None else out
        files = [file for stem in self.stems.values() for file in stem]
        if part != MIXTURE or self.mixture is not None:
            files = list(self.files[part])
        if not files:
            out[:] = 0.0
        for number, file in enumerate(files):
            inside = max(0, min(samples, file.samples - start))
            place = out if number == 0 else np.empty_like(out)
            place[:, inside:] = 0.0
            if inside:
                audio.read_excerpt(file.path, start, inside, file.samples, gain, place[:, :inside])
            if number:
                out += place
        return out

    def load(self) -> TrackAudio:
        """Read the entire song."""
        stems = {stem: self.read(stem) for stem in self.stems}
        for stem, signal in stems.items():
            arrays.check_finite(signal, f"{self.split}/{self.name}, {stem}", self.sample_rate_hz)
        mixture = np.sum(list(stems.values()), axis=0) if self.mixture is None else self.read(MIXTURE)
        return TrackAudio(self, mixture, stems)


class TrackAudio(NamedTuple):
    """A song in memory; every array is float32 ``c samples``."""

    track: Track
    mixture: Audio
    stems: dict[str, Audio]


@dataclass(frozen=True)
class Dataset:
    """Checked songs, sorted by split and name."""

    root: Path
    layout: str
    stems: tuple[str, ...]
    tracks: tuple[Track, ...]
    choices: tuple[str, ...] = ()
    """Choices made while indexing, such as the validation songs."""
    left_out: tuple[str, ...] = ()
    """Broken songs that were left out, and what is wrong with them."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of the audio by split; `bandsplit.data.songs.check` fills them in."""
    benchmark: str | None = None
    """``MUSDB18-HQ`` if the checked splits are those of that set, else None; filled in by the same module."""
    errata: Errata | None = None
    """Treatment of songs with known faults; None: they are kept as they are."""
    others: tuple[Dataset, ...] = ()
    """Further data sets whose songs of the split ``train`` are trained on, too."""
    unlabelled: Dataset | None = None
    """Songs without stems, which a teacher separates for training."""

    @property
    def name(self) -> str:
        """Name of the folder or file, as result rows record it."""
        return self.root.resolve().name

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for users: choices, and songs that were left out."""
        return (*self.choices, *(f"left out: {problem}" for problem in self.left_out))

    def with_validation(self, other: Dataset) -> Dataset:
        """Return the set with the validation songs of ``other`` instead of its own.

        Raises:
            DataError: ``other`` has none.
        """
        songs = other.songs("valid")
        others = tuple(track for track in self.tracks if track.split != "valid")
        prints = {split: value for split, value in self.fingerprints.items() if split != "valid"}
        theirs = {split: value for split, value in other.fingerprints.items() if split == "valid"}
        benchmark = self.benchmark if self.benchmark == other.benchmark else None
        return replace(
            self, stems=other.stems, tracks=(*others, *songs), fingerprints=prints | theirs, benchmark=benchmark
        )

    def songs(self, split: str) -> tuple[Track, ...]:
        """Return the songs of one split.

        Raises:
            DataError: the split has none.
        """
        songs = tuple(track for track in self.tracks if track.split == split)
        if not songs:
            fixes = {
                "train": "add song folders to train/",
                "valid": "add a valid/ folder, or at least 2 songs to train/, so that the last one can be held out",
                "test": "add song folders to test/",
            }
            fix = fixes.get(split, f"legal splits: {', '.join(SPLITS)}")
            raise DataError(f"{self.root}: no songs of the split {split!r}; {fix}")
        return songs

    def whole_songs(self, split: str) -> tuple[Track, ...]:
        """Return the songs of one split, for separation.

        Raises:
            DataError: the split has no songs, or some of them lack a stem.
        """
        songs = self.songs(split)
        for track in songs:
            lacking = [stem for stem in self.stems if stem not in track.stems]
            if lacking:
                raise DataError(
                    f"{split}/{track.name}: is a loose stem (no {', '.join(lacking)}), not a song to separate; give "
                    f"complete songs for this, as folders with one file per stem"
                )
        return songs


class Problem(NamedTuple):
    """A problem with a song or one of its files, and how to fix it."""

    song: str
    stem: str | None
    text: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.song}, {self.stem}: {self.text}" if self.stem else f"{self.song}: {self.text}"


def make_track(
    song: str, name: str, split: str, files: Mapping[str, Sequence[Path]], lengths: Lengths = "error"
) -> tuple[Track | None, list[Problem]]:
    """Check the headers and last samples of the files of a song and make a track of them.

    Args:
        song: its name in messages.
        name: its name in the data set.
        split: one of `SPLITS`.
        files: files by stem, with ``mixture`` if there is one.
        lengths: what to do if they differ in length.
    """
    problems: list[Problem] = []
    headers: dict[Path, tuple[str, audio.AudioInfo]] = {}
    for stem, paths in files.items():
        for path in paths:
            try:
                header = audio.info(path)
                audio.read(path, start=header.samples - 1, samples=1)  # a truncated flac file has an intact header
            except AudioError as error:
                problems.append(Problem(song, stem, str(error)))
            else:
                headers[path] = stem, header
    problems += _unequal(song, headers, lengths)
    if problems:
        return None, problems
    if not headers:
        return None, [Problem(song, None, "has no audio files; remove it or add them")]
    (_, first), *_ = headers.values()
    found = [header.samples for _, header in headers.values()]
    known = {stem: tuple(AudioFile(path, headers[path][1].samples) for path in paths) for stem, paths in files.items()}
    mixture = known.pop(MIXTURE, (None,))[0]
    samples = min(found) if lengths == "trim" else max(found)
    return Track(name, split, known, mixture, samples, first.channels, first.sample_rate_hz), []


def hold_out(train: Sequence[Track]) -> tuple[tuple[Track, ...], tuple[str, ...]]:
    """Move the last complete song of ``train`` to validation if there are at least two; the note says so."""
    stems = set().union(*(track.stems for track in train))
    whole = [track for track in train if set(track.stems) == stems and len(stems) > 1]
    if len(whole) < 2:
        return tuple(train), ()
    last = whole[-1]
    note = f"validation: {last.name!r}, the last song of train/, is held out, since the data set names no others"
    return tuple(replace(track, split="valid") if track is last else track for track in train), (note,)


def _unequal(song: str, headers: Mapping[Path, tuple[str, audio.AudioInfo]], lengths: Lengths) -> list[Problem]:
    """Compare each readable file with the first one, which is the mixture if that is readable."""
    problems: list[Problem] = []
    units = [("sample_rate_hz", "Hz", "resample it"), ("channels", "channel(s)", "convert it")]
    if lengths == "error":
        units.insert(0, ("samples", "samples", "cut or pad it"))
    first_path = next(iter(headers), Path())
    for path, (stem, header) in headers.items():
        for name, unit, fix in units:
            value, wanted = getattr(header, name), getattr(headers[first_path][1], name)
            if value != wanted:
                text = f"{path.name} has {value} {unit}, {first_path.name} has {wanted}"
                also = ", or choose --lengths pad or trim" if name == "samples" else ""
                problems.append(Problem(song, stem, f"{text}; {fix} to {wanted} {unit}{also}"))
    return problems

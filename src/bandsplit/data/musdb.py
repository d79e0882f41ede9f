"""Index and check a folder of songs as MUSDB18-HQ has it: ``ROOT/train|valid|test/<song>/<stem>.wav``, or ``.flac``."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandsplit import audio
from bandsplit.config import TARGETS
from bandsplit.errors import AudioError, DataError

SPLITS = ("train", "valid", "test")

FORMATS = (".wav", ".flac")

VALIDATION_SONGS = frozenset(
    {
        "Actions - One Minute Smile",
        "Clara Berry And Wooldog - Waltz For My Victims",
        "Johnny Lokke - Promises & Lies",
        "Patrick Talbot - A Reason To Leave",
        "Triviul - Angelsaint",
        "Alexander Ross - Goodbye Bolero",
        "Fergessen - Nos Palpitants",
        "Leaf - Summerghost",
        "Skelpolu - Human Mistakes",
        "Young Griffo - Pennies",
        "ANiMAL - Rockshow",
        "James May - On The Line",
        "Meaxic - Take A Step",
        "Traffic Experiment - Sirens",
    }
)
"""The songs of ``train/`` that the musdb package, and with it the literature, validates on."""

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Track:
    """One song: files of equal length, rate and channels."""

    name: str
    split: str
    folder: Path
    stems: dict[str, Path]
    mixture: Path
    samples: int
    channels: int
    sample_rate_hz: int

    def load(self) -> TrackAudio:
        """Read the whole song."""
        stems = {name: audio.read(path)[0] for name, path in self.stems.items()}
        return TrackAudio(self, audio.read(self.mixture)[0], stems)


class TrackAudio(NamedTuple):
    """A song in memory; every array is float32 ``c samples``."""

    track: Track
    mixture: Audio
    stems: dict[str, Audio]


@dataclass(frozen=True)
class Dataset:
    """Checked songs, sorted by split and name. ``notes`` says how the validation songs were chosen."""

    root: Path
    stems: tuple[str, ...]
    tracks: tuple[Track, ...]
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder's own name, as result rows carry it."""
        return self.root.resolve().name

    def songs(self, split: str) -> tuple[Track, ...]:
        """The songs of one split.

        Raises:
            DataError: the split has none.
        """
        songs = tuple(track for track in self.tracks if track.split == split)
        if not songs:
            fixes = {
                "train": "add song folders to train/",
                "valid": "add a valid/ folder, or at least 2 songs to train/, the last of which is then held out",
                "test": "add song folders to test/",
            }
            fix = fixes.get(split, f"legal splits: {', '.join(SPLITS)}")
            raise DataError(f"{self.root}: no songs of the split {split!r}; {fix}")
        return songs


class Problem(NamedTuple):
    """What is wrong with a song or one of its files, and what to do."""

    song: str
    stem: str | None
    text: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.song}, {self.stem}: {self.text}" if self.stem else f"{self.song}: {self.text}"


def index_dataset(root: str | Path, stems: Sequence[str] = TARGETS, splits: Sequence[str] = SPLITS) -> Dataset:
    """Find the songs of ``root`` and check them by their headers and ends, without reading them.

    Validation songs are those of ``valid/`` where that folder exists, else those of ``train/`` that the musdb package
    names, else the last song of ``train/`` by name where it holds at least two.

    Args:
        root: the folder that holds ``train``, ``valid`` or ``test``.
        stems: names of the stem files every song must have, beside ``mixture``.
        splits: only the songs of these splits are checked and returned.

    Raises:
        DataError: the folder is no data set, or some songs are broken; every problem is listed.

    Source: NUMERICS "Training": 86 / 14 / 50 songs, the validation songs by name.
    """
    root = Path(root)
    try:
        folders = _song_folders(root)
        problems = _split_problems(folders)
        assigned, notes = _assign_splits(folders)
        checked = [_check_song(folder, split, tuple(stems)) for split, folder in assigned if split in splits]
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be read ({error.strerror}); check its permissions") from None
    problems += [problem for _, found in checked for problem in found]
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise DataError(f"{root}: {len(problems)} problem{'s' * (len(problems) > 1)}\n{lines}")
    return Dataset(root, tuple(stems), tuple(track for track, _ in checked if track), notes)


def _song_folders(root: Path) -> dict[str, list[Path]]:
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{root}: {what}; give the folder that holds train/ and test/")
    folders = {
        split: sorted(path for path in (root / split).iterdir() if path.is_dir() and not path.name.startswith("."))
        for split in SPLITS
        if (root / split).is_dir()
    }
    if any(next((root / split).glob("*.stem.mp4"), None) for split in folders):
        raise DataError(
            f"{root}: holds .stem.mp4 files, the compressed MUSDB18; use MUSDB18-HQ, where a song is a folder of wavs"
        )
    if not any(folders.values()):
        inside = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
        raise DataError(
            f"{root}: not a data set: no song folders in train/, valid/ or test/ (it holds {_listed(inside)}); "
            f"expected train/<song>/mixture.wav and one file per stem beside it, wav or flac"
        )
    return folders


def _split_problems(folders: dict[str, list[Path]]) -> list[Problem]:
    problems = [
        Problem(f"{split}/", None, "holds no song folders; add songs or remove the folder")
        for split, songs in folders.items()
        if not songs
    ]
    splits_of: dict[str, list[str]] = {}
    for split, songs in folders.items():
        for song in songs:
            splits_of.setdefault(song.name, []).append(split)
    for song, splits in splits_of.items():
        if len(splits) > 1:
            places = " and ".join(f"{split}/{song}" for split in splits)
            problems.append(Problem(places, None, "the song is in more than one split; keep one of them"))
    return problems


def _assign_splits(folders: dict[str, list[Path]]) -> tuple[list[tuple[str, Path]], tuple[str, ...]]:
    train, test = folders.get("train", []), folders.get("test", [])
    if "valid" in folders:
        valid, note = folders["valid"], ""
    elif valid := [song for song in train if unicodedata.normalize("NFC", song.name) in VALIDATION_SONGS]:
        note = f"validation: {len(valid)} of the {len(VALIDATION_SONGS)} songs that musdb names, taken from train/"
    elif len(train) > 1:
        valid = train[-1:]
        note = (
            f"validation: {valid[0].name!r}, the last song of train/, is held out, since there is no valid/ folder and "
            f"none of the songs that musdb names"
        )
    else:
        valid, note = [], ""
    split_songs = {"train": [song for song in train if song not in valid], "valid": valid, "test": test}
    assigned = [(split, song) for split, songs in split_songs.items() for song in songs]
    return assigned, (note,) if note else ()


def _check_song(folder: Path, split: str, stems: tuple[str, ...]) -> tuple[Track | None, list[Problem]]:
    song = f"{folder.parent.name}/{folder.name}"
    problems: list[Problem] = []
    files: dict[str, Path] = {}
    headers: dict[str, audio.AudioInfo] = {}
    for stem in ("mixture", *stems):
        found = [folder / f"{stem}{suffix}" for suffix in FORMATS if (folder / f"{stem}{suffix}").is_file()]
        if len(found) != 1:
            problems.append(Problem(song, stem, _missing_or_double(folder, stem, found)))
            continue
        files[stem] = found[0]
        try:
            headers[stem] = audio.info(found[0])
            audio.read(found[0], start=headers[stem].samples - 1, samples=1)  # a cut flac file has a whole header
        except AudioError as error:
            problems.append(Problem(song, stem, str(error)))
            headers.pop(stem, None)
    problems += _unequal(song, headers, files)
    if problems:
        return None, problems
    header, mixture = headers["mixture"], files.pop("mixture")
    track = Track(folder.name, split, folder, files, mixture, header.samples, header.channels, header.sample_rate_hz)
    return track, []


def _missing_or_double(folder: Path, stem: str, found: list[Path]) -> str:
    if found:
        return f"{' and '.join(path.name for path in found)} both exist; keep one of them"
    inside = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return f"missing (the folder holds {_listed(inside)}); add {stem}.wav or {stem}.flac"


def _unequal(song: str, headers: dict[str, audio.AudioInfo], files: dict[str, Path]) -> list[Problem]:
    """Compare each readable file with the first of them, which is the mixture where that is readable."""
    problems: list[Problem] = []
    first_stem, first = next(iter(headers.items()), ("", None))
    for stem, header in headers.items():
        for field, unit, fix in (
            ("samples", "samples", "cut or pad it"),
            ("sample_rate_hz", "Hz", "resample it"),
            ("channels", "channel(s)", "convert it"),
        ):
            value, wanted = getattr(header, field), getattr(first, field)
            if value != wanted:
                text = f"{files[stem].name} has {value} {unit}, {files[first_stem].name} has {wanted}"
                problems.append(Problem(song, stem, f"{text}; {fix} to {wanted} {unit}"))
    return problems


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8]) or "nothing"
    return f"{shown}, ..." if len(names) > 8 else shown

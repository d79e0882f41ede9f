"""Songs in the layout of MUSDB18-HQ: ``ROOT/train|valid|test/<song>/<stem>.wav``, or ``.flac``."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from bandsplit.core.errors import DataError
from bandsplit.data.songs.tracks import FORMATS, MIXTURE, SPLITS, Lengths, Problem, Track, make_track

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
"""The songs of ``train/`` that the musdb package, and therefore the literature, uses for validation."""

NAME = "MUSDB18-HQ"
SONGS = {"train": 86, "valid": 14, "test": 50}
RATE_HZ, CHANNELS, STEMS = 44100, 2, {"vocals", "bass", "drums", "other"}


def looks_like_musdb18_hq(tracks: Sequence[Track]) -> bool:
    """Return whether every split among these songs has the songs of MUSDB18-HQ, judging by names and headers.

    The number of songs, the names of the validation songs, the stems, the rate and the channels must be those of the
    published set. Compressed MUSDB18 looks the same, so `bandsplit.data.songs.check` also measures the audio.
    """
    by_split = {split: [track for track in tracks if track.split == split] for split in {t.split for t in tracks}}
    names = {split: {unicodedata.normalize("NFC", track.name) for track in songs} for split, songs in by_split.items()}
    return (
        bool(names)
        and all(len(songs) == SONGS.get(split) == len(names[split]) for split, songs in by_split.items())
        and all((songs == VALIDATION_SONGS) == (split == "valid") for split, songs in names.items())
        and all(
            set(track.stems) == STEMS and (track.sample_rate_hz, track.channels) == (RATE_HZ, CHANNELS)
            for track in tracks
        )
    )


def index_songs(
    root: Path,
    stems: Sequence[str],
    splits: Sequence[str],
    lengths: Lengths,
    mixture: Literal["file", "sum"] = "file",
) -> tuple[list[Track], list[Problem], tuple[str, ...]]:
    """Find the songs of ``ROOT/train|valid|test/<song>/`` and check their headers and last samples.

    Validation songs are those of ``valid/`` if that folder exists, else those of ``train/`` that the musdb package
    names, else the last song of ``train/`` by name if it has at least two.

    Raises:
        DataError: the folder is not a data set.

    Source: docs/numerics.md#songs.
    """
    folders = _song_folders(root)
    problems = _split_problems(folders)
    double = {problem.song for problem in problems}
    folders = {split: [s for s in songs if f"{split}/{s.name}" not in double] for split, songs in folders.items()}
    assigned, notes = _assign_splits(folders)
    parts = (MIXTURE, *stems) if mixture == "file" else tuple(stems)
    checked = [_check_song(folder, split, parts, lengths) for split, folder in assigned if split in splits]
    problems += [problem for _, found in checked for problem in found]
    return [track for track, _ in checked if track], problems, notes


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
            f"{root}: holds .stem.mp4 files, the compressed MUSDB18; use MUSDB18-HQ, where a song is a folder of "
            f"wav files"
        )
    if not any(folders.values()):
        inside = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
        raise DataError(
            f"{root}: not a data set: no song folders in train/, valid/ or test/ (it holds {_listed(inside)}); "
            f"expected train/<song>/mixture.wav and one file per stem next to it, wav or flac"
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
        for split in splits[:-1]:
            problems.append(Problem(f"{split}/{song}", None, f"the song is in {splits[-1]}/ too; keep one of them"))
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
            f"validation: {valid[0].name!r}, the last song of train/, is held out, since there is neither a valid/ "
            f"folder nor any of the songs that musdb names"
        )
    else:
        valid, note = [], ""
    split_songs = {"train": [song for song in train if song not in valid], "valid": valid, "test": test}
    assigned = [(split, song) for split, songs in split_songs.items() for song in songs]
    return assigned, (note,) if note else ()


def _check_song(folder: Path, split: str, parts: Sequence[str], lengths: Lengths) -> tuple[Track | None, list[Problem]]:
    song = f"{folder.parent.name}/{folder.name}"
    problems: list[Problem] = []
    files: dict[str, list[Path]] = {}
    for stem in parts:
        found = [folder / f"{stem}{suffix}" for suffix in FORMATS if (folder / f"{stem}{suffix}").is_file()]
        if len(found) == 1:
            files[stem] = found
        else:
            problems.append(Problem(song, stem, _missing_or_double(folder, stem, found)))
    track, others = make_track(song, folder.name, split, files, lengths)
    problems += [problem for problem in others if files]
    return (None if problems else track), problems


def _missing_or_double(folder: Path, stem: str, found: list[Path]) -> str:
    if found:
        return f"{' and '.join(path.name for path in found)} both exist; keep one of them"
    inside = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    also = ", or take the sum of the stems with --mixture sum" if stem == MIXTURE else ""
    return f"missing (the folder holds {_listed(inside)}); add {stem}.wav or {stem}.flac{also}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8]) or "nothing"
    return f"{shown}, ..." if len(names) > 8 else shown

"""Layouts of data sets: every layout, a folder or a list, is indexed to the same kind of tracks.

| layout | shape |
|---|---|
| songs | ``ROOT/train|valid|test/<song>/{mixture,vocals,...}.wav``, as MUSDB18-HQ |
| stem folders | ``ROOT/<stem>/*.wav`` or ``ROOT/train|valid|test/<stem>/*.wav`` |
| list | a CSV file with the columns ``instrum`` and ``path``, as training frameworks write it |
| MoisesDB | ``ROOT/.../<song>/data.json`` next to ``<stem>/<id>.wav`` |
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from bandsplit.core.errors import DataError
from bandsplit.core.targets import TARGETS
from bandsplit.core.text import counted
from bandsplit.data.songs.musdb import index_songs
from bandsplit.data.songs.tracks import FORMATS, MIXTURE, SPLITS, Dataset, Lengths, Problem, Track, hold_out, make_track

MOISESDB_STEMS = {
    "vocals": "vocals",
    "bass": "bass",
    "drums": "drums",
    "guitar": "other",
    "piano": "other",
    "other_keys": "other",
    "other_plucked": "other",
    "bowed_strings": "other",
    "wind": "other",
    "percussion": "other",
    "other": "other",
}
"""The target stem of each of MoisesDB's eleven stems; its authors reduce them to the same four."""

IndexedSongs = tuple[list[Track], list[Problem], tuple[str, ...]]


UNFINISHED = "synthesis.json.part"
"""Name of a file that a synthetic data set contains until it is complete."""


def index_dataset(
    root: str | Path,
    stems: Sequence[str] = TARGETS,
    splits: Sequence[str] = SPLITS,
    *,
    mixture: Literal["file", "sum"] = "file",
    lengths: Lengths = "error",
    allow_broken: bool = False,
) -> Dataset:
    """Find the songs of ``root``, in any layout, and check their headers and last samples without reading them fully.

    Args:
        root: the folder, or a CSV file.
        stems: names of the stems; a CSV file and MoisesDB define their own.
        splits: only the songs of these splits are checked and returned.
        mixture: in the layout of songs, ``file`` requires a mixture file; ``sum`` uses the sum of the stems even if
            there is such a file. Other layouts have no mixture file and always use the sum.
        lengths: what to do with files of one song that differ in length.
        allow_broken: leave broken songs out, with a note, instead of refusing the set.

    Raises:
        DataError: the folder is not a data set, or some songs are broken; every problem is listed.
    """
    root = Path(root)
    if os.path.exists(root / UNFINISHED):
        raise DataError(f"{root}: is an incomplete synthetic data set; complete it with `bandsplit data synth`")
    try:
        layout, index = _find_layout(root, tuple(stems), mixture)
        tracks, problems, choices = index(root, stems, splits, lengths)
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be read ({error.strerror}); check its permissions") from None
    if problems and not allow_broken:
        lines = (f"  {problem}" for problem in problems)
        raise DataError(f"{root}: {counted(len(problems), 'problem')}", *lines)
    without = {problem.song for problem in problems}
    tracks = [track for track in tracks if f"{track.split}/{track.name}" not in without]
    present = {stem for track in tracks for stem in track.stems}
    order = (*(stem for stem in stems if stem in present), *sorted(present - set(stems)))
    found = tuple(track for track in tracks if track.split in splits)
    return Dataset(root, layout, order, found, choices, tuple(map(str, problems)))


def _find_layout(
    root: Path, stems: Sequence[str], mixture: Literal["file", "sum"]
) -> tuple[str, Callable[..., IndexedSongs]]:
    if root.is_file() and root.suffix.lower() == ".csv":
        return "list", _index_list
    if root.is_dir():
        inside = _folders(root)
        for split in inside & set(SPLITS):
            inside |= _folders(root / split)
        if inside - set(SPLITS) and inside <= set(SPLITS) | set(stems):
            return "stem folders", _index_stem_folders
        if not inside & set(SPLITS) and _moises_songs(root):
            return "MoisesDB", _index_moisesdb
    return "songs", partial(index_songs, mixture=mixture)


def _folders(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}


# --- loose stems -----------------------------------------------------------------------------------------------------


def _index_stem_folders(root: Path, stems: Sequence[str], splits: Sequence[str], lengths: Lengths) -> IndexedSongs:
    """Index files in folders named after their stems: files of one name in all folders and one length form a song."""
    places = {split: root / split for split in SPLITS if (root / split).is_dir()} or {"train": root}
    asked = {*splits, *(["train"] if "valid" in splits and "valid" not in places else [])}
    tracks: list[Track] = []
    problems: list[Problem] = []
    for split, folder in places.items():
        if split not in asked:
            continue
        files = {stem: _audio_files(folder / stem) for stem in stems if (folder / stem).is_dir()}
        if not any(files.values()):
            text = f"no wav or flac files in the stem folders {', '.join(files)}; add some or convert existing files"
            problems.append(Problem(f"{split}/" if folder != root else str(root), None, text))
        some, wrong = _group(split, files)
        tracks += some
        problems += wrong
    return _with_validation(tracks, problems, own="valid" in places)


def _index_list(root: Path, stems: Sequence[str], splits: Sequence[str], lengths: Lengths) -> IndexedSongs:
    """Index a CSV file of ``instrum,path``; paths are relative to its folder."""
    try:
        with root.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="more", restval="")
            columns = list(reader.fieldnames or [])
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{root}: is not CSV text in UTF-8 ({error}); save it as such") from None
    if not rows or sorted(columns) != ["instrum", "path"]:
        found = f"found {', '.join(columns) or 'nothing'} and {counted(len(rows), 'row')}"
        raise DataError(f"{root}: must have the columns instrum and path, in its first line, and rows; {found}")
    files: dict[str, list[Path]] = {}
    problems = []
    for number, row in rows:
        instrum, path = row["instrum"].strip(), row["path"].strip()
        if problem := _row_problem(instrum, path, row.get("more")):
            problems.append(Problem(f"line {number}", None, problem))
        else:
            files.setdefault(instrum, []).append(root.parent / path)
    tracks, wrong = _group("train", files)
    return _with_validation(tracks, problems + wrong, own=False)


def _row_problem(instrum: str, path: str, more: object) -> str | None:
    if not instrum or not path:
        return "has no instrum or no path; complete or remove it"
    if more:
        return "has more than two values; put a path that holds a comma in double quotes"
    if instrum == MIXTURE:
        return "lists a mixture, but mixtures of a list are sums of stems; remove it"
    return None


def _group(split: str, files: Mapping[str, Sequence[Path]]) -> tuple[list[Track], list[Problem]]:
    """Group files of one name under every stem, and of one length, to songs; the others stay single stems."""
    by_name: dict[str, dict[str, list[Path]]] = {}
    for stem, paths in files.items():
        for path in paths:
            by_name.setdefault(path.stem, {}).setdefault(stem, []).append(path)
    tracks: list[Track] = []
    problems: list[Problem] = []
    for name, stems in sorted(by_name.items()):
        whole = len(files) > 1 and set(stems) == set(files) and all(len(paths) == 1 for paths in stems.values())
        track, wrong = make_track(f"{split}/{name}", name, split, stems) if whole else (None, [])
        if whole and track:
            tracks.append(track)
            continue
        for stem, paths in stems.items():
            for path in paths:
                track, wrong = make_track(f"{split}/{name}", name, split, {stem: [path]})
                tracks += [track] if track else []
                problems += wrong
    return tracks, problems


def _with_validation(tracks: list[Track], problems: list[Problem], own: bool) -> IndexedSongs:
    """Hold out a song for validation unless the set has its own validation songs."""
    notes: tuple[str, ...] = ()
    if tracks and not own:
        train, notes = hold_out([track for track in tracks if track.split == "train"])
        tracks = [*train, *(track for track in tracks if track.split != "train")]
    n_songs = sum(len(track.stems) > 1 for track in tracks)
    notes += (f"{n_songs} complete songs and {len(tracks) - n_songs} loose stems; mixtures are sums of stems",)
    return tracks, problems, notes


def _audio_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in FORMATS and path.name[0] != ".")


# --- MoisesDB --------------------------------------------------------------------------------------------------------


def _moises_songs(root: Path) -> list[Path]:
    files = [path for pattern in ("*/data.json", "*/*/data.json") for path in root.glob(pattern)]
    hidden = [path for path in files if any(part.startswith(".") for part in path.relative_to(root).parts)]
    return sorted(path.parent for path in files if path not in hidden)


def _index_moisesdb(root: Path, stems: Sequence[str], splits: Sequence[str], lengths: Lengths) -> IndexedSongs:
    """Index songs of MoisesDB, whose files are summed to the four stems of `MOISESDB_STEMS`; it defines no splits."""
    tracks: list[Track] = []
    problems: list[Problem] = []
    for folder in _moises_songs(root):
        label = folder.relative_to(root).as_posix()
        try:
            title, files = _read_moises_song(folder)
        except DataError as error:
            problems.append(Problem(label, None, str(error)))
            continue
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(Problem(label, None, f"data.json cannot be parsed ({error!r}); download it again"))
            continue
        track, wrong = make_track(label, f"{title} ({folder.name[:8]})", "train", files, lengths)
        tracks += [track] if track else []
        problems += wrong
    tracks.sort(key=lambda track: track.name)
    train, notes = hold_out(tracks)
    table = ", ".join(f"{theirs} > {ours}" for theirs, ours in MOISESDB_STEMS.items() if theirs != ours)
    notes = (*notes, f"MoisesDB's stems are summed to four: {table}; mixtures are sums of stems")
    return list(train), problems, notes


def _read_moises_song(folder: Path) -> tuple[str, dict[str, list[Path]]]:
    """Read title and files by stem of one song; a missing stem has an empty list of files."""
    data = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    files: dict[str, list[Path]] = {stem: [] for stem in TARGETS}
    for stem in data["stems"]:
        name = stem["stemName"]
        if name not in MOISESDB_STEMS:
            known = ", ".join(MOISESDB_STEMS)
            raise DataError(f"data.json names an unknown stem {name!r}; rename it and its folder to one of: {known}")
        paths = [folder / name / f"{part['id']}.{part['extension']}" for part in stem["tracks"]]
        files[MOISESDB_STEMS[name]] += paths
    return f"{data.get('artist', 'unknown')} - {data.get('song', 'untitled')}", files

"""Copy of a data set in the format that is fastest to read: 16-bit wav at the rate of training, read without decoding.

Decoding flac costs about ten times as much, resampling more; see ``bandsplit bench data``. The copy is a data set like
any other. Reads are as fast as a memory map, and if a file is truncated meanwhile they raise an error, not a crash.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bandsplit.audio import arrays
from bandsplit.audio import files as audio
from bandsplit.core.errors import DataError
from bandsplit.core.interrupt import check
from bandsplit.core.machine import cores
from bandsplit.core.unfinished import hidden_folder
from bandsplit.data.songs.facts import SongProgress
from bandsplit.data.songs.tracks import MIXTURE, Dataset, Track

RECORD = "pack.json"


def pack_dataset(
    dataset: Dataset, out: Path, sample_rate_hz: int | None = None, progress: SongProgress | None = None
) -> None:
    """Write all songs of ``dataset`` to ``out``: as song folders, or as stem folders if it has loose stems.

    Args:
        dataset: the songs.
        out: a new or empty folder. Until all songs are complete, they are in a hidden folder next to it.
        sample_rate_hz: rate of the copy; each song's own if None.
        progress: called with the number of songs done and the total.

    Raises:
        DataError: the folder is not empty, cannot be created, or another process packs to it.
        AudioError: a file cannot be read or written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is not empty; choose a new folder, or remove it")
    if out.exists() and out.samefile(os.curdir):
        raise DataError(f"{out}: is the working folder; change to another one, or choose a new folder")
    try:
        if out.exists():  # test now whether it can be replaced, not after an hour
            out.rmdir()
            out.mkdir()
        with hidden_folder(out) as hidden:
            _pack_songs(dataset, hidden, sample_rate_hz, progress)
            record = {"source": dataset.name, "fingerprints": dict(dataset.fingerprints)}
            text = json.dumps({**record, "sample_rate_hz": sample_rate_hz}, indent=1)
            (hidden / RECORD).write_text(text + "\n", encoding="utf-8")
            hidden.rename(out)
    except OSError as error:
        raise DataError(
            f"{out}: cannot be created ({error.strerror or error}); choose a new folder that is writable and has "
            f"enough room"
        ) from None


def _pack_songs(dataset: Dataset, out: Path, sample_rate_hz: int | None, progress: SongProgress | None) -> None:
    with ThreadPoolExecutor(cores()) as pool:
        jobs = [pool.submit(_pack_song, dataset, track, out, sample_rate_hz) for track in dataset.tracks]
        try:
            for number, job in enumerate(jobs, start=1):
                job.result()
                if progress:
                    progress(number, len(jobs))
        finally:
            pool.shutdown(cancel_futures=True)


def _pack_song(dataset: Dataset, track: Track, out: Path, sample_rate_hz: int | None) -> None:
    rate_hz = sample_rate_hz or track.sample_rate_hz
    for part, path in _places(dataset, track, out):
        check()
        signal = arrays.resample(track.read(part), track.sample_rate_hz, rate_hz)
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.write(path, signal, rate_hz, "PCM_16")


def _places(dataset: Dataset, track: Track, out: Path) -> Iterator[tuple[str, Path]]:
    """Yield each part of a song and its path in the copy."""
    if dataset.layout in ("stem folders", "list"):
        for stem in track.stems:
            yield stem, out / track.split / stem / f"{track.name}.wav"
    else:
        for part in (MIXTURE, *track.stems):
            yield part, out / track.split / track.name.replace("/", "_") / f"{part}.wav"

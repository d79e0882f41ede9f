"""Score systems, models, yardsticks and other tools' estimates alike, on the songs of a data set."""

from __future__ import annotations

import time
from collections.abc import Container, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import numpy as np
import torch

from bandsplit.core.errors import BandsplitError
from bandsplit.core.processes import worker_pool
from bandsplit.core.targets import order_targets
from bandsplit.core.version import __version__
from bandsplit.data.songs.musdb import NAME
from bandsplit.data.songs.tracks import Audio, Dataset, Track, TrackAudio
from bandsplit.evaluation.measuring import CONVENTIONS, SongReference
from bandsplit.evaluation.results import Score
from bandsplit.evaluation.systems import System

# --- what is scored --------------------------------------------------------------------------------------------------


def evaluate(
    systems: Mapping[str, System],
    dataset: Dataset,
    split: str,
    *,
    targets: Sequence[str] | None = None,
    jobs: int = 1,
    skip: Container[tuple[str, str]] = (),
) -> Generator[list[Score], None, None]:
    """Score every system on every song; yields the rows of one system and song at a time, songs outermost.

    The targets of a system that are stems of the song are scored together, since cSDR leaves out windows where any of
    them is silent.

    Args:
        systems: name -> system, in the order of the table.
        dataset: the data set; its name and fingerprint go into the rows.
        split: its songs that are scored.
        targets: the targets to score; by default all that a system estimates.
        jobs: processes that share the songs, each with one thread; 1: this process, with torch's number of threads.
            Rows come in the same order for any number.
        skip: (system, song) that are left out, as `find_scored` names the complete ones.

    Raises:
        DataError: the split has no songs, or they are loose stems.
        BandsplitError: a system failed, estimates none of the targets, or returned an estimate of the wrong shape or
            with NaN (the message names the system and the song); or one of several processes was killed.
    """
    work = [
        (track, [name for name in systems if (name, track.name) not in skip]) for track in dataset.whole_songs(split)
    ]
    work = [(track, names) for track, names in work if names]
    if jobs == 1 or not work:
        for track, names in work:
            yield from _score_song(systems, dataset, targets, track, names)
        return
    try:
        with worker_pool(min(jobs, len(work)), _start_worker, (dict(systems), dataset, targets)) as pool:
            for rows in pool.map(_work, *zip(*work, strict=True)):
                yield from rows
    except BrokenProcessPool:
        raise BandsplitError(
            f"jobs: one of {jobs} processes was killed or could not start, most often because memory ran out; use "
            f"fewer. Scores from before that are kept"
        ) from None


class Scored(NamedTuple):
    """Songs that a file has rows of: (system, song) -> its rows that count."""

    complete: dict[tuple[str, str], list[Score]]
    """Songs that `evaluate` need not score again: all rows."""
    incomplete: dict[tuple[str, str], list[Score]]
    """Songs of which some rows are missing: metrics that earlier versions did not have, or a writer that was killed."""


def find_scored(
    systems: Mapping[str, System],
    dataset: Dataset,
    split: str,
    rows: Iterable[Score],
    targets: Sequence[str] | None = None,
) -> Scored:
    """Find songs that are scored.

    Rows count if a new evaluation would differ in nothing but the numbers: same settings, data, version, models, files.
    """
    known = {_key(row): row for row in rows}
    found = Scored({}, {})
    for track in dataset.whole_songs(split):
        for name, system in systems.items():
            blanks = _blank_rows(name, system, track, dataset, targets)
            present = [known[key] for blank in blanks if (key := _key(blank)) in known]
            if present:
                songs = found.complete if len(present) == len(blanks) else found.incomplete
                songs[name, track.name] = present
    return found


def _key(row: Score) -> tuple[Any, ...]:
    return row.setting, row.track, row.target


def _blank_rows(
    name: str, system: System, track: Track, dataset: Dataset, targets: Sequence[str] | None
) -> list[Score]:
    """Make the rows of a song, target by target, complete except for the measured fields."""
    about = system.about(track)
    estimated = track.stems if about.targets is None else about.targets
    scored = order_targets(t for t in estimated if t in track.stems and (targets is None or t in targets))
    if not scored:
        asked = "" if targets is None else f" and {', '.join(targets)} asked for"
        raise BandsplitError(
            f"{name}, song {track.name!r}: estimates {', '.join(estimated) or 'nothing'}, the song has "
            f"{', '.join(track.stems)}{asked}; nothing can be scored: use a data set with these stems"
        )
    # Songs with errata are songs of the benchmark, although without some, or with others, the set is not.
    is_test_song = track.split == "test" and (dataset.benchmark == NAME or dataset.errata is not None)
    return [
        Score(
            system=about.name or name,
            data=dataset.name,
            fingerprint=dataset.fingerprints.get(track.split),
            benchmark=dataset.benchmark,
            split=track.split,
            track=track.name,
            target=target,
            metric=metric,
            value=None,
            convention=convention,
            mixture=track.mixture_from,
            errata=dataset.errata,
            inference=about.inference,
            plan=about.plan,
            scored_with=tuple(scored),
            recipe=about.recipe,
            seed=about.seed,
            budget=about.budget,
            source=about.source,
            version=__version__,
            audio_s=track.samples / track.sample_rate_hz,
            saw_test_songs=True if about.saw_test_songs and is_test_song else None,
        )
        for target in scored
        for metric, convention in CONVENTIONS.items()
    ]


# --- one song --------------------------------------------------------------------------------------------------------

_worker: tuple[Mapping[str, System], Dataset, Sequence[str] | None]
"""State of a worker process."""


def _start_worker(*state: Any) -> None:
    global _worker
    torch.set_num_threads(1)
    _worker = state  # pyright: ignore[reportAssignmentType]


def _work(track: Track, names: list[str]) -> list[list[Score]]:
    return list(_score_song(*_worker, track, names))


def _score_song(
    systems: Mapping[str, System], dataset: Dataset, targets: Sequence[str] | None, track: Track, names: Iterable[str]
) -> Iterator[list[Score]]:
    song = track.load()
    reference = SongReference(song)
    for name in names:
        system = systems[name]
        blanks = _blank_rows(name, system, track, dataset, targets)
        began = time.perf_counter()
        try:
            estimates = system(song)
        except BandsplitError as error:
            raise BandsplitError(f"{name}, song {track.name!r}: {error}") from None
        wall_s = time.perf_counter() - began if system.about(track).timed else None
        scored = blanks[0].scored_with
        _check_estimates(name, song, estimates, scored)
        measured = reference.measure(estimates, scored, torch.get_num_threads())
        yield [row.model_copy(update={**measured[row.target, row.metric], "wall_s": wall_s}) for row in blanks]


def _check_estimates(system: str, song: TrackAudio, estimates: Mapping[str, Audio], scored: Iterable[str]) -> None:
    where = f"{system}, song {song.track.name!r}"
    for target in scored:
        shape, wanted = np.shape(estimates[target]), song.mixture.shape
        if shape != wanted:
            raise BandsplitError(f"{where}: the estimate of {target} has shape {shape}, the song {wanted}")
        bad = np.argwhere(~np.isfinite(estimates[target]))
        if len(bad):
            raise BandsplitError(
                f"{where}: the estimate of {target} has {len(bad)} values that are NaN or infinite, the first at "
                f"sample {bad[:, 1].min()}; check the model"
            )

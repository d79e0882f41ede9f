"""Seeded generator of short multitrack songs in the layout of MUSDB18-HQ: data that anyone can make.

Songs differ in key, tempo, chords, form, instruments and singer, and nothing in them repeats sample for sample.
Stems overlap in frequency as real ones do, so a static filter cannot separate them.
"""

import json
import os
import shutil
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bandsplit.audio.writing import SoundFormat, Writer
from bandsplit.core.errors import ConfigError, DataError
from bandsplit.core.files import write_atomically
from bandsplit.core.processes import worker_pool
from bandsplit.data.songs.layouts import UNFINISHED
from bandsplit.data.synth.composition import STEMS, compose
from bandsplit.data.synth.drums import play_drums
from bandsplit.data.synth.instruments import play_bass, play_other
from bandsplit.data.synth.singing import play_vocals
from bandsplit.data.synth.sound import blocks, mastering_gain, ramps

RECORD = "synthesis.json"
# Increment whenever the same arguments give different samples.
GENERATOR = 3
SHORTEST_S = 1.0
FILES = ("mixture", *STEMS)
PLAYERS = {"vocals": play_vocals, "bass": play_bass, "drums": play_drums, "other": play_other}


def synthesise_song(seed: int, duration_s: float = 20.0, sample_rate_hz: int = 44100) -> dict[str, NDArray[np.float32]]:
    """Return the stems of one song by name, each ``c samples`` with two channels; equal seeds give equal samples.

    The stems have about the same energy (a few dB apart, differently in each song). They are mastered together, with
    one gain for all: loud passages of the mixture have about -15 dB, and no sample exceeds 0.99.

    Raises:
        ConfigError: the song is shorter than a second, or the sample rate is below 16 kHz.
    """
    _check_song(duration_s, sample_rate_hz)
    plan_rng, level_rng, *stem_rngs = _generators(seed)
    plan = compose(plan_rng, duration_s)
    samples = round(duration_s * sample_rate_hz)
    stems = {}
    for stem, rng in zip(STEMS, stem_rngs, strict=True):
        track = PLAYERS[stem](plan, samples, sample_rate_hz, rng)
        track = ramps(track, 0.002, 0.03, sample_rate_hz)
        level_db = np.clip(level_rng.normal(0, 1.2), -2.5, 2.5)
        power = sum(float(np.square(track[:, part]).sum()) for part in blocks(samples)) / track.size
        track *= 10 ** (level_db / 20) / power**0.5
        stems[stem] = track
    mixture, peaks = np.zeros((2, samples), dtype=np.float32), np.empty(samples, dtype=np.float32)
    for part in blocks(samples):
        for track in stems.values():
            mixture[:, part] += track[:, part]
        peaks[part] = np.max([np.abs(signal[:, part]).max(axis=0) for signal in [mixture, *stems.values()]], axis=0)
    loudness_db = level_rng.uniform(-16, -14)
    gain = mastering_gain(mixture, peaks, loudness_db, 10 ** (level_rng.uniform(-1.0, -0.15) / 20), sample_rate_hz)
    for track in stems.values():
        track *= gain
    return stems


def song_title(seed: int, duration_s: float = 20.0) -> str:
    """Return key and tempo of the song that `synthesise_song` makes from the same arguments."""
    return compose(_generators(seed)[0], duration_s).title


def _generators(seed: int) -> list[np.random.Generator]:
    return [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2 + len(STEMS))]


def write_dataset(
    root: Path,
    *,
    n_train: int,
    n_valid: int,
    n_test: int,
    duration_s: float,
    seed: int,
    sample_rate_hz: int = 44100,
    workers: int = 2,
) -> list[Path]:
    """Write ``root/train|valid|test/<song>/{mixture,vocals,bass,drums,other}.wav`` and return the song folders.

    Files have 16 bits; the mixture is the exact sum of the stored stems. A song depends only on `seed`, its split and
    its number within the split. A complete data set of the same arguments is not changed, an interrupted one completed.

    Raises:
        ConfigError: a number is negative, or there would be no song.
        DataError: the folder contains anything but this data set, or cannot be written.
        AudioError: a song cannot be written; finished songs are kept.
    """
    _check_song(duration_s, sample_rate_hz)
    counts = {"train": n_train, "valid": n_valid, "test": n_test}
    if min(counts.values()) < 0 or sum(counts.values()) == 0:
        raise ConfigError(f"a data set needs at least one song, and no number of songs may be negative, got {counts}")
    if workers < 1:
        raise ConfigError(f"workers is {workers}; it must be 1 or more")
    arguments = {
        "generator": GENERATOR,
        **counts,
        "duration_s": float(duration_s),
        "sample_rate_hz": sample_rate_hz,
        "seed": seed,
    }
    songs = _songs(Path(root), counts, duration_s, seed)
    try:
        _open_folder(Path(root), arguments)
        missing = [song for song in songs if not all((song[0] / f"{name}.wav").is_file() for name in FILES)]
        try:
            _write_songs(missing, duration_s, sample_rate_hz, workers)
        finally:
            _sweep(Path(root))
        if (Path(root) / UNFINISHED).exists():
            os.replace(Path(root) / UNFINISHED, Path(root) / RECORD)
    except OSError as error:
        raise DataError(f"cannot write the synthetic data set to {root}: {error}; choose another folder") from error
    except BrokenProcessPool as error:
        raise DataError(
            f"a process that wrote songs to {root} was killed, perhaps because memory ran out; "
            "run the same command again: finished songs are kept"
        ) from error
    return [folder for folder, _ in songs]


def _check_song(duration_s: float, sample_rate_hz: int) -> None:
    if not duration_s >= SHORTEST_S:
        raise ConfigError(f"duration_s is {duration_s}; a song must last {SHORTEST_S:g} s or more")
    if sample_rate_hz < 16000:
        raise ConfigError(f"sample_rate_hz is {sample_rate_hz}; a song needs 16000 Hz or more")


def _songs(root: Path, counts: dict[str, int], duration_s: float, seed: int) -> list[tuple[Path, int]]:
    """List folder and seed of every song."""
    songs = []
    for i, (split, n) in enumerate(counts.items()):
        for k in range(n):
            song_seed = int(np.random.SeedSequence([seed, i, k]).generate_state(1, np.uint64)[0])
            name = f"Song {len(songs) + 1:03d} - {song_title(song_seed, duration_s)}"
            songs.append((root / split / name, song_seed))
    return songs


def _open_folder(root: Path, arguments: dict[str, float]) -> None:
    """Check that the folder is empty or contains this data set, complete or in part, and nothing else."""
    for name in (RECORD, UNFINISHED):
        if (root / name).exists():
            found = _read_record(root / name)
            if found != arguments:
                raise DataError(
                    f"{root} holds a synthetic data set made with other arguments: {_difference(found, arguments)}. "
                    "Delete the folder, choose another one, or ask for the same data set"
                )
            break
    else:
        if root.exists() and any(root.iterdir()):
            raise DataError(f"{root} is not empty and holds no synthetic data set; choose an empty or a new folder")
        root.mkdir(parents=True, exist_ok=True)
        write_atomically(root / UNFINISHED, json.dumps(arguments, indent=2).encode() + b"\n")
    _sweep(root)


def _sweep(root: Path) -> None:
    """Remove songs whose writer was stopped."""
    for leftover in root.glob(".writing-*"):
        shutil.rmtree(leftover)


def _read_record(path: Path) -> dict[str, float]:
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is not the record of a synthetic data set: {error}; delete its folder") from error


def _difference(found: dict[str, float], asked: dict[str, float]) -> str:
    keys = [key for key in {**found, **asked} if found.get(key) != asked.get(key)]
    return ", ".join(f"{key} is {found.get(key)} instead of {asked.get(key)}" for key in keys)


def _write_songs(songs: list[tuple[Path, int]], duration_s: float, sample_rate_hz: int, workers: int) -> None:
    write = partial(_write_song, duration_s=duration_s, sample_rate_hz=sample_rate_hz)
    if workers == 1 or len(songs) < 2:
        for song in songs:
            write(song)
        return
    with worker_pool(workers) as pool:
        for _ in pool.map(write, songs):
            pass


def _write_song(song: tuple[Path, int], duration_s: float, sample_rate_hz: int) -> None:
    """Write the five files next to the splits and move them together: a song is complete or absent."""
    folder, seed = song
    part = folder.parents[1] / f".writing-{folder.name}"
    stored = {
        stem: np.rint(audio * 32767).astype(np.int32)
        for stem, audio in synthesise_song(seed, duration_s, sample_rate_hz).items()
    }
    stored["mixture"] = sum(stored.values(), start=np.zeros((2, 1), dtype=np.int32))
    try:
        part.mkdir()
        for name, audio in stored.items():
            path = part / f"{name}.wav"
            with Writer(path, SoundFormat.of(path, "PCM_16"), sample_rate_hz, 2, audio.shape[1]) as file:
                file.write(audio.astype(np.int16))
                file.commit()
        folder.parent.mkdir(exist_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)

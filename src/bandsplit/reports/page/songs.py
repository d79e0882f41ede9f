"""Excerpts for the report's player: every signal of a song in one script, and a picture of each.

A page opened from the disk may not fetch audio files, and the Web Audio API gives silence for media elements that read
them, but it may load scripts. So the audio of a song is in its own script: Ogg Vorbis as text, loaded when the song
is first played. The player decodes it and starts all signals on the same sample.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bandsplit.audio import files as audio
from bandsplit.core.errors import AudioError
from bandsplit.core.targets import order_targets
from bandsplit.core.unfinished import temporary_folder
from bandsplit.reports.page.content import SongAudio
from bandsplit.reports.player.song import MIXTURE, REFERENCE, PlayerSong, Version
from bandsplit.reports.spectrograms import draw_strip, peak_level_db

LONGEST_S = 30.0


@dataclass(frozen=True)
class SongPart(PlayerSong):
    """A song and its excerpt, as the page describes them."""

    script: str
    """Address within the report."""
    bytes: int
    """Size of the script."""
    start_s: float
    whole: bool
    """Whether the excerpt is the entire song."""


def write_song(folder: Path, number: int, song: SongAudio) -> SongPart:
    """Write ``assets/songs/<number>*``: the loudest excerpt of at most 30 s of every signal, and its spectrogram.

    Args:
        folder: the report.
        number: of the song, names its files.
        song: its audio files.

    Raises:
        AudioError: a file cannot be read, or has another rate or length than the mixture.
    """
    start, samples, rate_hz, whole = _find_excerpt(song)
    signals = {key: (track, name, audio.read(path, start, samples)[0]) for key, track, name, path in _files(song)}
    peak = max(float(np.abs(signal).max()) for _, _, signal in signals.values())
    gain = min(1.0, 0.99 / peak) if peak else 1.0
    loudest_db = peak_level_db(signals[MIXTURE][2])
    tracks: dict[str, tuple[Version, ...]] = {}
    files = folder / "assets" / "songs"
    files.mkdir(parents=True, exist_ok=True)
    script = files / f"{number}.js"
    with script.open("w", encoding="ascii") as file:
        file.write(f'bandsplitAudio("song-{number}", {{\n')
        for key, (track, name, signal) in signals.items():
            picture = files / f"{number}-{key}.jpg"
            draw_strip(picture, signal, rate_hz, loudest_db)
            file.write(f"{json.dumps(key)}: {json.dumps(_encode(signal * np.float32(gain), rate_hz))},\n")
            tracks[track] = (*tracks.get(track, ()), Version(key, name, picture.relative_to(folder).as_posix()))
        file.write("});\n")
    return SongPart(
        id=f"song-{number}",
        name=song.name,
        script=script.relative_to(folder).as_posix(),
        bytes=script.stat().st_size,
        start_s=start / rate_hz,
        duration_s=samples / rate_hz,
        whole=whole,
        gain_db=20 * float(np.log10(gain)),
        systems=tuple(song.estimates),
        tracks=tracks,
    )


def _files(song: SongAudio) -> Iterator[tuple[str, str, str, Path]]:
    """Yield key, track, name and file of every signal: the mixture, then per target its estimates and its reference."""
    yield MIXTURE, MIXTURE, MIXTURE, song.mixture
    targets = order_targets(target for files in (song.references, *song.estimates.values()) for target in files)
    for row, target in enumerate(targets):
        for column, (system, estimates) in enumerate(song.estimates.items()):
            if target in estimates:
                yield f"{row}-{column}", target, system, estimates[target]
        if target in song.references:
            yield f"{row}-{REFERENCE}", target, REFERENCE, song.references[target]


def _find_excerpt(song: SongAudio) -> tuple[int, int, int, bool]:
    """Return first sample, samples and rate of the loudest 30 s of the mixture, and whether that is the entire song."""
    whole = audio.info(song.mixture)
    for _, _, _, path in _files(song):
        found = audio.info(path)
        if (found.samples, found.sample_rate_hz) != (whole.samples, whole.sample_rate_hz):
            raise AudioError(
                f"{path}: has {found.samples} samples at {found.sample_rate_hz} Hz, but the mixture of {song.name!r} "
                f"{whole.samples} at {whole.sample_rate_hz} Hz; the player needs signals of one rate and length"
            )
    samples = round(LONGEST_S * whole.sample_rate_hz)
    if whole.samples <= samples:
        return 0, whole.samples, whole.sample_rate_hz, True
    mixture, rate_hz = audio.read(song.mixture)
    energy = np.concatenate([[0.0], np.square(mixture, dtype=np.float64).sum(axis=0).cumsum()])
    starts = np.arange(0, whole.samples - samples + 1, max(1, rate_hz // 10))
    return int(starts[np.argmax(energy[starts + samples] - energy[starts])]), samples, rate_hz, False


def _encode(signal: NDArray[np.float32], rate_hz: int) -> str:
    with temporary_folder() as folder:
        path = Path(folder) / "signal.ogg"
        audio.write(path, signal, rate_hz)
        return base64.b64encode(path.read_bytes()).decode("ascii")

"""Copies of a song and its stems to listen to: pieces of flac, which the player joins on the sample, and waveforms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from bandsplit.audio import files as audio
from bandsplit.audio.arrays import resampled_length
from bandsplit.audio.decoding import open_song
from bandsplit.audio.streams import SecondsProgress, Source, resample_blocks

PIECE_S = 10
FOLDER = "listen"
"""Folder of the copies in that of the stems: ``<signal>/<piece>.flac`` and ``<signal>.svg``, numbers from 0; signal 0
is the song."""

_RATES_HZ = range(8000, 96_001)
"""Rates that browsers play as they are."""
_OTHER_HZ = 48_000
_COLUMNS, _HEIGHT = 1000, 100
_COLOUR = "#62c4c9"


def write_copies(
    folder: Path, song: Path, stems: Sequence[Path], progress: SecondsProgress = lambda *_: None
) -> tuple[int, float]:
    """Write the pieces and the waveforms of a song and its stems.

    Args:
        folder: the folder of the stems.
        song: the file that was separated.
        stems: their files, of its sample rate and length.
        progress: called with the seconds done, the total and the stage "listen"; an exception from it aborts.

    Returns:
        The sample rate of the copies, and their gain in dB, 0 unless something would clip.

    Raises:
        AudioError: a file cannot be read or written.
    """
    with ExitStack() as stack:
        sources = [stack.enter_context(open_song(path)) for path in (song, *stems)]
        first, total_s = sources[0], 2 * sum(source.samples / source.sample_rate_hz for source in sources)
        done_s = 0.0

        def read(source: Source) -> Iterator[np.ndarray]:
            nonlocal done_s
            for block in source.blocks():
                yield block
                done_s += block.shape[1] / source.sample_rate_hz
                progress(done_s, total_s, "listen")

        envelopes = [_envelope(read(source), source.samples) for source in sources]
        peak = max(float(envelope.max()) for envelope in envelopes)
        gain = min(1.0, 1 / peak) if peak else 1.0
        rate_hz = first.sample_rate_hz if first.sample_rate_hz in _RATES_HZ else _OTHER_HZ
        samples = resampled_length(first.samples, first.sample_rate_hz, rate_hz)
        for number, (source, envelope) in enumerate(zip(sources, envelopes, strict=True)):
            place = folder / FOLDER / str(number)
            place.mkdir(parents=True)
            place.with_suffix(".svg").write_text(_waveform(gain * envelope), encoding="ascii")
            blocks = (_for_speakers(block) for block in read(source))
            resampled = resample_blocks(blocks, source.sample_rate_hz, rate_hz, samples)
            for piece, block in enumerate(_cut(resampled, PIECE_S * rate_hz)):
                audio.write(place / f"{piece}.flac", np.float32(gain) * block, rate_hz, "PCM_16")
    return rate_hz, 20 * math.log10(gain)


def _envelope(blocks: Iterator[np.ndarray], samples: int) -> np.ndarray:
    """Return the largest magnitude in each of at most 1000 columns of equal length."""
    columns = min(_COLUMNS, samples)
    envelope, at = np.zeros(columns, np.float32), 0
    for block in blocks:
        levels = np.abs(block).max(axis=0)
        where = np.arange(at, at + len(levels)) * columns // samples
        np.maximum.at(envelope, np.minimum(where, columns - 1), levels)
        at += len(levels)
    return envelope


def _waveform(envelope: np.ndarray) -> str:
    """Draw an envelope, mirrored, as a picture that is stretched to the song's length."""
    middle, last = _HEIGHT / 2, len(envelope) - 1
    heights = np.minimum(envelope, 1) * middle
    upper = [f"{column} {middle - height:.1f}" for column, height in enumerate(heights)]
    lower = [f"{column} {middle + height:.1f}" for column, height in reversed(list(enumerate(heights)))]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_COLUMNS}" height="{_HEIGHT}" '
        f'viewBox="0 0 {max(1, last)} {_HEIGHT}" preserveAspectRatio="none"><path fill="{_COLOUR}" stroke="{_COLOUR}" '
        f'd="M{"L".join(upper + lower)}Z"/></svg>\n'
    )


def _for_speakers(block: np.ndarray) -> np.ndarray:
    """Return one or two channels as they are, and the mean of more."""
    return block if len(block) <= 2 else block.mean(axis=0, keepdims=True)


def _cut(blocks: Iterator[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """Join blocks and cut them into pieces of ``samples``; the last may be shorter."""
    kept: list[np.ndarray] = []
    length = 0
    for block in blocks:
        while length + block.shape[1] >= samples:
            part, block = np.split(block, [samples - length], axis=1)
            yield np.concatenate([*kept, part], axis=1)
            kept, length = [], 0
        kept.append(block)
        length += block.shape[1]
    if length:
        yield np.concatenate(kept, axis=1)

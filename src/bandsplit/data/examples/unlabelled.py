"""Parts of training examples from unlabelled songs: segments that a teacher separated, and the rule that judges them.

Source: BSRNN paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from bandsplit.data.examples.mixing import MixingConfig, UnlabelledConfig
from bandsplit.data.examples.sampling import Part, PseudoDraw, draw_pseudo
from bandsplit.data.songs.tracks import Audio, Track


class Separated(NamedTuple):
    """A segment of an unlabelled song and the teacher's estimate of the target in it, ``c samples``."""

    mixture: Audio
    target: Audio
    note: str = ""
    """A note for the user."""


class Separate(Protocol):
    """A teacher at work. Its answer depends on the teacher and on its arguments alone."""

    def __call__(self, track: Track, first: int) -> Separated:
        """Separate the segment of ``track`` that begins with its sample ``first``, at the rate of the model."""
        ...


class Excerpts(NamedTuple):
    """Parts of one example."""

    parts: Mapping[Part, Audio]
    """``c samples``; a part that is missing comes from labelled songs."""
    note: str = ""
    """A note for the user."""


@dataclass(frozen=True)
class PseudoStems:
    """Stems for examples from segments of unlabelled songs."""

    tracks: Sequence[Track]
    segments: Sequence[tuple[int, int]]
    """Number of the track and first sample of each segment."""
    config: UnlabelledConfig
    separate: Separate

    def excerpts(self, mixing: MixingConfig, seed: int, epoch: int, index: int, samples: int) -> Excerpts:
        """Return the parts of an example of ``samples`` that come from unlabelled songs.

        A segment without the part that it was drawn for leaves this part to the labelled songs.

        Raises:
            AudioError: a file was removed or damaged after the songs were indexed.
        """
        parts: dict[Part, Audio] = {}
        separated: dict[int, Separated] = {}
        for part, draw in self._draw(mixing, seed, epoch, index).items():
            if draw.drop:
                parts[part] = np.zeros((self.tracks[0].channels, samples), np.float32)
                continue
            if draw.segment not in separated:
                number, first = self.segments[draw.segment]
                separated[draw.segment] = self.separate(self.tracks[number], first)
            found = judge(separated[draw.segment], self.config).get(part)
            if found is not None:
                parts[part] = _cut(found, draw, samples)
        notes = [segment.note for segment in separated.values() if segment.note]
        return Excerpts(parts, notes[0] if notes else "")

    def songs(self, mixing: MixingConfig, seed: int, epoch: int, index: int) -> dict[str, str]:
        """Return the name of the song of each part of an example that is drawn from unlabelled songs."""
        draws = self._draw(mixing, seed, epoch, index)
        return {f"unlabelled {part}": self.tracks[self.segments[draw.segment][0]].name for part, draw in draws.items()}

    def _draw(self, mixing: MixingConfig, seed: int, epoch: int, index: int) -> dict[Part, PseudoDraw]:
        return draw_pseudo(self.config, mixing, len(self.segments), seed=seed, epoch=epoch, index=index)


def judge(segment: Separated, config: UnlabelledConfig) -> dict[Part, Audio]:
    """Return what a segment can be used as, by the energies of its mixture and of both estimates.

    If the target is far below the mixture, the mixture is a clean residual; if the residual is, the mixture is a clean
    target; otherwise both estimates are used. A quiet segment is not used.

    Source: BSRNN paper.
    """
    residual = segment.mixture - segment.target
    mixture_energy, target_energy, residual_energy = map(_energy, (segment.mixture, segment.target, residual))
    if config.quietest_db is not None and mixture_energy < 10 ** (config.quietest_db / 10) * segment.mixture.size:
        return {}
    factor = 10 ** (config.threshold_db / 10)
    if mixture_energy > factor * target_energy:
        return {"residual": segment.mixture}
    if mixture_energy > factor * residual_energy:
        return {"target": segment.mixture}
    return {"target": segment.target, "residual": residual}


def cut_segments(tracks: Sequence[Track], config: UnlabelledConfig) -> list[tuple[int, int]]:
    """Cut songs into neighbouring segments; the last one of a song ends with it, and a short song is one segment.

    Returns:
        Number of the track and first sample of each segment.
    """
    found = []
    for number, track in enumerate(tracks):
        length = round(config.segment_s * track.sample_rate_hz)
        last = max(0, track.samples - length)
        found += [(number, first) for first in (*range(0, last, length), last)]
    return found


def _energy(signal: Audio) -> float:
    return float(np.sum(np.square(signal, dtype=np.float64)))


def _cut(signal: Audio, draw: PseudoDraw, samples: int) -> Audio:
    """Return the drawn excerpt of a segment; zeros follow the end of a shorter one."""
    start = int(draw.position * max(1, signal.shape[1] - samples + 1))
    excerpt = signal[:, start : start + samples] * np.float32(draw.gain)
    excerpt = excerpt[::-1] if draw.swap else excerpt
    return np.pad(excerpt, ((0, 0), (0, samples - excerpt.shape[1])))

"""Training examples: random mixes of stems, each a pure function of (seed, epoch, index).

Source: NUMERICS "Training", row 19: songs drawn at random per stem and example, linear gain, channel swap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bandsplit import audio
from bandsplit.data.musdb import Audio, Track
from bandsplit.errors import DataError


class Example(NamedTuple):
    """One training example, or a batch of them with ``b`` in front; float32."""

    mixture: Tensor
    """``c samples``"""
    targets: Tensor
    """``s c samples``"""


@dataclass(frozen=True)
class ExampleDataset(Dataset[Example]):
    """Examples of one epoch; every item depends on ``seed``, ``epoch`` and its index alone.

    The mixture is the sum of all stems of the songs, targets or not.

    Raises:
        DataError: no songs; a target without a stem; songs whose channels or stems are not the asked ones.
    """

    tracks: Sequence[Track]
    """Songs to draw from."""
    targets: Sequence[str]
    """Stems that are targets, in the order of the target axis."""
    excerpt_samples: int
    """Length of an example; shorter songs are padded with zeros at the end."""
    examples: int
    """Number of examples per epoch."""
    sample_rate_hz: int
    """Rate of the examples; excerpts of songs with another rate are resampled."""
    channels: int
    """Channels that the songs must have."""
    gain_range: tuple[float, float] = (0.25, 1.25)
    """Linear gain of each stem, drawn uniformly."""
    swap_probability: float = 0.5
    """Probability of reversing the channels of each stem."""
    same_song_probability: float = 0.0
    """Probability that all stems of an example are taken from one place in one song."""
    seed: int = 0
    """Any integer from 0 to 2**64 - 1."""
    epoch: int = 0
    """See `at_epoch`."""

    def __post_init__(self) -> None:
        if not self.tracks:
            raise DataError("tracks: a training set needs at least one song, got none")
        stems = set(self.tracks[0].stems)
        missing = [target for target in self.targets if target not in stems]
        if missing:
            legal = ", ".join(sorted(stems))
            raise DataError(f"targets: the data set has no stem {', '.join(missing)}; it has {legal}")
        for unit, wanted in (("channels", self.channels), ("stems", stems)):
            for track in self.tracks:
                found = set(track.stems) if unit == "stems" else getattr(track, unit)
                if found != wanted:
                    raise DataError(
                        f"{track.split}/{track.name}: {unit} is {found}, the model and the other songs need {wanted}; "
                        f"convert the song or change the model's {unit}"
                    )

    def __len__(self) -> int:
        """Return the number of examples per epoch."""
        return self.examples

    def at_epoch(self, epoch: int) -> ExampleDataset:
        """Return the examples of another epoch; a new object, so that loader workers cannot keep an old epoch."""
        return replace(self, epoch=epoch)

    def __getitem__(self, index: int) -> Example:
        """Mix example ``index`` of the epoch.

        Raises:
            IndexError: the index is not in 0 to ``len(self) - 1``.
            AudioError: a file went missing or broke since the songs were indexed.
        """
        if not 0 <= index < self.examples:
            raise IndexError(f"index: {index} is not in 0 to {self.examples - 1}")
        # The index sits in the counter's highest word: streams of different examples can never meet.
        counter = np.array([0, 0, 0, index], dtype=np.uint64)
        key = np.array([self.seed, self.epoch], dtype=np.uint64)
        random = np.random.Generator(np.random.Philox(counter=counter, key=key))
        together = self._place(random) if random.random() < self.same_song_probability else None
        # Sorted, so that neither the order of the targets nor that of the files changes what is drawn.
        stems = {stem: self._draw(random, stem, together) for stem in sorted(self.tracks[0].stems)}
        mixture = np.sum(list(stems.values()), axis=0)
        targets = np.stack([stems[target] for target in self.targets])
        return Example(torch.from_numpy(mixture), torch.from_numpy(targets))

    def _place(self, random: np.random.Generator) -> tuple[Track, float]:
        """Draw a song and a position in it, from 0 to 1."""
        return self.tracks[int(random.integers(len(self.tracks)))], random.random()

    def _draw(self, random: np.random.Generator, stem: str, together: tuple[Track, float] | None) -> Audio:
        """Read an excerpt of one stem, at the common place if there is one. Draws never depend on what is drawn."""
        apart, gain, swap = self._place(random), random.uniform(*self.gain_range), random.random()
        track, position = together or apart
        wanted = audio.resampled_length(self.excerpt_samples, self.sample_rate_hz, track.sample_rate_hz)
        start = int(position * max(1, track.samples - wanted + 1))
        signal, rate_hz = audio.read(track.stems[stem], start=start, samples=min(wanted, track.samples))
        if rate_hz != self.sample_rate_hz:
            signal = audio.resample(signal, rate_hz, self.sample_rate_hz)[:, : self.excerpt_samples]
        if swap < self.swap_probability:
            signal = signal[::-1]
        padded = np.zeros((self.channels, self.excerpt_samples), np.float32)
        padded[:, : signal.shape[1]] = signal * np.float32(gain)
        return padded


def shard_indices(n_examples: int, start: int = 0, rank: int = 0, world: int = 1) -> range:
    """Return the indices of one process: ``start + rank``, then every ``world``-th.

    All processes get equally many, so up to ``world - 1`` examples at the end of an epoch are left out: a process with
    one more would wait for the others for ever.

    Args:
        n_examples: examples per epoch.
        start: number of examples that all processes together have used already.
        rank: this process, from 0.
        world: number of processes.
    """
    each = max(0, n_examples - start) // world
    return range(start + rank, start + rank + each * world, world)

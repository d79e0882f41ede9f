"""Random draws of examples: a pure function of the mixing policy and (seed, epoch, index), without reading a file.

Every example has a table of uniform numbers, with a row per stem and one for the mixture; each decision has its own
column. A policy can therefore change in one respect while everything else in every example stays the same.

Source: docs/numerics.md#training-examples; paper, section IV-A.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bandsplit.data.examples.augment import (
    MIXTURE_DRAWS,
    STEM_DRAWS,
    MixtureAugmentation,
    StemAugmentation,
    draw_mixture,
    draw_stem,
)
from bandsplit.data.examples.mixing import DbGain, LinearGain, MixingConfig, UnlabelledConfig

COLUMNS = 32
"""Uniform numbers per row of the table; unused ones are reserved so that a new decision does not shift the others."""

PLACE, POSITION, GAIN, SWAP, DROP, TOGETHER, DATA_SET, UNLABELLED = range(8)
AUGMENT_STEM, AUGMENT_MIXTURE = slice(8, 8 + len(STEM_DRAWS)), slice(24, 24 + len(MIXTURE_DRAWS))

GROUP = 4
"""Examples that exchange their stems."""
SPREAD_S = 1.0
"""Seconds between two places of a song whose stems are exchanged, and the most between two stems of one place."""

Regions = NDArray[np.int64]
"""Regions to draw from, one row ``(track, first sample, samples)`` each."""


class StemDraw(NamedTuple):
    """Draw of one stem of an example."""

    track: int
    first: int
    """First sample of the region that the excerpt is drawn from."""
    region_samples: int
    position: float
    """Position of the excerpt in the region, from 0 to 1."""
    gain: float
    swap: bool
    drop: bool
    augmentation: StemAugmentation


Part: TypeAlias = Literal["target", "residual"]
"""Part of an example that an unlabelled song may replace."""
PARTS: tuple[Part, ...] = ("target", "residual")


class PseudoDraw(NamedTuple):
    """Draw of one part of an example from an unlabelled song."""

    segment: int
    """Number of the segment."""
    position: float
    """Position of the excerpt in the segment, from 0 to 1."""
    gain: float
    swap: bool
    drop: bool


class ExampleDraw(NamedTuple):
    """Draw of one example."""

    stems: dict[str, StemDraw]
    mixture: MixtureAugmentation


@dataclass(frozen=True)
class Sampler:
    """Draws examples from regions of stems.

    Every draw of an epoch depends only on ``seed``, ``epoch`` and the index; its cost does not depend on the number
    of regions.
    """

    regions: Mapping[str, Regions]
    """Regions by stem; every stem has at least one."""
    together: Regions
    """Entire songs as regions, or places in them for groups, for examples that keep the stems of one song together."""
    targets: Sequence[str]
    mixing: MixingConfig
    seed: int
    epoch: int = 0

    def draw(self, index: int) -> ExampleDraw:
        """Draw example ``index`` of the epoch."""
        stems = sorted(self.regions)
        table = self._table(index)
        whole = table[-1]
        together = whole[TOGETHER] < self.mixing.same_song_probability
        grouped = self.mixing.pairing == "groups"
        owners = self._exchange(index) if grouped and not together else [index] * len(stems)
        tables = {index: table} | {owner: self._table(owner) for owner in {*owners} - {index}}
        draws = {}
        for number, (stem, owner) in enumerate(zip(stems, owners, strict=True)):
            row, song = tables[owner][number], tables[owner][-1]
            if together or grouped:
                track, first, samples = self.together[int(song[PLACE] * len(self.together))]
            else:
                track, first, samples = self._region(stem, row, whole)
            draws[stem] = StemDraw(
                int(track),
                int(first),
                int(samples),
                float(whole[POSITION] if together else row[POSITION]),
                _gain(self.mixing.gain, row[GAIN]),
                bool(row[SWAP] < self.mixing.swap_probability),
                self._drops(stem) and bool(row[DROP] < self.mixing.drop_probability),
                draw_stem(self.mixing.augment, self._augment_draws(row, song if together or grouped else row)),
            )
        return ExampleDraw(draws, draw_mixture(self.mixing.augment, whole[AUGMENT_MIXTURE]))

    def _table(self, index: int) -> NDArray[np.float64]:
        return _uniforms(self.seed, self.epoch, index, len(self.regions) + 1)

    def _exchange(self, index: int) -> list[int]:
        """Return, for each stem, the example of the group of ``index`` that it is taken from."""
        group, place = divmod(index, GROUP)
        # The second word of the counters of examples is zero, so that these streams can never overlap with them.
        random = _generator(self.seed, self.epoch, (0, 1, 0, group)).random((len(self.regions), GROUP))
        return [GROUP * group + int(order[place]) for order in random.argsort(axis=1)]

    def _region(self, stem: str, row: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.int64]:
        if self.mixing.pairing == "free":
            return self.regions[stem][int(row[PLACE] * len(self.regions[stem]))]
        pair = int(whole[PLACE] * self._n_pairs)
        order = self._orders[stem]
        return self.regions[stem][order[pair % len(order)]]

    @staticmethod
    def _augment_draws(row: NDArray[np.float64], tuning: NDArray[np.float64]) -> list[float]:
        """Return the draws of a stem; stems of one song share pitch and tempo."""
        own, common = row[AUGMENT_STEM], tuning[AUGMENT_STEM]
        kept = {"pitch", "pitch_semitones", "tempo", "tempo_factor"}
        return [float((common if name in kept else own)[i]) for i, name in enumerate(STEM_DRAWS)]

    def _drops(self, stem: str) -> bool:
        return self.mixing.drop == "all" or (self.mixing.drop == "target" and stem in self.targets)

    @cached_property
    def _n_pairs(self) -> int:
        return max(len(regions) for regions in self.regions.values())

    @cached_property
    def _orders(self) -> dict[str, NDArray[np.int64]]:
        """The shuffled regions of each stem; regions at the same index are combined."""
        epoch = self.epoch + 1 if self.mixing.pairing == "epoch" else 0
        orders = {}
        for number, stem in enumerate(sorted(self.regions)):
            # Counters of examples start with three zeros, so these streams can never overlap with them.
            random = _generator(self.seed, 0, (1, number, epoch, 0))
            orders[stem] = random.permutation(len(self.regions[stem]))
        return orders


def draw_set(weights: Sequence[float], seed: int, epoch: int, index: int) -> int:
    """Draw the data set that example ``index`` of an epoch comes from, with probabilities in proportion to weights."""
    bounds = np.cumsum(weights)
    # The first row of the table is the same for any number of stems.
    drawn = _uniforms(seed, epoch, index, 1)[0, DATA_SET] * bounds[-1]
    return min(int(np.searchsorted(bounds, drawn, side="right")), len(bounds) - 1)


def draw_pseudo(
    unlabelled: UnlabelledConfig, mixing: MixingConfig, segments: int, *, seed: int, epoch: int, index: int
) -> dict[Part, PseudoDraw]:
    """Draw those parts of example ``index`` of an epoch that come from ``segments`` segments of unlabelled songs."""
    # The second word of the counter is 2, unlike those of examples and groups: these streams never overlap with them.
    *rows, whole = _generator(seed, epoch, (0, 2, 0, index)).random((len(PARTS) + 1, COLUMNS))
    together = whole[TOGETHER] < unlabelled.same_segment_probability
    draws: dict[Part, PseudoDraw] = {}
    for part, row in zip(PARTS, rows, strict=True):
        place = whole if together else row
        if place[UNLABELLED] < unlabelled.share:
            dropped = mixing.drop == "all" or (mixing.drop == "target" and part == "target")
            draws[part] = PseudoDraw(
                int(place[PLACE] * segments),
                float(place[POSITION]),
                _gain(mixing.gain, row[GAIN]) if unlabelled.gain else 1.0,
                bool(row[SWAP] < mixing.swap_probability),
                unlabelled.drop and dropped and bool(row[DROP] < mixing.drop_probability),
            )
    return draws


def _gain(config: LinearGain | DbGain, u: float) -> float:
    value = config.low + (config.high - config.low) * u
    return float(10 ** (value / 20)) if config.kind == "db" else float(value)


def _uniforms(seed: int, epoch: int, index: int, rows: int) -> NDArray[np.float64]:
    # The index is the counter's highest word, so streams of different examples can never overlap.
    return _generator(seed, epoch, (0, 0, 0, index)).random((rows, COLUMNS))


def _generator(seed: int, epoch: int, counter: tuple[int, int, int, int]) -> np.random.Generator:
    key = np.array([seed, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=np.array(counter, dtype=np.uint64), key=key))

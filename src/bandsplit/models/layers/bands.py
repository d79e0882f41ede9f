"""Layouts of bands: runs of bands of equal width, adjacent or overlapping, and the mean over the bands of a bin."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from bandsplit.core.errors import ConfigError

MOST_BANDS_OF_A_BIN = 16
"""Limit for layouts that overlap; published ones have 2 or 3 bands at a bin."""


class BandRun(NamedTuple):
    """Consecutive bands of one width, each beginning ``step`` bins after the previous one."""

    start: int
    count: int
    width: int
    step: int | None = None
    """Less than ``width`` where bands overlap; None: they are adjacent."""

    @property
    def stop(self) -> int:
        """The first bin after the run."""
        return self.start + (self.count - 1) * (self.width if self.step is None else self.step) + self.width

    def bins(self) -> list[int]:
        """Return the bins of all bands, band by band."""
        step = self.width if self.step is None else self.step
        return [self.start + band * step + bin for band in range(self.count) for bin in range(self.width)]


def range_runs(ranges: Sequence[tuple[int, int]], n_bins: int) -> list[BandRun]:
    """Return bands given as ranges of bins, ``(first, end)``, as runs of equal width; they may overlap.

    Raises:
        ConfigError: a range is empty or reaches past the last of ``n_bins`` bins, or a bin is in no or too many bands.
    """
    runs: list[BandRun] = []
    changes: Counter[int] = Counter()  # in the number of bands, for each bin where it changes
    for first, end in ranges:
        if not 0 <= first < end <= n_bins:
            raise ConfigError(f"bands: [{first}, {end}] is not a range of the bins 0 to {n_bins}; give first < end")
        changes.update({first: 1})
        changes.update({end: -1})
        _append(runs, first, end - first)
    bands = 0
    for bin in sorted({0, *changes}):
        bands += changes[bin]
        if bin < n_bins and not 1 <= bands <= MOST_BANDS_OF_A_BIN:
            raise ConfigError(
                f"bands: bin {bin} of {n_bins} is in {bands} bands; each must be in at least 1 and at most "
                f"{MOST_BANDS_OF_A_BIN}"
            )
    return runs


def _append(runs: list[BandRun], first: int, width: int) -> None:
    """Add a band, to the last run if the bands of that run have the same width and distance."""
    if runs and runs[-1].width == width:
        start, count, _, step = runs[-1]
        distance = first - (start + (count - 1) * (width if step is None else step))
        distance = None if distance == width else distance
        if distance == step or (count == 1 and (distance is None or distance > 0)):
            runs[-1] = BandRun(start, count + 1, width, distance)
            return
    runs.append(BandRun(first, 1, width))


def are_side_by_side(runs: Sequence[BandRun]) -> bool:
    """Return whether the bands are adjacent and each bin is in exactly one."""
    starts = itertools.accumulate((run.count * run.width for run in runs), initial=0)
    return all(run.step is None and run.start == start for run, start in zip(runs, starts, strict=False))


def mean_of_bands(runs: Sequence[BandRun]) -> tuple[list[list[int]], list[list[float]]]:
    """Return the indices and shares that average the masks of overlapping bands.

    Returns:
        For each bin, the indices of its masks among the masks of all bands, band by band, and their shares. Shares of
        zero fill up the lists of bins that are in fewer bands than others, so that all lists have one length.
    """
    found: dict[int, list[int]] = {}
    for place, bin in enumerate(bin for run in runs for bin in run.bins()):
        found.setdefault(bin, []).append(place)
    most = max(map(len, found.values()))
    in_order = [found[bin] for bin in sorted(found)]
    places = [[*own, *[0] * (most - len(own))] for own in in_order]
    return places, [[1 / len(own)] * len(own) + [0.0] * (most - len(own)) for own in in_order]

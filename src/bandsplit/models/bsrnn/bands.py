"""Band layouts: lists of widths in Hz or ranges of bins, turned into runs of bins.

Source: docs/numerics.md#band-schemes; BSRNN paper; SIMO-BSRNN paper. The last for the joint scheme.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from bandsplit.core.errors import ConfigError

Scheme = tuple[tuple[float, int], ...]
"""(width in Hz, count) pairs from low to high frequency; the rest up to Nyquist is one more band."""

_V7: Scheme = ((100, 10), (250, 12), (500, 8), (1000, 8), (2000, 2))

SCHEMES: dict[str, Scheme] = {
    "vocals": _V7,
    "other": _V7,
    "bass": ((50, 10), (100, 5), (500, 6), (1000, 4), (2000, 4)),
    "drums": ((50, 20), (100, 10), (250, 8), (500, 8), (1000, 8)),
    "joint": ((50, 20), (100, 10), (250, 8), (500, 8), (1000, 8), (2000, 2)),
}
"""Named schemes: one per target of MUSDB18-HQ, and one split shared by all targets."""


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


def band_runs(scheme: Scheme, n_fft: int, sample_rate_hz: int) -> list[BandRun]:
    """Return the bands as runs of equal width, low to high, so that one product serves a complete run.

    They cover all ``n_fft // 2 + 1`` bins. A band of ``w`` Hz takes ``floor(w * bins / nyquist)`` bins, and the last
    band takes the rest, so that edges drift slightly low; published weights depend on this.

    Raises:
        ConfigError: a band is narrower than one bin, or the bands reach past Nyquist.
    """
    n_bins, nyquist_hz = n_fft // 2 + 1, sample_rate_hz / 2
    runs: list[BandRun] = []

    def append(count: int, width: int) -> None:
        if runs and runs[-1].width == width:
            last = runs.pop()
            runs.append(BandRun(last.start, last.count + count, width))
        else:
            runs.append(BandRun(runs[-1].stop if runs else 0, count, width))

    for width_hz, count in scheme:
        width = int(width_hz * n_bins // nyquist_hz)
        if width < 1:
            raise ConfigError(
                f"bands: a band of {width_hz:g} Hz is narrower than one bin ({nyquist_hz / n_bins:.1f} Hz at n_fft "
                f"{n_fft} and {sample_rate_hz} Hz); use wider bands or a larger n_fft"
            )
        append(count, width)
    remainder = n_bins - runs[-1].stop
    if remainder < 0:
        total_hz = sum(width_hz * count for width_hz, count in scheme)
        raise ConfigError(
            f"bands: the widths sum to {total_hz:g} Hz, past the Nyquist frequency of {nyquist_hz:g} Hz "
            f"({runs[-1].stop} of {n_bins} bins); remove bands or raise sample_rate_hz"
        )
    if remainder:
        append(1, remainder)
    return runs


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

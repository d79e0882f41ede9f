"""Band schemes: lists of widths in Hz, turned into runs of bins.

Source: docs/numerics.md#band-schemes; BSRNN paper; SIMO-BSRNN paper. The last for the joint scheme.
"""

from bandsplit.core.errors import ConfigError
from bandsplit.models.layers.bands import BandRun

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

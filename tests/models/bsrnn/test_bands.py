"""Band schemes in bins, with the numbers of docs/numerics.md#band-schemes."""

import pytest

from bandsplit.core.errors import ConfigError
from bandsplit.models.bsrnn.bands import SCHEMES, Scheme, band_runs
from bandsplit.models.layers.bands import BandRun, are_side_by_side, range_runs


def band_widths(scheme: Scheme, n_fft: int) -> list[int]:
    return [run.width for run in band_runs(scheme, n_fft, 44100) for _ in range(run.count)]


@pytest.mark.parametrize(("name", "bands"), [("vocals", 41), ("other", 41), ("bass", 30), ("drums", 55), ("joint", 57)])
@pytest.mark.parametrize("n_fft", [2048, 4096])
def test_a_scheme_has_its_number_of_bands_and_covers_every_bin(name: str, bands: int, n_fft: int):
    widths = band_widths(SCHEMES[name], n_fft)
    assert len(widths) == bands
    assert sum(widths) == n_fft // 2 + 1


@pytest.mark.parametrize(("width_hz", "bins"), [(50, 2), (100, 4), (250, 11), (500, 23), (1000, 46), (2000, 92)])
def test_widths_are_rounded_down(width_hz: float, bins: int):
    assert band_widths(((width_hz, 1),), 2048)[0] == bins


def test_runs_join_neighbours_of_equal_width():
    assert band_runs(((100, 2), (200, 1), (100, 1)), 2048, 44100) == [
        BandRun(0, 2, 4), BandRun(8, 1, 9), BandRun(17, 1, 4), BandRun(21, 1, 1004),
    ]  # fmt: skip


def test_a_scheme_that_ends_at_nyquist_leaves_no_band_over():
    assert band_widths(((22050, 1),), 2048) == [1025]


def test_a_scheme_past_nyquist_is_refused_with_the_numbers():
    with pytest.raises(ConfigError, match="sum to 24000 Hz, past the Nyquist frequency of 22050 Hz"):
        band_widths(((12000, 2),), 2048)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_as_ranges_is_the_same_layout(name: str):
    scheme = band_runs(SCHEMES[name], 2048, 44100)
    ranges = [(run.start + i * run.width, run.start + (i + 1) * run.width) for run in scheme for i in range(run.count)]
    assert range_runs(ranges, 1025) == scheme
    assert are_side_by_side(scheme)

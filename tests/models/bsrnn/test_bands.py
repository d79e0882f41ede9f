"""Band schemes in bins, with the numbers of docs/numerics.md#band-schemes."""

import pytest

from bandsplit.core.errors import ConfigError
from bandsplit.models.bsrnn.bands import (
    SCHEMES,
    BandRun,
    Scheme,
    are_side_by_side,
    band_runs,
    mean_of_bands,
    range_runs,
)


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


def test_ranges_of_bins_are_runs_of_equal_width_and_distance():
    runs = range_runs([(0, 2), (2, 4), (4, 6), (5, 9), (7, 11), (9, 13), (10, 17)], 17)
    assert runs == [BandRun(0, 3, 2), BandRun(5, 3, 4, 2), BandRun(10, 1, 7)]
    assert [run.stop for run in runs] == [6, 13, 17]
    assert runs[1].bins() == [5, 6, 7, 8, 7, 8, 9, 10, 9, 10, 11, 12]
    assert not are_side_by_side(runs) and are_side_by_side(runs[:1])
    places, shares = mean_of_bands(runs)
    assert (places[0], shares[0]) == ([0, 0, 0], [1, 0, 0])
    assert (places[10], shares[10]) == ([13, 15, 18], [1 / 3] * 3)  # of the second, the third and the last band


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_as_ranges_is_the_same_layout(name: str):
    scheme = band_runs(SCHEMES[name], 2048, 44100)
    ranges = [(run.start + i * run.width, run.start + (i + 1) * run.width) for run in scheme for i in range(run.count)]
    assert range_runs(ranges, 1025) == scheme
    assert are_side_by_side(scheme)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([(0, 3), (4, 9)], r"bin 3 of 9 is in 0 bands; each must be in at least 1 and at most 16"),
        ([(1, 9)], r"bin 0 of 9 is in 0 bands"),
        ([(0, 8)], r"bin 8 of 9 is in 0 bands"),
        ([(0, 9)] * 17, r"bin 0 of 9 is in 17 bands"),
        ([(0, 10)], r"\[0, 10\] is not a range of the bins 0 to 9; give first < end"),
        ([(0, 9), (5, 5)], r"\[5, 5\] is not a range"),
        ([(-1, 9)], r"\[-1, 9\] is not a range"),
    ],
)
def test_ranges_that_leave_bins_out_are_refused(ranges: list[tuple[int, int]], message: str):
    with pytest.raises(ConfigError, match=message):
        range_runs(ranges, 9)

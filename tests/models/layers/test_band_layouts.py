"""Layouts of bands that are adjacent or overlap."""

import pytest

from bandsplit.core.errors import ConfigError
from bandsplit.models.layers.bands import BandRun, are_side_by_side, mean_of_bands, range_runs


def test_ranges_of_bins_are_runs_of_equal_width_and_distance():
    runs = range_runs([(0, 2), (2, 4), (4, 6), (5, 9), (7, 11), (9, 13), (10, 17)], 17)
    assert runs == [BandRun(0, 3, 2), BandRun(5, 3, 4, 2), BandRun(10, 1, 7)]
    assert [run.stop for run in runs] == [6, 13, 17]
    assert runs[1].bins() == [5, 6, 7, 8, 7, 8, 9, 10, 9, 10, 11, 12]
    assert not are_side_by_side(runs) and are_side_by_side(runs[:1])
    places, shares = mean_of_bands(runs)
    assert (places[0], shares[0]) == ([0, 0, 0], [1, 0, 0])
    assert (places[10], shares[10]) == ([13, 15, 18], [1 / 3] * 3)  # of the second, the third and the last band


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

"""What is said of two systems agrees with scipy and with known truths, and says its limits."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bandsplit.core.errors import BandsplitError
from bandsplit.evaluation.comparison import (
    Comparison,
    Doubt,
    compare,
    compare_pair,
    contenders,
    indistinguishable_groups,
    seed_spread_db,
)
from bandsplit.evaluation.results import Metric, Score


def make_rows(
    system: str,
    values: Mapping[int | None, Sequence[float | None]],
    target: str = "vocals",
    metric: Metric = "usdr_db",
    **fields: Any,
) -> list[Score]:
    """Make a row for each seed and song; the songs are named 0, 1, ..."""
    facts: dict[str, Any] = {
        "data": "set", "fingerprint": "abc", "split": "test", "mixture": "file", "inference": "whole",
        "scored_with": ("vocals",), "version": "1", "recipe": system,
    }  # fmt: skip
    return [
        Score(system=f"{system}, {seed}", seed=seed, track=str(song), target=target, metric=metric, value=value,
              **(facts | fields))
        for seed, of_songs in values.items()
        for song, value in enumerate(of_songs)
    ]  # fmt: skip


def compare_two(rows: Sequence[Score], metric: Metric = "usdr_db", **options: Any) -> Comparison:
    a, b = contenders(rows, metric)
    return compare_pair(a, b, **options)


def make_songs(seed: int, count: int, shift: float = 0.0) -> list[float]:
    return (np.random.default_rng(seed).normal(shift, 1.0, count) + 7).tolist()


@pytest.mark.parametrize(("metric", "over_songs"), [("usdr_db", np.mean), ("csdr_db", np.median)])
def test_the_interval_of_single_runs_is_that_of_scipy(metric: Metric, over_songs: Any) -> None:
    a, b = make_songs(1, 40, 0.5), make_songs(2, 40)
    found = compare_two([*make_rows("a", {1: a}, metric=metric), *make_rows("b", {1: b}, metric=metric)], metric)
    theirs = stats.bootstrap(
        (np.array(a), np.array(b)), lambda x, y, axis: over_songs(x, axis=axis) - over_songs(y, axis=axis),
        paired=True, method="percentile", n_resamples=10_000, rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert found.difference == pytest.approx(over_songs(a) - over_songs(b), abs=1e-12)
    # The ends of two bootstraps of 10,000 resamples differ by about 1.5 % of the interval's width.
    width = theirs.high - theirs.low
    assert found.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert found.high == pytest.approx(theirs.high, abs=0.05 * width)
    assert found.share_better == np.mean(np.array(a) > np.array(b))


def test_pairing_takes_the_differences_between_songs_out() -> None:
    songs = np.random.default_rng(0).normal(7, 5, 30)
    noise = np.random.default_rng(1).normal(0, 0.1, 30)
    found = compare_two([*make_rows("a", {1: (songs + 1 + noise).tolist()}), *make_rows("b", {1: songs.tolist()})])
    assert 0.9 < found.low < found.high < 1.1
    assert found.verdict == "a better"


def simulate(songs: int, seeds: int, trials: int) -> float:
    """Share of intervals that hold the true difference, with known spreads of songs (0.5 dB) and seeds (0.35 dB)."""
    random = np.random.default_rng(7)
    truth, hits = 0.4, 0
    for _ in range(trials):
        song = random.normal(7, 3, songs)
        rows = []
        for name, mean in (("a", truth), ("b", 0.0)):
            values = mean + song + random.normal(0, 0.5, (seeds, songs)) + random.normal(0, 0.35, (seeds, 1))
            rows += make_rows(name, dict(enumerate(values.tolist(), start=1)))
        found = compare_two(rows, resamples=500)
        hits += found.low <= truth <= found.high
    return hits / trials


def test_intervals_over_songs_and_seeds_hold_the_truth_as_often_as_they_say() -> None:
    # Three seeds are few, so the interval is somewhat short; without the seeds it would be far too short.
    assert 0.87 <= simulate(songs=14, seeds=3, trials=200) <= 0.99


def test_without_several_seeds_an_interval_knows_nothing_of_their_spread() -> None:
    assert simulate(songs=14, seeds=1, trials=200) < 0.8


def test_seeds_widen_the_interval_and_are_counted() -> None:
    songs = np.array(make_songs(3, 20))
    spread = {seed: (songs + shift).tolist() for seed, shift in ((1, 0.0), (2, 1.0), (3, -1.0))}
    alike = {seed: songs.tolist() for seed in (1, 2, 3)}
    other = make_rows("b", {1: (songs - 0.2).tolist()})
    wide, narrow = (compare_two([*make_rows("a", {**seeds}), *other]) for seeds in (spread, alike))
    assert wide.seeds == (3, 1)
    assert wide.difference == pytest.approx(narrow.difference) == pytest.approx(0.2)
    assert narrow.high - narrow.low < 1e-9
    # Standard error of the mean of three seeds that differ by 1 dB (sample deviation), two-sided 95 %.
    assert wide.high - wide.low == pytest.approx(2 * 1.96 / math.sqrt(3), rel=0.15)


def test_with_one_seed_only_differences_above_the_published_spread_between_seeds_are_significant() -> None:
    assert seed_spread_db() == pytest.approx(0.7)  # 8.1 - 7.4 dB, paper, section V-A
    songs = np.array(make_songs(4, 20))

    def verdict(gap_db: float, seeds: int) -> Comparison:
        rows = make_rows("a", {seed: (songs + gap_db).tolist() for seed in range(1, seeds + 1)})
        return compare_two([*rows, *make_rows("b", {s: songs.tolist() for s in range(1, seeds + 1)})])

    assert [verdict(0.6, seeds).doubt for seeds in (1, 2)] == [Doubt.ONE_SEED, None]
    assert str(verdict(0.6, seeds=1)).endswith(
        "seeds 1 and 1: not significantly different (one seed, and runs of one model differ by up to 0.7 dB (paper, "
        "section V-A))"
    )
    assert str(verdict(0.8, seeds=1)).endswith("a better (variance between seeds unknown)")
    assert str(verdict(0.6, seeds=2)).endswith("seeds 2 and 2: a better")


def test_systems_without_seeds_are_compared_as_they_are() -> None:
    songs = np.array(make_songs(4, 20))
    rows = make_rows("mixture", {None: songs.tolist()}, recipe=None)
    found = compare_two([*rows, *make_rows("tool", {None: (songs + 0.1).tolist()}, recipe=None)])
    assert (found.seeds, found.doubt, found.reason) == ((0, 0), None, "")
    assert found.verdict == "tool, None better"


def test_identical_systems_cannot_be_distinguished() -> None:
    songs = make_songs(5, 12)
    found = compare_two([*make_rows("a", {1: songs}), *make_rows("b", {1: songs})])
    assert (found.difference, found.low, found.high, found.share_better) == (0, 0, 0, 0.5)
    assert (found.verdict, found.reason) == ("not significantly different", "the interval contains 0")
    assert found.doubt is Doubt.INTERVAL


def test_one_song_has_no_interval_and_few_songs_no_verdict() -> None:
    one = compare_two([*make_rows("a", {1: [9.0]}), *make_rows("b", {1: [1.0]})])
    assert (one.difference, one.low, one.high) == (8.0, -math.inf, math.inf)
    assert one.verdict == "not significantly different"
    assert "better in 100% of 1 song, seeds" in str(one)
    five = compare_two([*make_rows("a", {1: make_songs(1, 5, 9)}), *make_rows("b", {1: make_songs(1, 5)})])
    assert five.low > 0
    assert (five.doubt, five.reason) == (Doubt.FEW_SONGS, "fewer than 6 songs")


def test_only_songs_with_a_value_in_both_are_compared_and_the_others_are_told() -> None:
    a: list[float | None] = [*make_songs(1, 8, 3), None, math.inf, 9.0]
    b: list[float | None] = [*make_songs(2, 8), 1.0, 1.0]
    found = compare_two([*make_rows("a", {1: a}), *make_rows("b", {1: b})])
    assert (found.songs, found.left_out) == (8, ("10", "8", "9"))
    assert found.a_value == pytest.approx(np.mean(make_songs(1, 8, 3)))
    assert "3 songs left out" in str(found)


def test_nothing_in_common_is_an_error() -> None:
    rows = [*make_rows("a", {1: [1.0]}), *make_rows("b", {1: [1.0]}, target="bass")]
    with pytest.raises(BandsplitError, match=r"a and b cannot be compared on any target: they have no song"):
        compare_two(rows)
    assert compare(rows, "usdr_db") == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fingerprint": "def"}, "fingerprint: abc and def"),
        ({"split": "valid"}, "split: test and valid"),
        ({"mixture": "sum"}, "mixture: file and sum"),
        ({"inference": "chunks"}, "inference: whole and chunks"),
        ({"convention": "other"}, "convention: - and other"),
        ({"version": "2"}, "version: 1 and 2"),
        ({"scored_with": ("vocals", "bass")}, "scored_with: vocals and vocals bass"),
        ({"data": "other", "fingerprint": None}, "data: - and other; fingerprint: abc and None"),
    ],
)
def test_different_conditions_are_never_compared(change: dict[str, Any], told: str) -> None:
    rows = [*make_rows("a", {1: make_songs(1, 8)}), *make_rows("b", {1: make_songs(2, 8)}, **change)]
    with pytest.raises(BandsplitError, match=f"a and b cannot be compared, they differ in {told}; evaluate both"):
        compare_two(rows)
    assert compare(rows, "usdr_db") == []


def test_a_system_that_was_trained_on_the_songs_is_marked_and_compared_with_none() -> None:
    rows = [
        row
        for name, seen in (("a", None), ("b", True), ("c", None), ("d", True))
        for row in make_rows(name, {1: make_songs(1, 8)}, saw_test_songs=seen)
    ]
    assert [one.name for one in contenders(rows, "usdr_db")] == ["a", "b ‡", "c", "d ‡"]
    assert [(one.a, one.b) for one in compare(rows, "usdr_db")] == [("a", "c")]
    with pytest.raises(
        BandsplitError, match=r"^a and b ‡ cannot be compared \(‡ trained on these songs: not a score\)"
    ):
        compare_two([row for row in rows if row.system[0] in "ab"])


def test_the_same_audio_under_another_folder_name_is_the_same_data() -> None:
    rows = [*make_rows("a", {1: make_songs(1, 8)}), *make_rows("b", {1: make_songs(2, 8)}, data="copy")]
    assert compare_two(rows).songs == 8


def test_seeds_under_different_conditions_are_never_averaged() -> None:
    rows = [*make_rows("a", {1: make_songs(1, 8)}), *make_rows("a", {2: make_songs(2, 8)}, version="2")]
    assert [one.name for one in contenders(rows, "usdr_db")] == ["a (version: 1)", "a (version: 2)"]


def test_what_is_the_subject_may_differ_and_is_told() -> None:
    rows = [*make_rows("a", {1: make_songs(1, 8)}), *make_rows("a", {1: make_songs(1, 8, 1.0)}, inference="chunks")]
    (found,) = compare(rows, "usdr_db", across=("inference",))
    assert found.across == ("inference",)
    assert (found.a, found.b) == ("a (inference: whole)", "a (inference: chunks)")
    assert "they differ in inference" in str(found)


def test_all_pairs_are_compared_by_target_and_on_the_average() -> None:
    rows = [
        row
        for name, shift in (("a", 0.0), ("b", 1.0), ("c", 2.0))
        for number, target in enumerate(("bass", "vocals"))
        for row in make_rows(name, {1: make_songs(1, 10, shift + number)}, target=target)
    ]
    rows += make_rows("only", {1: make_songs(9, 10)})
    found = compare(rows, "usdr_db")
    pairs = {(one.a, one.b, one.target) for one in found}
    assert {("a", "b", "vocals"), ("a", "b", "bass"), ("a", "b", "average"), ("c", "only", "vocals")} <= pairs
    assert not any("only" in (one.a, one.b) and one.target != "vocals" for one in found)
    (average,) = [one for one in found if (one.a, one.b, one.target) == ("a", "c", "average")]
    assert average.difference == pytest.approx(-2.0)
    assert found == compare(rows, "usdr_db")  # seeded


def test_groups_hold_systems_of_which_no_pair_can_be_distinguished() -> None:
    def pair(a: str, b: str, difference: float) -> Comparison:
        return Comparison(a, b, "usdr_db", "vocals", difference, 0, difference - 1, difference + 1, 0.5, 14, (), (3, 3))

    # a and b, b and c are alike, a and c are not; d is alone.
    found = [pair("a", "b", 0.8), pair("b", "c", 0.8), pair("a", "c", 1.6), pair("c", "d", 5), pair("a", "d", 6.6)]
    found.append(pair("b", "d", 5.8))
    assert indistinguishable_groups(found, ["a", "b", "c", "d"], "vocals") == [["a", "b"], ["b", "c"]]
    assert indistinguishable_groups(found, ["a", "b", "c", "d"], "bass") == []
    alike = [pair(a, b, 0.1) for a, b in (("a", "b"), ("a", "c"), ("b", "c"))]
    assert indistinguishable_groups(alike, ["a", "b", "c", "d"], "vocals") == [["a", "b", "c"]]


def test_of_two_distances_the_smaller_is_better() -> None:
    near, far = make_songs(1, 20), make_songs(1, 20, 3.0)
    rows = [*make_rows("near", {1: near}, metric="lsd_db"), *make_rows("far", {1: far}, metric="lsd_db")]
    found = compare_two(rows, "lsd_db")
    assert found.difference == pytest.approx(-3) and found.share_better == 1
    assert found.doubt is None and found.verdict == "near better"
    scores = [*make_rows("near", {1: near}), *make_rows("far", {1: far})]
    assert compare_two(scores).verdict == "far better"

"""What examples are made of: each policy does what its name says, and a change of one thing leaves all others."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bandsplit.data.examples.mixing import UMX_LIKE, MixingConfig
from bandsplit.data.examples.sampling import ExampleDraw, Sampler
from bandsplit.recipes.catalogue import RECIPES

STEMS = ("bass", "drums", "vocals")
REGIONS = {
    stem: np.array([(track, 100 * place, 50) for track in range(count) for place in range(3)])
    for stem, count in zip(STEMS, (5, 7, 4), strict=True)
}


def sampler(changes: Mapping[str, Any] | None = None, seed: int = 0, epoch: int = 0) -> Sampler:
    together = np.array([(track, 0, 300) for track in range(4)])
    return Sampler(REGIONS, together, ("vocals",), MixingConfig.parse(changes or {}), seed, epoch)


def draws(changes: Mapping[str, Any] | None = None, n: int = 400, **options: Any) -> list[ExampleDraw]:
    return [sampler(changes, **options).draw(index) for index in range(n)]


def places(example: ExampleDraw) -> tuple[tuple[int, int], ...]:
    return tuple((draw.track, draw.first) for draw in example.stems.values())


def test_an_example_is_the_same_whenever_it_is_drawn() -> None:
    one = sampler(seed=3)
    assert [one.draw(index) for index in (5, 2, 5)] == [sampler(seed=3).draw(index) for index in (5, 2, 5)]
    assert one.draw(5) != one.draw(6) != sampler(seed=4).draw(6)


def test_pairs_made_once_are_those_of_all_epochs() -> None:
    pairs = {places(example) for epoch in range(4) for example in draws(epoch=epoch)}
    assert len(pairs) == 21  # as many as the stem with most regions has
    for row, stem in enumerate(STEMS):
        assert {pair[row] for pair in pairs} == {(int(track), int(first)) for track, first, _ in REGIONS[stem]}


def test_pairs_of_every_epoch_are_new_in_each() -> None:
    by_epoch = [{places(example) for example in draws({"pairing": "epoch"}, epoch=epoch)} for epoch in range(3)]
    assert [len(pairs) for pairs in by_epoch] == [21, 21, 21]
    assert len(set.union(*by_epoch)) > 50


def test_free_pairs_are_any() -> None:
    assert len({places(example) for example in draws({"pairing": "free"})}) > 300


def test_every_region_is_drawn_about_as_often_as_any_other() -> None:
    for pairing in ("once", "epoch", "free"):
        counts = Counter(places(example)[1] for example in draws({"pairing": pairing}, n=2100))
        assert len(counts) == 21
        assert min(counts.values()) > 50 and max(counts.values()) < 150  # 100 expected, 10 apart by chance


def test_groups_exchange_the_stems_of_four_places_between_four_examples() -> None:
    augment = {"retune_probability": 0.5, "polarity_probability": 0.5}
    found = draws({"pairing": "groups", "activity": None, "augment": augment}, n=400)
    exchanged = 0
    for start in range(0, 400, 4):
        by_stem = {stem: [example.stems[stem] for example in found[start : start + 4]] for stem in STEMS}
        # A song has one place here, in which the stems have positions of their own, and pitch and tempo in common.
        tuned = [Counter((draw.track, *draw.augmentation[1:3]) for draw in of_stem) for of_stem in by_stem.values()]
        assert tuned[0] == tuned[1] == tuned[2]
        assert len({draw.position for of_stem in by_stem.values() for draw in of_stem}) == 12
        assert len({draw.gain for of_stem in by_stem.values() for draw in of_stem}) == 12
        exchanged += len({tuple(draw.track for draw in of_stem) for of_stem in by_stem.values()}) > 1
    assert exchanged > 90
    tracks = Counter(draw.track for example in found for draw in example.stems.values())
    assert set(tracks) == {0, 1, 2, 3} and min(tracks.values()) > 200  # of 300 expected


def test_a_group_is_drawn_again_for_every_epoch_and_may_keep_songs_together() -> None:
    groups = {"pairing": "groups", "activity": None}
    assert draws(groups, n=8) != draws(groups, n=8, epoch=1)
    together = draws(groups | {"same_song_probability": 1}, n=50)
    for example in together:
        assert len({(draw.track, draw.position) for draw in example.stems.values()}) == 1


def test_gains_are_uniform_in_db_or_linear() -> None:
    gains_db = 20 * np.log10([draw.gain for example in draws() for draw in example.stems.values()])
    assert -10 <= gains_db.min() < -9.8 and 9.8 < gains_db.max() <= 10
    assert abs(gains_db.mean()) < 0.6
    linear = {"gain": {"kind": "linear", "low": 0.25, "high": 1.25}}
    gains = [draw.gain for example in draws(linear) for draw in example.stems.values()]
    assert 0.25 <= min(gains) < 0.26 and 1.24 < max(gains) <= 1.25
    assert np.mean(gains) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(("drop", "expected"), [("all", (0.3, 0.3, 0.3)), ("target", (0, 0, 0.3)), ("none", (0, 0, 0))])
def test_stems_are_dropped_as_the_policy_says(drop: str, expected: tuple[float, ...]) -> None:
    found = draws({"drop": drop, "drop_probability": 0.3}, n=1000)
    shares = [np.mean([example.stems[stem].drop for example in found]) for stem in STEMS]
    assert shares == pytest.approx(expected, abs=0.05)


def test_each_change_of_the_ladder_leaves_every_other_decision_of_every_example() -> None:
    fields = {
        "drop": {"drop"}, "pairing": {"track", "first"}, "peak_normalise": set(), "activity": set(),
        "gain": {"gain"}, "swap_probability": {"swap"},
    }  # fmt: skip
    assert list(fields) == list(UMX_LIKE)
    rung: dict[str, Any] = {}
    for field, value in UMX_LIKE.items():
        higher = rung | {field: value}
        for before, after in zip(draws(rung, n=60), draws(higher, n=60), strict=True):
            for stem in STEMS:
                one, other = before.stems[stem]._asdict(), after.stems[stem]._asdict()
                assert {name for name in one if one[name] != other[name]} <= fields[field]
        rung = higher


def test_augmentations_change_nothing_else() -> None:
    augment = {"polarity_probability": 1, "pitch_probability": 0.5, "low_pass_probability": 0.5, "mp3_probability": 0.5}
    plain, augmented = draws(n=50), draws({"augment": augment}, n=50)
    for before, after in zip(plain, augmented, strict=True):
        for stem in STEMS:
            assert before.stems[stem] == after.stems[stem]._replace(augmentation=before.stems[stem].augmentation)
            assert after.stems[stem].augmentation.inverted
    assert {example.mixture.mp3_kbps is None for example in augmented} == {True, False}


def test_stems_kept_together_share_place_pitch_and_tempo_but_no_gain() -> None:
    augment = {"pitch_probability": 1, "tempo_probability": 1, "polarity_probability": 0.5}
    for example in draws({"same_song_probability": 1, "augment": augment}, n=20):
        stems = list(example.stems.values())
        assert len({(draw.track, draw.first, draw.region_samples, draw.position) for draw in stems}) == 1
        assert len({(draw.augmentation.pitch_semitones, draw.augmentation.tempo_factor) for draw in stems}) == 1
        assert len({draw.gain for draw in stems}) == 3


def test_the_ladder_of_recipes_goes_from_row_1_to_row_19_one_change_at_a_time() -> None:
    rungs = [recipe for recipe in RECIPES.values() if recipe.id.startswith("ladder-")]
    assert [len(recipe.changes) for recipe in rungs] == [1] * 5
    top = RECIPES["no-activity-detection"].run_config(["bass"]).training.mixing
    last = rungs[-1].run_config(["bass"]).training.mixing
    assert last.model_copy(update={"swap_probability": 0.5}) == top
    assert RECIPES["base"].run_config(["bass"]).training.mixing == MixingConfig()
    assert RECIPES["silent-target"].run_config(["bass"]).training.mixing == MixingConfig(drop="target")
    assert RECIPES["optimised"].run_config(["bass"]).training.mixing == top


def test_the_order_of_pairs_is_kept_by_epochs_of_the_same_seed_only() -> None:
    assert places(sampler(seed=1).draw(0)) != places(sampler(seed=2).draw(0))
    one = sampler({"pairing": "epoch"}, epoch=1)
    assert places(one.draw(0)) == places(replace(one, epoch=1).draw(0))

"""Parts of examples from unlabelled songs: the energy rule, the draws, and what becomes of an example."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from bandsplit.core.errors import AudioError, ConfigError
from bandsplit.data.examples.dataset import Example, ExampleDataset, make_examples
from bandsplit.data.examples.mixing import MixingConfig, UnlabelledConfig
from bandsplit.data.examples.sampling import draw_pseudo
from bandsplit.data.examples.unlabelled import PseudoStems, Separated, cut_segments, judge
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import MIXTURE, Track
from bandsplit.data.songs.unlabelled import index_unlabelled
from bandsplit.recipes.catalogue import find_recipe
from bandsplit.runs.config import RunConfig
from songs import noise, write_dataset

RATE_HZ = 8000
PLAIN: dict[str, Any] = {
    "activity": None, "pairing": "free", "drop": "none", "gain": {"kind": "db", "low": 0, "high": 0},
    "peak_normalise": False,
}  # fmt: skip


def half(track: Track, first: int) -> Separated:
    """Take a quarter of the mixture for the target, without any network."""
    mixture = track.read(MIXTURE, first, min(1600, track.samples - first))
    return Separated(mixture, 0.25 * mixture)


def unlabelled(**changes: Any) -> UnlabelledConfig:
    return UnlabelledConfig.parse({"segment_s": 0.2, "context_s": 0.0} | changes)


@pytest.fixture
def songs(tmp_path: Path) -> tuple[Track, ...]:
    """Three songs of 0.6, 0.5 and 0.05 s."""
    (tmp_path / "songs").mkdir()
    for number, samples in enumerate((4800, 4000, 400)):
        soundfile.write(tmp_path / "songs" / f"{number}.wav", noise(2, samples, number).T, RATE_HZ, subtype="FLOAT")
    return index_unlabelled(tmp_path / "songs").tracks


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[Track, ...]:
    return index_dataset(write_dataset(tmp_path / "data", train=3, test=0)).songs("train")


def make(
    labelled: tuple[Track, ...], songs: tuple[Track, ...], mixing: dict[str, Any] | None = None, **changes: Any
) -> ExampleDataset:
    config = unlabelled(**changes)
    return make_examples(
        labelled, ["vocals"], MixingConfig.parse(PLAIN | (mixing or {})), excerpt_s=0.1, examples=200, seed=1,
        sample_rate_hz=RATE_HZ, channels=2, pseudo=PseudoStems(songs, cut_segments(songs, config), config, half),
    )  # fmt: skip


# --- the rule --------------------------------------------------------------------------------------------------------


def plain_rule(mixture: np.ndarray, target: np.ndarray, threshold_db: float) -> dict[str, np.ndarray]:
    """State the rule in decibels."""

    def level_db(signal: np.ndarray) -> float:
        energy = np.mean(signal.astype(np.float64) ** 2)
        return 10 * np.log10(energy) if energy else -np.inf

    residual = mixture - target
    if level_db(mixture) - level_db(target) > threshold_db:
        return {"residual": mixture}
    if level_db(mixture) - level_db(residual) > threshold_db:
        return {"target": mixture}
    return {"target": target, "residual": residual}


@pytest.mark.parametrize("threshold_db", [20.0, 30.0])
@pytest.mark.parametrize("target_db", [-np.inf, -50.0, -30.5, -29.5, -20.5, -19.5, 0.0, 19.5, 20.5, 29.5, 30.5, 50.0])
def test_the_rule_is_that_of_the_publication(target_db: float, threshold_db: float):
    target, residual = noise(2, 1600, 1) * np.float32(10 ** (target_db / 20)), noise(2, 1600, 2)
    mixture = target + residual
    found = judge(Separated(mixture, target), unlabelled(threshold_db=threshold_db))
    expected = plain_rule(mixture, target, threshold_db)
    assert found.keys() == expected.keys()
    for part, signal in found.items():
        np.testing.assert_array_equal(signal, expected[part])


def test_all_three_branches_of_the_rule_exist():
    def parts(target: float, residual: float) -> set[str]:
        one, other = noise(2, 1600, 1) * np.float32(target), noise(2, 1600, 2) * np.float32(residual)
        return {*judge(Separated(one + other, one), unlabelled())}

    assert parts(0.02, 1) == {"residual"} and parts(1, 0.02) == {"target"} and parts(1, 1) == {"target", "residual"}


def test_a_quiet_segment_is_not_used_unless_all_are():
    quiet = noise(2, 1600) * np.float32(0.001)  # -71 dB
    half = quiet * np.float32(0.5)
    assert judge(Separated(quiet, half), unlabelled()) == {}
    assert judge(Separated(quiet, half), unlabelled(quietest_db=-75)).keys() == {"target", "residual"}
    silence = np.zeros((2, 1600), np.float32)
    assert judge(Separated(silence, silence), unlabelled()) == {}
    assert judge(Separated(silence, silence), unlabelled(quietest_db=None)).keys() == {"target", "residual"}


# --- segments and draws ----------------------------------------------------------------------------------------------


def test_segments_are_neighbours_and_the_last_one_ends_with_the_song(songs: tuple[Track, ...]):
    assert cut_segments(songs, unlabelled()) == [(0, 0), (0, 1600), (0, 3200), (1, 0), (1, 1600), (1, 2400), (2, 0)]


def test_draws_depend_on_seed_epoch_and_index_alone_and_use_each_segment():
    def draws(seed: int, epoch: int) -> list[Any]:
        config, mixing = unlabelled(share=0.3), MixingConfig()
        return [draw_pseudo(config, mixing, 10, seed=seed, epoch=epoch, index=index) for index in range(2000)]

    first = draws(0, 0)
    assert first == draws(0, 0)
    assert first != draws(1, 0) and first != draws(0, 1)
    for part in ("target", "residual"):
        found = [draw[part] for draw in first if part in draw]
        assert 0.25 < len(found) / 2000 < 0.35
        assert {draw.segment for draw in found} == set(range(10))
        assert 0.05 < np.mean([draw.drop for draw in found]) < 0.15
    both = [draw for draw in first if len(draw) == 2]
    assert 0.06 < len(both) / 2000 < 0.12, "target and residual are drawn apart"
    assert any(draw["target"].segment != draw["residual"].segment for draw in both)


def test_target_and_residual_of_one_segment_stay_together_if_asked():
    config, mixing = unlabelled(share=0.3, same_segment_probability=1), MixingConfig()
    draws = [draw_pseudo(config, mixing, 10, seed=0, epoch=0, index=index) for index in range(300)]
    assert {len(draw) for draw in draws} == {0, 2}
    for draw in filter(None, draws):
        assert draw["target"][:2] == draw["residual"][:2], "segment and position"
        assert draw["target"].gain != draw["residual"].gain


@pytest.mark.parametrize(
    ("drop", "config", "dropped"),
    [
        ("all", {}, {"target", "residual"}), ("target", {}, {"target"}), ("none", {}, set()),
        ("all", {"drop": False}, set()),
    ],
)  # fmt: skip
def test_parts_are_dropped_as_stems_are(drop: str, config: dict[str, Any], dropped: set[str]):
    mixing = MixingConfig.parse({"drop": drop})
    draws = [draw_pseudo(unlabelled(**config), mixing, 5, seed=0, epoch=0, index=index) for index in range(300)]
    assert {part for draw in draws for part, one in draw.items() if one.drop} == dropped


def test_levels_are_drawn_as_those_of_stems_or_left():
    def gains(**config: Any) -> set[float]:
        draws = [
            draw_pseudo(unlabelled(**config), MixingConfig(), 5, seed=0, epoch=0, index=index) for index in range(99)
        ]
        return {one.gain for draw in draws for one in draw.values()}

    assert gains(gain=False) == {1.0}
    levels_db = 20 * np.log10([*gains()])
    assert -10 <= levels_db.min() < -8 and 8 < levels_db.max() <= 10


# --- examples --------------------------------------------------------------------------------------------------------


def contains(song: Track, excerpt: np.ndarray, factor: float) -> bool:
    """Return whether an excerpt, times a factor, is somewhere in a song, or is its beginning followed by zeros."""
    mixture = np.pad(factor * song.read(MIXTURE), ((0, 0), (0, max(0, excerpt.shape[1] - song.samples))))
    places = range(mixture.shape[1] - excerpt.shape[1] + 1)
    return any(np.allclose(mixture[:, at : at + excerpt.shape[1]], excerpt, atol=1e-6) for at in places)


def test_examples_are_made_of_both_kinds_of_songs(labelled: tuple[Track, ...], songs: tuple[Track, ...]):
    mixed, plain = make(labelled, songs), make(labelled, songs, share=0.0)
    kinds = set()
    for index in range(40):
        drawn = {part.removeprefix("unlabelled ") for part in mixed.songs(index) if part.startswith("unlabelled ")}
        kinds.add(frozenset(drawn))
        one, other = mixed[index], plain[index]
        target, residual = one.targets[0].numpy(), (one.mixture - one.targets[0]).numpy()
        if "target" in drawn:
            song = next(song for song in songs if song.name == mixed.songs(index)["unlabelled target"])
            assert contains(song, target, 0.25)
        else:
            assert torch.equal(one.targets, other.targets)
        if "residual" in drawn:
            song = next(song for song in songs if song.name == mixed.songs(index)["unlabelled residual"])
            assert contains(song, residual, 0.75)
        else:
            torch.testing.assert_close(one.mixture - one.targets[0], other.mixture - other.targets[0])
    assert len(kinds) == 4
    assert not any(name.startswith("unlabelled") for index in range(40) for name in plain.songs(index))


def test_a_segment_without_the_drawn_part_leaves_it_to_labelled_songs(
    labelled: tuple[Track, ...], songs: tuple[Track, ...]
):
    def all_residual(track: Track, first: int) -> Separated:
        segment = half(track, first)
        return segment._replace(target=0 * segment.target)

    plain = make(labelled, songs, share=0.0)
    mixed = make(labelled, songs, share=1.0)
    assert mixed.pseudo is not None
    mixed = replace(mixed, pseudo=replace(mixed.pseudo, separate=all_residual))
    for index in range(10):
        assert torch.equal(mixed[index].targets, plain[index].targets)
        assert not torch.equal(mixed[index].mixture, plain[index].mixture)


def test_with_one_segment_for_both_parts_the_mixture_is_a_piece_of_the_song(
    labelled: tuple[Track, ...], songs: tuple[Track, ...]
):
    mixed = make(labelled, songs, share=1.0, same_segment_probability=1.0)
    for index in range(5):
        name = mixed.songs(index)["unlabelled target"]
        song = next(song for song in songs if song.name == name)
        assert contains(song, mixed[index].mixture.numpy(), 1.0)


def test_a_dropped_part_is_silent(labelled: tuple[Track, ...], songs: tuple[Track, ...]):
    mixed = make(labelled, songs, {"drop": "all", "drop_probability": 1.0}, share=1.0)
    example: Example = mixed[0]
    assert not example.targets.any() and not example.mixture.any()


def test_an_unlabelled_song_that_goes_missing_is_treated_as_any_other(
    labelled: tuple[Track, ...], songs: tuple[Track, ...]
):
    mixed = make(labelled, songs, share=1.0)
    for song in songs:
        song.stems[MIXTURE][0].path.unlink()
    with pytest.raises(AudioError, match=r"songs/\d.wav: .*restore it"):
        mixed[0]
    skipped = replace(mixed, broken_song="skip")[0]
    assert "restore it" in skipped.problem and not skipped.mixture.any()


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"segment_s": 2.0}, "unlabelled.segment_s: 2 is shorter than excerpt_s 3; excerpts are drawn inside segments"),
        ({"threshold": 30}, "unknown key 'threshold'; did you mean 'threshold_db'?"),
        ({"share": 1.5}, "training.unlabelled.share: Input should be less than or equal to 1"),
    ],
)
def test_a_mistake_in_the_settings_is_named(settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as caught:
        find_recipe("base").run_config(["vocals"], changes={"training.unlabelled": settings})
    assert message in str(caught.value)


def test_a_model_of_several_targets_cannot_learn_from_unlabelled_songs():
    with pytest.raises(ConfigError, match="pseudo-stems are of one target, the model estimates vocals, bass, drums"):
        find_recipe("simo").run_config(changes={"training.unlabelled": {}})


def test_a_run_without_unlabelled_songs_keeps_its_folder_and_reads_what_was_stored_before():
    plain = find_recipe("base").run_config(["vocals"])
    assert plain.hash8() == "a1224cd2"
    stored = plain.model_dump(mode="json")
    del stored["training"]["unlabelled"]
    assert RunConfig.parse(stored) == plain
    used = find_recipe("semi-supervised").run_config(["vocals"])
    assert used.hash8() != plain.hash8() and used.training.unlabelled == UnlabelledConfig()

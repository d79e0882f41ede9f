"""Training examples are exact mixes and depend on (seed, epoch, index) alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soxr
import torch
from torch.utils.data import DataLoader

from bandsplit.data.dataset import Example, ExampleDataset, shard_indices
from bandsplit.data.layouts import index_dataset
from bandsplit.errors import DataError
from songs import STEMS, write_dataset, write_song


@pytest.fixture
def examples(tmp_path: Path) -> ExampleDataset:
    tracks = index_dataset(write_dataset(tmp_path, train=4, test=0)).songs("train")
    return ExampleDataset(tracks, STEMS, 512, examples=12, sample_rate_hz=8000, channels=2, seed=7)


def _batches(dataset: ExampleDataset, workers: int, start: int = 0) -> list[Example]:
    sampler = shard_indices(len(dataset), start)
    return list(DataLoader(dataset, batch_size=3, sampler=sampler, num_workers=workers))


def _same(left: list[Example], right: list[Example]) -> bool:
    pairs = zip(left, right, strict=True)
    return all(torch.equal(a.mixture, b.mixture) and torch.equal(a.targets, b.targets) for a, b in pairs)


def test_batches_have_the_documented_shapes(examples: ExampleDataset) -> None:
    batch = _batches(examples, workers=0)[0]
    assert isinstance(batch, Example)
    assert batch.mixture.shape == (3, 2, 512)
    assert batch.targets.shape == (3, 4, 2, 512)
    assert batch.mixture.dtype == batch.targets.dtype == torch.float32


def test_batches_are_the_same_with_and_without_workers(examples: ExampleDataset) -> None:
    assert _same(_batches(examples, workers=0), _batches(examples, workers=2))


def test_a_restart_at_any_step_gives_the_batches_that_were_left(examples: ExampleDataset) -> None:
    whole = _batches(examples, workers=0)
    for step in range(1, 4):
        assert _same(whole[step:], _batches(examples, workers=0, start=3 * step))


def test_seeds_epochs_and_indices_differ_and_come_back(examples: ExampleDataset) -> None:
    variants = [examples, examples.at_epoch(1), replace(examples, seed=8), replace(examples, seed=1, epoch=7)]
    mixtures = [variant[index].mixture for variant in variants for index in range(6)]
    for number, mixture in enumerate(mixtures):
        assert not any(torch.equal(mixture, other) for other in mixtures[:number])
    assert _same([examples[3]], [examples.at_epoch(1).at_epoch(0)[3]])


def test_the_mixture_is_the_sum_of_all_stems_also_those_that_are_no_targets(examples: ExampleDataset) -> None:
    both = examples[5]
    torch.testing.assert_close(both.mixture, both.targets.sum(0))
    one = replace(examples, targets=("drums",))[5]
    assert torch.equal(one.mixture, both.mixture)
    assert torch.equal(one.targets[0], both.targets[STEMS.index("drums")])


def test_targets_come_in_the_asked_order(examples: ExampleDataset) -> None:
    turned = replace(examples, targets=STEMS[::-1])[2]
    assert torch.equal(turned.targets, examples[2].targets.flip(0))


def test_stems_are_excerpts_of_files_with_gains_in_range_and_channels_swapped(tmp_path: Path) -> None:
    # Every sample tells its song, channel and place, so that a target can be traced back.
    for song in range(3):
        base = 1000.0 * (song + 1) + np.stack([np.arange(400.0), 400 + np.arange(400.0)])
        write_song(tmp_path / "train" / f"Song {song}", dict.fromkeys(STEMS, base))
    tracks = index_dataset(tmp_path, splits=["train"]).tracks
    tracks = (*tracks, *index_dataset(tmp_path, splits=["valid"]).tracks)
    dataset = ExampleDataset(tracks, STEMS, 100, examples=200, sample_rate_hz=8000, channels=2)
    songs, starts, gains, swaps = [], [], [], []
    for index in range(200):
        for left, right in dataset[index].targets.double().numpy():
            gain = abs(left[1] - left[0])
            songs.append(round(min(left[0], right[0]) / gain) // 1000)
            starts.append(round(min(left[0], right[0]) / gain) % 1000)
            gains.append(gain)
            swaps.append(left[0] > right[0])
    assert set(songs) == {1, 2, 3}
    assert len({tuple(songs[i : i + 4]) for i in range(0, 800, 4)}) > 40  # 81 pairings: stems are drawn independently
    assert len(set(zip(songs, starts, np.round(gains, 3), strict=True))) > 790  # no draw serves two stems or examples
    assert min(starts) < 10 and max(starts) > 290 and max(starts) <= 300
    assert min(gains) == pytest.approx(0.25, abs=0.02) and max(gains) == pytest.approx(1.25, abs=0.02)
    assert np.mean(gains) == pytest.approx(0.75, abs=0.05)
    assert np.mean(swaps) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (0.6, 0.6), (1.0, 1.0)])
def test_stems_can_be_kept_together_at_one_place_of_one_song(tmp_path: Path, probability: float, share: float) -> None:
    for song in range(3):  # every sample tells its song and place
        write_song(
            tmp_path / "train" / f"Song {song}", dict.fromkeys(STEMS, np.full((2, 400), song) + np.arange(400) / 400)
        )
    tracks = index_dataset(tmp_path).tracks
    options = {"gain_range": (1.0, 1.0), "swap_probability": 0.0, "same_song_probability": probability}
    dataset = ExampleDataset(tracks, STEMS, 100, examples=200, sample_rate_hz=8000, channels=2, **options)
    together = [bool((item.targets == item.targets[0]).all()) for item in (dataset[index] for index in range(200))]
    assert np.mean(together) == pytest.approx(share, abs=0.1)


def test_songs_shorter_than_the_excerpt_are_padded_at_the_end(tmp_path: Path) -> None:
    write_song(tmp_path / "train" / "Short", dict.fromkeys(STEMS, np.ones((2, 30))))
    tracks = index_dataset(tmp_path).songs("train")
    options = {"gain_range": (1.0, 1.0), "swap_probability": 0.0}
    dataset = ExampleDataset(tracks, ("bass",), 50, examples=1, sample_rate_hz=8000, channels=2, **options)
    assert dataset[0].targets.sum(-1).tolist() == [[30.0, 30.0]]
    assert torch.all(dataset[0].targets[..., :30] == 1)


def test_shards_are_disjoint_equally_long_and_cover_all_but_the_rest() -> None:
    shards = [shard_indices(23, start=4, rank=rank, world=4) for rank in range(4)]
    assert [len(shard) for shard in shards] == [4, 4, 4, 4]
    assert list(shards[1]) == [5, 9, 13, 17]
    assert sorted(index for shard in shards for index in shard) == list(range(4, 20))
    assert len(shard_indices(23, start=23)) == 0


def test_two_processes_see_together_what_one_sees() -> None:
    one = list(shard_indices(12))
    two = [shard_indices(12, rank=rank, world=2) for rank in range(2)]
    assert [index for pair in zip(*two, strict=True) for index in pair] == one


@pytest.mark.parametrize("sample_rate_hz", [4000, 11025, 16000])
def test_songs_at_another_rate_are_resampled(examples: ExampleDataset, sample_rate_hz: int) -> None:
    plain = replace(examples, gain_range=(1, 1), swap_probability=0, excerpt_samples=2000)
    resampled = replace(plain, sample_rate_hz=sample_rate_hz, excerpt_samples=2000 * sample_rate_hz // 8000)
    original, other = plain[3].mixture.numpy(), resampled[3].mixture.numpy()
    assert other.shape == (2, 2000 * sample_rate_hz // 8000)
    expected = soxr.resample(original.T, 8000, sample_rate_hz, quality="VHQ").T
    np.testing.assert_allclose(other[:, 100:-100], expected[:, 100 : other.shape[1] - 100], atol=1e-3)


def test_songs_that_do_not_fit_the_model_are_errors(examples: ExampleDataset) -> None:
    with pytest.raises(DataError, match=r"train/Song 0: channels is 2, the model .* 1;"):
        replace(examples, channels=1)
    with pytest.raises(DataError, match="no stem piano; it has bass, drums, other, vocals"):
        replace(examples, targets=("vocals", "piano"))
    with pytest.raises(DataError, match="at least one song"):
        replace(examples, tracks=())
    with pytest.raises(IndexError, match="12 is not in 0 to 11"):
        examples[12]

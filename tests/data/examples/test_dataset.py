"""Training examples are exact mixes and depend on (seed, epoch, index) alone."""

import hashlib
import itertools
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
import torch
from torch.utils.data import DataLoader

from bandsplit.core.errors import AudioError, ConfigError, DataError
from bandsplit.data.examples.dataset import Example, ExampleDataset, make_examples, shard_indices
from bandsplit.data.examples.loading import load_batches
from bandsplit.data.examples.mixing import UMX_LIKE, MixingConfig
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import Track
from songs import STEMS, noise_stems, write_dataset, write_song

PLAIN = {"activity": None, "pairing": "free", "drop": "none", "peak_normalise": False}
"""Whole songs, everything free, nothing dropped."""
UNIT_GAIN = {"kind": "linear", "low": 1.0, "high": 1.0}


def make(
    tracks: Sequence[Track], targets: Sequence[str] = STEMS, mixing: Mapping[str, Any] | None = None, **options: Any
) -> ExampleDataset:
    settings = {"excerpt_s": 0.064, "examples": 12, "sample_rate_hz": 8000, "channels": 2, "seed": 7} | options
    return make_examples(tracks, targets, MixingConfig.parse(dict(UMX_LIKE) if mixing is None else mixing), **settings)


@pytest.fixture
def tracks(tmp_path: Path) -> Sequence[Track]:
    return index_dataset(write_dataset(tmp_path, train=4, test=0)).songs("train")


@pytest.fixture
def examples(tracks: Sequence[Track]) -> ExampleDataset:
    return make(tracks)


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
    seeds = [replace(examples, sampler=replace(examples.sampler, seed=seed)) for seed in (8, 1)]
    variants = [examples, examples.at_epoch(1), seeds[0], seeds[1].at_epoch(7)]
    mixtures = [variant[index].mixture for variant in variants for index in range(6)]
    for number, mixture in enumerate(mixtures):
        assert not any(torch.equal(mixture, other) for other in mixtures[:number])
    assert _same([examples[3]], [examples.at_epoch(1).at_epoch(0)[3]])


def test_the_mixture_is_the_sum_of_all_stems_also_those_that_are_no_targets(examples: ExampleDataset) -> None:
    both = examples[5]
    torch.testing.assert_close(both.mixture, both.targets.sum(0))
    one = make(examples.tracks, ["drums"])[5]
    assert torch.equal(one.mixture, both.mixture)
    assert torch.equal(one.targets[0], both.targets[STEMS.index("drums")])


def test_targets_come_in_the_asked_order(examples: ExampleDataset) -> None:
    turned = make(examples.tracks, STEMS[::-1])[2]
    assert torch.equal(turned.targets, examples[2].targets.flip(0))


def test_stems_are_excerpts_of_files_with_gains_in_range_and_channels_swapped(tmp_path: Path) -> None:
    # Every sample tells its song, channel and place, so that a target can be traced back.
    for song in range(3):
        base = 1000.0 * (song + 1) + np.stack([np.arange(400.0), 400 + np.arange(400.0)])
        write_song(tmp_path / "train" / f"Song {song}", dict.fromkeys(STEMS, base))
    tracks = index_dataset(tmp_path, splits=["train"]).tracks
    tracks = (*tracks, *index_dataset(tmp_path, splits=["valid"]).tracks)
    dataset = make(tracks, excerpt_s=0.0125, examples=200, seed=0)
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
    mixing = PLAIN | {"gain": UNIT_GAIN, "same_song_probability": probability}
    dataset = make(tracks, mixing=mixing, excerpt_s=0.0125, examples=200)
    together = [bool((item.targets == item.targets[0]).all()) for item in (dataset[index] for index in range(200))]
    assert np.mean(together) == pytest.approx(share, abs=0.1)


def test_stems_of_groups_come_from_places_a_second_apart_with_up_to_a_second_between_them(tmp_path: Path) -> None:
    for song in range(3):  # every sample is its number; the last song is for validation
        write_song(tmp_path / "train" / f"Song {song}", dict.fromkeys(STEMS, np.arange(40_000.0)[None]))
    tracks = index_dataset(tmp_path).songs("train")
    groups = {"activity": None, "pairing": "groups", "drop": "none", "peak_normalise": False, "gain": UNIT_GAIN}
    dataset = make(tracks, STEMS, groups, excerpt_s=0.5, channels=1, examples=400)
    assert dataset.sampler.together.tolist() == [
        [song, start, 12_000] for song in range(2) for start in (0, 8000, 16_000, 24_000)
    ]
    starts = torch.stack([dataset[index].targets[:, 0, 0] for index in range(400)])
    assert starts.min() < 500 and 31_500 < starts.max() <= 32_000
    assert set(torch.diff(dataset[0].targets[:, 0]).unique().tolist()) == {1.0}
    loose = [
        replace(track, stems={stem: track.stems[stem] for stem in stems})
        for track, stems in zip(tracks, (STEMS[:2], STEMS[2:]), strict=True)
    ]
    with pytest.raises(DataError, match="pairing: no song has all stems, which 'groups' needs; set it to 'free'"):
        make(loose, STEMS, groups, channels=1)


def test_songs_shorter_than_the_excerpt_are_padded_at_the_end(tmp_path: Path) -> None:
    write_song(tmp_path / "train" / "Short", dict.fromkeys(STEMS, np.ones((2, 30))))
    tracks = index_dataset(tmp_path).songs("train")
    dataset = make(tracks, ["bass"], PLAIN | {"gain": UNIT_GAIN}, excerpt_s=0.00625, examples=1)
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
def test_songs_at_another_rate_are_resampled(tracks: Sequence[Track], sample_rate_hz: int) -> None:
    mixing = PLAIN | {"gain": UNIT_GAIN}
    original = make(tracks, mixing=mixing, excerpt_s=0.25)[3].mixture.numpy()
    other = make(tracks, mixing=mixing, excerpt_s=0.25, sample_rate_hz=sample_rate_hz)[3].mixture.numpy()
    assert other.shape == (2, round(0.25 * sample_rate_hz))
    expected = soxr.resample(original.T, 8000, sample_rate_hz, quality="VHQ").T
    np.testing.assert_allclose(other[:, 100:-100], expected[:, 100 : other.shape[1] - 100], atol=1e-3)


def test_songs_that_do_not_fit_the_model_are_errors(tracks: Sequence[Track]) -> None:
    with pytest.raises(DataError, match=r"train/Song 0: channels is 2, the model needs 1;"):
        make(tracks, channels=1)
    with pytest.raises(DataError, match="no stem piano; it has bass, drums, other, vocals"):
        make(tracks, ("vocals", "piano"))
    with pytest.raises(DataError, match="at least one song"):
        make(())


def test_an_augmentation_that_cannot_be_done_is_an_error_before_training(tracks: Sequence[Track]) -> None:
    with pytest.raises(ConfigError, match="MP3 has no sample rate of 9000 Hz"):
        make(tracks, mixing=PLAIN | {"augment": {"mp3_probability": 0.5}}, sample_rate_hz=9000)


# --- the same batches everywhere -------------------------------------------------------------------------------------


def _example_hashes(dataset: ExampleDataset, workers: int, start: int, rank: int, processes: int) -> list[list[str]]:
    """Hash the examples of one process, batch by batch."""
    indices = shard_indices(len(dataset), start, rank, processes)
    return [
        [
            hashlib.sha256(mixture.numpy().tobytes() + targets.numpy().tobytes()).hexdigest()
            for mixture, targets in zip(batch.mixture, batch.targets, strict=True)
        ]
        for batch in load_batches(dataset, indices, 4 // processes, workers=workers)
    ]


@pytest.fixture(scope="module")
def two_processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield pool


def _hashes(
    dataset: ExampleDataset, workers: int, pool: ProcessPoolExecutor | None = None, start: int = 0
) -> list[str]:
    """Hash each update's four examples, made in this process or by both of the launched ones."""
    if pool is None:
        per_rank = [_example_hashes(dataset, workers, start, 0, 1)]
    else:
        jobs = [pool.submit(_example_hashes, dataset, workers, start, rank, 2) for rank in range(2)]
        per_rank = [job.result() for job in jobs]
    updates = [sorted(itertools.chain(*step)) for step in zip(*per_rank, strict=True)]
    return [hashlib.sha256("".join(update).encode()).hexdigest()[:12] for update in updates]


POLICIES = {
    "row 1": {},
    "row 18": {"drop": "target"},
    "row 19": UMX_LIKE,
    "every epoch": {"pairing": "epoch", "same_song_probability": 0.3},
    "groups": {"activity": None, "pairing": "groups"},
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("name", POLICIES)
def test_batches_do_not_depend_on_workers_processes_or_restarts(
    tmp_path: Path, two_processes: ProcessPoolExecutor, name: str
) -> None:
    tracks = index_dataset(write_dataset(tmp_path, train=4, test=0, samples=60000)).songs("train")
    active = {(number, stem): np.array([0, 8000 * (number % 2)]) for number in range(len(tracks)) for stem in STEMS}
    dataset = make(tracks, ["vocals"], POLICIES[name], active=active, examples=24).at_epoch(2)
    expected = _hashes(dataset, workers=0)
    assert len(set(expected)) == 6
    for workers in (1, 2, 4):
        assert _hashes(dataset, workers) == expected
    assert _hashes(dataset, workers=0, pool=two_processes) == expected
    assert _hashes(dataset, workers=1, pool=two_processes, start=8) == expected[2:]
    for step in (1, 3, 5):
        assert _hashes(dataset, workers=0, start=4 * step) == expected[step:]
        assert _hashes(dataset, workers=2, start=4 * step) == expected[step:]


# --- songs that break while training ---------------------------------------------------------------------------------


def _break(tracks: Sequence[Track], how: str) -> Path:
    path = tracks[1].stems["bass"][0].path
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:9000])
    return path


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_song_that_breaks_stops_the_training_by_default(tracks: Sequence[Track], how: str) -> None:
    dataset = make(tracks, examples=40)
    path = _break(tracks, how)
    with pytest.raises(AudioError, match=rf"{path}: .*restore it"):
        [dataset[index] for index in range(40)]


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_where_such_songs_are_skipped_their_examples_say_so_and_the_others_stay(
    tracks: Sequence[Track], how: str
) -> None:
    dataset = make(tracks, examples=40, broken_song="skip")
    before = [dataset[index] for index in range(40)]
    path = _break(tracks, how)
    after = [dataset[index] for index in range(40)]
    broken = [bool(example.problem) for example in after]
    assert 2 < sum(broken) < 20
    for one, other, missing in zip(before, after, broken, strict=True):
        assert missing == (str(path) in other.problem)
        assert torch.equal(one.mixture, other.mixture) != missing
    batch = next(iter(DataLoader(dataset, batch_size=40)))
    assert [bool(problem) for problem in batch.problem] == broken


def test_samples_that_are_not_finite_are_told_with_the_songs(tmp_path: Path) -> None:
    stems = noise_stems(0)
    stems["drums"][1, 2000] = np.nan
    write_song(tmp_path / "train" / "Nan", stems)
    dataset = make(index_dataset(tmp_path).songs("train"), excerpt_s=0.5)
    with pytest.raises(AudioError, match=r"example 0 of epoch 1 is not finite; its songs are .*'drums': 'Nan'"):
        dataset[0]

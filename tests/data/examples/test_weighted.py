"""Examples from several data sets: how often, which ones, and that they depend on (seed, epoch, index) alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from bandsplit.data.examples.dataset import Example, WeightedExamples, make_examples
from bandsplit.data.examples.loading import load_batches
from bandsplit.data.examples.mixing import UMX_LIKE, MixingConfig
from bandsplit.data.examples.sampling import draw_set
from bandsplit.data.songs.layouts import index_dataset
from songs import noise_stems, write_dataset, write_song


def weighted(tmp_path: Path, weights: Sequence[float] = (1.0, 0.5), seed: int = 7) -> WeightedExamples:
    """Two sets: the songs of the second have a fifth stem, and another rate."""
    first = write_dataset(tmp_path / "first", train=3, test=0)
    second = tmp_path / "second"
    if not second.exists():
        for number in (10, 11):
            stems = {"piano" if stem == "bass" else stem: signal for stem, signal in noise_stems(number).items()}
            write_song(second / "train" / f"Other {number}", stems, sample_rate_hz=16000)
    sets = [index_dataset(first, splits=["train"]), index_dataset(second, ["vocals", "piano", "drums", "other"])]
    made = [
        make_examples(
            songs.songs("train"), ("drums", "vocals"), MixingConfig.parse(dict(UMX_LIKE)), excerpt_s=0.064,
            examples=24, sample_rate_hz=8000, channels=2, seed=seed,
        )
        for songs in sets
    ]  # fmt: skip
    return WeightedExamples(tuple(made), tuple(weights))


def equal(left: Example, right: Example) -> bool:
    return torch.equal(left.mixture, right.mixture) and torch.equal(left.targets, right.targets)


@pytest.mark.parametrize("weights", [(1.0, 0.3), (2, 2), (1.0, 9.0, 0.5), (1e-3, 1e3)])
def test_sets_are_drawn_in_proportion_to_their_weights(weights: Sequence[float]):
    n = 4000
    counts = np.bincount([draw_set(weights, 3, 1, index) for index in range(n)], minlength=len(weights))
    expected = np.array(weights) / sum(weights)
    # Five standard deviations of a binomial count.
    assert np.all(abs(counts / n - expected) <= 5 * np.sqrt(expected * (1 - expected) / n))


def test_the_scale_of_the_weights_has_no_effect():
    assert [draw_set((1, 0.25), 0, 2, i) for i in range(200)] == [draw_set((8, 2), 0, 2, i) for i in range(200)]


def test_seeds_epochs_and_indices_draw_anew():
    drawn = [[draw_set((1, 1), seed, epoch, i) for i in range(64)] for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


def test_every_example_is_the_one_of_its_set_with_the_same_index(tmp_path: Path):
    examples = weighted(tmp_path).at_epoch(2)
    numbers = [draw_set(examples.weights, 7, 2, index) for index in range(len(examples))]
    assert set(numbers) == {0, 1}
    for index, number in enumerate(numbers):
        assert equal(examples[index], examples.sets[number][index])
        songs = examples.songs(index)
        assert songs.keys() == ({"vocals", "bass", "drums", "other"}, {"vocals", "piano", "drums", "other"})[number]
        assert all(name.startswith(("Song", "Other")[number]) for name in songs.values())


def test_workers_and_the_place_in_the_epoch_have_no_effect(tmp_path: Path):
    examples = weighted(tmp_path)
    expected = [examples[index] for index in range(12, 24)]
    for workers in (0, 2):
        found = []
        for batch in load_batches(examples, range(12, 24), 3, workers=workers):
            found += [Example(m.clone(), t.clone()) for m, t in zip(batch.mixture, batch.targets, strict=True)]
        assert all(equal(*pair) for pair in zip(found, expected, strict=True))


def test_the_end_of_the_epoch_is_that_of_its_sets(tmp_path: Path):
    examples = weighted(tmp_path)
    assert len(examples) == 24
    with pytest.raises(IndexError, match="index: 24 is not in 0 to 23"):
        examples[24]

"""Songs that a network cannot take as they are: shorter than its least length, mono, silent, broken."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bandsplit.audio import files as audio
from bandsplit.core.errors import AudioError
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.models.chunk_config import (
    BoundedConfig,
    ChunkConfig,
    CrossfadeConfig,
    FadedConfig,
    FoldedConfig,
    HammingConfig,
    JoinedConfig,
    OverlapAddConfig,
    TrimmedConfig,
)
from bandsplit.models.contract import Geometry
from bandsplit.runs.config import TrainingConfig
from bandsplit.separation.separator import Separator
from bandsplit.training.validation import score_song
from dummy_family import RECIPE, DummyConfig, DummyNetwork, halving
from songs import noise, noise_stems, write_song

RATE_HZ = 8000
PLANS: list[ChunkConfig] = [
    CrossfadeConfig(chunk_s=0.2),
    CrossfadeConfig(chunk_s=0.2, geometry="even"),
    OverlapAddConfig(chunk_s=0.2, hop_s=0.1),
    FadedConfig(chunk_s=0.2, overlaps=4),
    FadedConfig(chunk_s=0.2, exact_batch=2),
    FoldedConfig(chunk_s=0.2, overlaps=4),
    HammingConfig(chunk_s=0.2, hop_s=0.07),
    TrimmedConfig(chunk_s=0.2, trim_s=0.02),
    BoundedConfig(chunk_s=0.2, trim_s=0.02),
    JoinedConfig(chunk_s=0.2),
    JoinedConfig(chunk_s=0.2, sixteen_bits=True),
]


class DemandingConfig(DummyConfig):
    """Signals of at least 1000 samples that are multiples of 128 less 64; its network asserts that they are."""

    @property
    def geometry(self) -> Geometry:
        return Geometry(FadedConfig(chunk_s=0.2), least_samples=1000, multiple_samples=128, less_samples=64)


def config(**settings: Any) -> DemandingConfig:
    return DemandingConfig(**{"targets": ("vocals", "bass"), "sample_rate_hz": RATE_HZ} | settings)


def biased() -> DummyNetwork:
    """A network that answers silence with sound."""
    network = halving(config())
    with torch.no_grad():
        assert network.filters.bias is not None
        network.filters.bias.fill_(0.25)
    return network


@pytest.mark.parametrize("chunks", PLANS, ids=repr)
def test_songs_shorter_than_the_least_length_are_padded(chunks: ChunkConfig):
    parts = Separator(halving(config()), device="cpu", chunks=chunks, batch_size=2)
    for samples in (1, 2, 63, 64, 65, 999, 1000, 1599, 1600, 1601):
        mixture = noise(2, samples, seed=samples)
        estimates = parts.separate(mixture, RATE_HZ)
        assert {target: estimate.shape for target, estimate in estimates.items()} == dict.fromkeys(
            ("vocals", "bass"), mixture.shape
        )
        plan = parts.plans(samples, RATE_HZ)[0]
        weights = np.zeros(samples)
        for chunk in plan.chunks:
            weights[chunk.used_start : chunk.used_stop] += plan.weights(chunk)
        tolerance = 2 / 32768 if chunks == JoinedConfig(chunk_s=0.2, sixteen_bits=True) else 1e-6
        np.testing.assert_allclose(estimates["bass"], mixture / 2 * weights, atol=tolerance)


@pytest.mark.parametrize("chunks", PLANS, ids=repr)
def test_a_stream_equals_the_array_under_every_plan(chunks: ChunkConfig, tmp_path: Path):
    mixture = noise(2, 20_011)
    audio.write(tmp_path / "a.wav", mixture, 11_025)  # resampled, so that blocks arrive late
    torch.manual_seed(0)
    parts = Separator(DummyNetwork(config(taps=9)), device="cpu", chunks=chunks, batch_size=3)
    expected, at = parts.separate(mixture, 11_025), 0
    for start, stems in parts.stream(tmp_path / "a.wav"):
        assert start == at
        for target, stem in stems.items():
            np.testing.assert_array_equal(stem, expected[target][:, at : at + stem.shape[1]])
        at += stem.shape[1]
    assert at == 20_011


@pytest.mark.parametrize("chunks", PLANS, ids=repr)
def test_silence_gives_silence_though_the_network_has_biases(chunks: ChunkConfig):
    parts = Separator(biased(), device="cpu", chunks=chunks)
    for samples in (1, 5000):
        for estimate in parts.separate(np.zeros((2, samples), np.float32), RATE_HZ).values():
            assert not estimate.any()
    alone = parts.separate(noise(2, 5000), RATE_HZ)["bass"]
    assert abs(alone.mean() - 0.25) < 0.05


def test_chunks_of_zeros_are_not_given_to_the_network():
    mixture = noise(2, 16_000)
    mixture[:, 3200:9600] = 0
    network, seen = biased(), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    chunks = TrimmedConfig(chunk_s=0.2, trim_s=0.01)  # 1600 samples, of which 1440 are used
    estimate = Separator(network, device="cpu", chunks=chunks, batch_size=4).separate(mixture, RATE_HZ)["bass"]
    assert sum(len(batch) for batch in seen) == 9 and all(len(batch) for batch in seen)
    assert all(batch.any(dim=(1, 2)).all() for batch in map(torch.as_tensor, seen))
    assert not estimate[:, 4320:8640].any()
    np.testing.assert_allclose(estimate[:, 8640:], mixture[:, 8640:] / 2 + 0.25, atol=1e-6)


def test_validation_treats_silence_as_separation_does(tmp_path: Path):
    stems = {name: np.zeros((2, 16_000)) for name in noise_stems(0)}
    write_song(tmp_path / "train" / "silent", stems)
    (track,) = index_dataset(tmp_path, tuple(stems), ("train",)).songs("train")
    training = TrainingConfig.parse(RECIPE.settings["training"])
    assert score_song(biased(), track, training).loss == 0


def test_mono_is_duplicated_for_a_stereo_network_and_the_user_is_told():
    parts, mixture = Separator(halving(config()), device="cpu"), noise(1, 3000)
    np.testing.assert_allclose(parts.separate(mixture, RATE_HZ)["vocals"], mixture / 2, atol=1e-6)
    (note,) = parts.notes(1, RATE_HZ, "song")
    assert note == "mono was duplicated to the 2 channels the model needs; stems are mono again"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_songs_that_are_not_finite_are_refused(value: float):
    mixture = noise(2, 3000)
    mixture[1, 800] = value
    with pytest.raises(AudioError, match=re.escape(f"audio: sample 800 (0.100 s) of channel 1 is {value}")):
        Separator(halving(config()), device="cpu").separate(mixture, RATE_HZ)

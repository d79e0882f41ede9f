"""Validation of whole songs, piece by piece."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import Track
from bandsplit.evaluation.metrics import usdr
from bandsplit.models.network import SeparationModel, build_model
from bandsplit.runs.config import TrainingConfig
from bandsplit.separation.separator import Separator
from bandsplit.training.losses import compute_loss, separation_loss
from bandsplit.training.validation import score_song, validate
from songs import write_dataset
from tiny_models import RATE_HZ, tiny_model


@pytest.fixture
def songs(tmp_path: Path) -> tuple[Track, ...]:
    return index_dataset(write_dataset(tmp_path / "data", train=4, test=0, samples=21001), mixture="sum").songs("train")


@pytest.fixture
def model() -> SeparationModel:
    return tiny_model("vocals", "bass")


def training(**settings: Any) -> TrainingConfig:
    return TrainingConfig.parse({"chunks": {"kind": "crossfade", "chunk_s": 0.5}} | settings)


def estimate_and_truth(model: SeparationModel, song: Track, chunks: Any) -> tuple[torch.Tensor, torch.Tensor]:
    loaded = song.load()
    estimates = Separator(model, device="cpu", chunks=chunks).separate(loaded.mixture, song.sample_rate_hz)
    return tuple(
        torch.from_numpy(np.stack([signals[target] for target in model.config.targets]))
        for signals in (estimates, loaded.stems)
    )  # type: ignore[return-value]


def test_usdr_is_that_of_the_separated_song(model: SeparationModel, songs: tuple[Track, ...]):
    settings = training()
    estimate, truth = estimate_and_truth(model, songs[0], settings.chunks)
    expected = usdr(truth, estimate)
    found = score_song(model, songs[0], settings).usdr_db
    assert list(found) == ["vocals", "bass"]
    np.testing.assert_allclose(list(found.values()), expected, rtol=0, atol=1e-9)


def test_the_loss_is_the_mean_over_pieces_weighted_by_their_lengths(model: SeparationModel, songs: tuple[Track, ...]):
    settings = training(time_weight=2.0)
    estimate, truth = estimate_and_truth(model, songs[0], settings.chunks)
    pairs = list(zip(estimate.split(4000, dim=-1), truth.split(4000, dim=-1), strict=True))
    assert [pair[0].shape[-1] for pair in pairs] == [4000] * 5 + [1001]
    options: dict[str, Any] = {"stft_config": model.config.loss_stft, "time_weight": 2.0}
    losses = [separation_loss(part[None], true[None], **options).item() for part, true in pairs]
    expected = np.average(losses, weights=[4000] * 5 + [1001])
    assert score_song(model, songs[0], settings).loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ({"kind": "l1-waveform"}, {"kind": "l1-waveform"}),
        ({"kind": "masked-mse", "coarse": True}, {"kind": "mse-waveform"}),  # one piece is no batch
        ({"kind": "multi-resolution-stft", "n_fft": 256, "windows": [2048, 64]},) * 2,
    ],
    ids=lambda loss: loss["kind"],
)
def test_the_loss_is_that_of_the_run_without_a_mask(
    model: SeparationModel, songs: tuple[Track, ...], loss: dict[str, Any], expected: dict[str, Any]
):
    settings = training(loss=loss)
    estimate, truth = estimate_and_truth(model, songs[0], settings.chunks)
    pieces = zip(estimate.split(4000, dim=-1), truth.split(4000, dim=-1), strict=True)
    losses = [compute_loss(training(loss=expected).loss, part[None], true[None]).item() for part, true in pieces]
    mean = np.average(losses, weights=[4000] * 5 + [1001])
    assert score_song(model, songs[0], settings).loss == pytest.approx(mean, rel=1e-6)


def test_the_median_over_chunks_leaves_a_partial_one_out(model: SeparationModel, songs: tuple[Track, ...]):
    settings = training(monitor_over="chunks")
    estimate, truth = estimate_and_truth(model, songs[0], settings.chunks)
    values = [
        usdr(true, part) for part, true in zip(estimate.split(4000, -1)[:5], truth.split(4000, -1)[:5], strict=True)
    ]
    found = score_song(model, songs[0], settings).usdr_db
    np.testing.assert_allclose(list(found.values()), np.median(values, axis=0), rtol=0, atol=1e-9)


def test_a_limit_takes_the_middle_of_the_song(model: SeparationModel, songs: tuple[Track, ...]):
    settings = training(validate_max_s=1.0)
    song = songs[0].load()
    first = (21001 - 8000) // 2
    cut = {name: signal[:, first : first + 8000] for name, signal in song.stems.items()}
    estimates = Separator(model, device="cpu", chunks=settings.chunks).separate(sum(cut.values()), RATE_HZ)  # type: ignore[call-overload]
    expected = usdr(
        np.stack([cut[target] for target in model.config.targets]), np.stack([estimates[t] for t in ("vocals", "bass")])
    )
    found = score_song(model, songs[0], settings).usdr_db
    np.testing.assert_allclose(list(found.values()), expected, rtol=0, atol=1e-6)


def test_songs_at_another_rate_are_resampled(model: SeparationModel, songs: tuple[Track, ...]):
    config = model.config.model_copy(update={"sample_rate_hz": 6000})
    other = build_model(config).eval()
    score = score_song(other, songs[0], training())
    assert all(np.isfinite(list(score.usdr_db.values())))


def test_the_score_is_the_mean_over_songs_and_targets(model: SeparationModel, songs: tuple[Track, ...]):
    settings = training()
    found = validate(model, songs, settings, Fabric(accelerator="cpu", devices=1))
    scores = [score_song(model, song, settings) for song in songs]
    assert found.songs == tuple(scores)
    assert found.usdr_db == pytest.approx(np.mean([list(score.usdr_db.values()) for score in scores]))
    assert found.loss == pytest.approx(np.mean([score.loss for score in scores]))

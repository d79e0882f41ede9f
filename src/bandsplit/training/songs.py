"""Preparation of a run: its examples and the songs of its validation."""

from __future__ import annotations

from bandsplit.core.errors import DataError
from bandsplit.data.examples.activity import index_activity
from bandsplit.data.examples.dataset import ExampleDataset, make_examples
from bandsplit.data.songs.tracks import Dataset, Track
from bandsplit.runs.config import RunConfig


def training_examples(config: RunConfig, dataset: Dataset) -> ExampleDataset:
    """Make the examples of a run's first epoch.

    Raises:
        DataError: the songs do not fit the run.
    """
    training, tracks = config.training, dataset.songs("train")
    activity = training.mixing.activity
    return make_examples(
        tracks,
        config.model.targets,
        training.mixing,
        excerpt_s=training.excerpt_s,
        examples=training.examples_per_epoch,
        sample_rate_hz=config.model.sample_rate_hz,
        channels=config.model.channels,
        seed=config.seed,
        active=index_activity(dataset, tracks, activity) if activity else None,
        broken_song=training.broken_song,
    )


def validation_songs(dataset: Dataset, channels: int) -> tuple[Track, ...]:
    """Return the songs of the validation.

    Raises:
        DataError: the split has no songs, or they do not fit a model of ``channels``.
    """
    songs = dataset.whole_songs("valid")
    for track in songs:
        if track.channels != channels:
            raise DataError(
                f"valid/{track.name}: channels is {track.channels}, the model needs {channels}; convert the song"
            )
    return songs

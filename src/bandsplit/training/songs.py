"""Preparation of a run: its examples and the songs of its validation."""

from __future__ import annotations

from bandsplit.core.errors import ConfigError, DataError
from bandsplit.data.examples.activity import index_activity
from bandsplit.data.examples.dataset import ExampleDataset, Examples, WeightedExamples, make_examples
from bandsplit.data.songs.tracks import Dataset, Track
from bandsplit.models.contract import ModelConfig
from bandsplit.runs.config import RunConfig


def training_examples(config: RunConfig, dataset: Dataset) -> Examples:
    """Make the examples of a run's first epoch, of ``dataset`` and its others.

    Raises:
        ConfigError: there are more or fewer data sets than ``training.data_weights``.
        DataError: the songs of a set do not fit the run.
    """
    weights, sets = config.training.data_weights, (dataset, *dataset.others)
    if len(sets) != max(1, len(weights)):
        raise ConfigError(
            f"training.data_weights: has {len(weights)} weights for {len(sets)} data set(s); give one for each of "
            f"several, none for one"
        )
    made = tuple(_examples_of(config, each) for each in sets)
    return WeightedExamples(made, weights) if dataset.others else made[0]


def _examples_of(config: RunConfig, dataset: Dataset) -> ExampleDataset:
    training, tracks = config.training, dataset.songs("train")
    activity = training.mixing.activity
    try:
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
    except DataError as error:
        raise DataError(f"{dataset.root}: {error}") from None


def validation_songs(dataset: Dataset, model: ModelConfig) -> tuple[Track, ...]:
    """Return the songs of the validation.

    Raises:
        DataError: the split has no songs, or they do not fit the model.
    """
    songs = dataset.whole_songs("valid")
    for track in songs:
        if track.channels != model.channels:
            raise DataError(
                f"valid/{track.name}: channels is {track.channels}, the model needs {model.channels}; convert the song"
            )
        missing = [target for target in model.targets if target not in track.stems]
        if missing:
            raise DataError(
                f"valid/{track.name}: has no stem {', '.join(missing)}, which the model estimates; it has "
                f"{', '.join(track.stems)}; validate on other songs, --valid"
            )
    return songs

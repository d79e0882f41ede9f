"""Preparation of a run: its examples and the songs of its validation."""

from __future__ import annotations

from collections.abc import Sequence

from bandsplit.core.bounded import BoundedFolder
from bandsplit.core.errors import ConfigError, DataError
from bandsplit.data.examples.activity import index_activity
from bandsplit.data.examples.dataset import ExampleDataset, Examples, WeightedExamples, make_examples
from bandsplit.data.examples.unlabelled import PseudoStems, cut_segments
from bandsplit.data.songs.tracks import MIXTURE, Dataset, Track
from bandsplit.data.songs.unlabelled import UnlabelledSong, unlabelled_songs
from bandsplit.models.contract import ModelConfig
from bandsplit.runs.config import RunConfig
from bandsplit.training.teacher import SeparatedSongs, Teacher


def training_examples(config: RunConfig, dataset: Dataset, pseudo: PseudoStems | None = None) -> Examples:
    """Make the examples of a run's first epoch, of ``dataset`` and its others, with ``pseudo`` if it has a teacher.

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
    made = tuple(_examples_of(config, each, pseudo) for each in sets)
    return WeightedExamples(made, weights) if dataset.others else made[0]


def _examples_of(config: RunConfig, dataset: Dataset, pseudo: PseudoStems | None) -> ExampleDataset:
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
            pseudo=pseudo,
        )
    except DataError as error:
        raise DataError(f"{dataset.root}: {error}") from None


def songs_without_stems(config: RunConfig, dataset: Dataset) -> tuple[UnlabelledSong, ...]:
    """Return the unlabelled songs of a run, none if it uses none.

    Raises:
        ConfigError: the run uses unlabelled songs and has no folder of them, or the opposite.
        DataError: some are held-out songs, broken, or do not fit the model.
    """
    if config.training.unlabelled is None and dataset.unlabelled is None:
        return ()
    if dataset.unlabelled is None:
        raise ConfigError("training.unlabelled: the run learns from songs without stems; name a folder, --unlabelled")
    if config.training.unlabelled is None:
        raise ConfigError(
            f"training.unlabelled: is null, but there are unlabelled songs, {dataset.unlabelled.root}; set it to {{}}"
        )
    return unlabelled_songs(dataset.unlabelled, dataset, config.model.channels)


def pseudo_stems(
    config: RunConfig, songs: Sequence[UnlabelledSong], teacher: Teacher | None, cache: BoundedFolder | None
) -> PseudoStems | None:
    """Let a teacher separate unlabelled songs for examples; None without a teacher.

    Args:
        config: the run.
        songs: its unlabelled songs.
        teacher: its teacher, which separates songs with the weights that it has at that moment.
        cache: the folder that keeps what was separated; None to keep nothing.
    """
    unlabelled = config.training.unlabelled
    if unlabelled is None or teacher is None:
        return None
    tracks = [song.track for song in songs]
    digests = {song.track.stems[MIXTURE][0].path: song.digest for song in songs}
    separate = SeparatedSongs(teacher, config, digests, cache)
    return PseudoStems(tracks, cut_segments(tracks, unlabelled), unlabelled, separate)


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

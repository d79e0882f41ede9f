"""The card of a model that a run trained."""

from __future__ import annotations

from bandsplit.data.songs.tracks import Dataset
from bandsplit.models.card import FineTuning, ModelCard, SemiSupervision
from bandsplit.models.tensors import count_parameters
from bandsplit.runs.config import RunConfig
from bandsplit.training.averaging import WEIGHTS
from bandsplit.training.initial import InitialModel
from bandsplit.training.teacher import Teacher
from bandsplit.training.validation import Validation


def describe_model(
    config: RunConfig,
    dataset: Dataset,
    validation: Validation,
    initial: InitialModel | None,
    learning_rate: float,
    teacher: Teacher | None = None,
) -> ModelCard:
    """Make the card of the weights that reached a validation score.

    Args:
        config: the run.
        dataset: its songs.
        validation: the validation of these weights.
        initial: the model that the run started from.
        learning_rate: that of its first update.
        teacher: its teacher until then, if it had one.
    """
    budget = config.training.budget
    changed = f", changed by hand: {config.changes}" if config.changes else ""
    weights = "" if validation.weights == WEIGHTS else f", {validation.weights}"
    spent = f", budget {budget}" if budget else ""
    before = f"first {initial.card.training_data}; then " if initial else ""
    also = f", and that of {initial.card.name}: {initial.card.licence}" if initial else ""
    return ModelCard(
        name=config.recipe + ("*" if changed else "") + (f" {budget}" if budget else ""),
        training_data=before + _describe_songs(dataset),
        licence=f"not stated by whoever trained it; the licence of the training data applies{also}",
        source=f"trained with bandsplit, recipe {config.recipe}, seed {config.seed}{spent}{weights}{changed}",
        recipe=None if changed else config.recipe,
        seed=config.seed,
        budget=budget and budget.price,
        saw_test_songs=True if initial and initial.card.saw_test_songs else None,
        scores={"validation_usdr_db": validation.usdr_db, "validation_loss": validation.loss},
        fine_tuning=_describe_fine_tuning(config, initial, learning_rate) if initial else None,
        semi_supervision=_describe_teacher(config, dataset, teacher) if teacher else None,
    )


def _describe_songs(dataset: Dataset) -> str:
    counts = {split: sum(track.split == split for track in dataset.tracks) for split in ("train", "valid")}
    text = f"{dataset.name}: {counts['train']} songs, {counts['valid']} for validation"
    text += "".join(f", {split} {print_}" for split, print_ in dataset.fingerprints.items() if split != "test")
    text += f", errata: {dataset.errata}" if dataset.errata else ""
    for other in dataset.others:
        songs = sum(track.split == "train" for track in other.tracks)
        text += f"; {other.name}: {songs} songs, train {other.fingerprints.get('train', 'unknown')}"
    if dataset.unlabelled is not None:
        text += f"; {dataset.unlabelled.name}: {len(dataset.unlabelled.tracks)} songs without stems"
    return text


def _describe_teacher(config: RunConfig, dataset: Dataset, teacher: Teacher) -> SemiSupervision:
    assert config.training.unlabelled is not None and dataset.unlabelled is not None
    return SemiSupervision(
        teacher=teacher.hash,
        replacements=teacher.replacements,
        share=config.training.unlabelled.share,
        songs=len(dataset.unlabelled.tracks),
        fingerprint=dataset.unlabelled.fingerprints.get("train"),
    )


def _describe_fine_tuning(config: RunConfig, initial: InitialModel, learning_rate: float) -> FineTuning:
    return FineTuning(
        source=initial.card.name,
        source_sha256=config.init or "",
        learning_rate=learning_rate,
        frozen=config.training.freeze,
        loaded_parameters=count_parameters(config.model, initial.transfer.loaded),
        fresh_parameters=count_parameters(config.model, initial.transfer.fresh),
        frozen_parameters=count_parameters(config.model, config.frozen_tensors),
    )

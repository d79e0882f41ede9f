"""Configuration and card of a model, read from its file without PyTorch."""

import json
import math
from pathlib import Path
from typing import ClassVar

from pydantic import Field
from safetensors import SafetensorError, safe_open

from bandsplit.core.config import Config, Grown, shorten
from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.core.version import __version__
from bandsplit.models.bags import is_bag
from bandsplit.models.contract import ModelConfig
from bandsplit.models.families import onnx_core, parse_model
from bandsplit.models.onnx.metadata import parse_onnx
from bandsplit.models.tensors import shapes_in

FORMAT = "bandsplit-model-1"
ONNX_FORMAT = "bandsplit-onnx-1"
ONNX_SUFFIX = ".onnx"
MODEL_SUFFIXES = (ONNX_SUFFIX, ".safetensors")

MOST_HEADER_BYTES = 10_000_000
"""Limit for the header of a .safetensors file."""

_LONGEST_TEXT = 200_000  # of a configuration (usually a thousand characters) or a card


class FineTuning(Config):
    """Facts about the training of a model that started from another one."""

    source: str
    """Name of the model it started from."""
    source_sha256: str
    """Hash of the file of that model."""
    learning_rate: float
    """Learning rate of the first update."""
    frozen: tuple[str, ...] = ()
    """Parts that were not trained, as they were named."""
    loaded_parameters: int
    """Parameters that came from the source."""
    fresh_parameters: int
    """Parameters that started from random numbers: heads of other targets."""
    frozen_parameters: int
    """Parameters that were not trained."""


class SemiSupervision(Config):
    """Facts about the training of a model that learned from songs without stems, too."""

    teacher: str
    """Hash of the weights of the last teacher before this model."""
    replacements: int
    """Times that the first teacher, the model of `FineTuning`, had been replaced."""
    share: float
    """Share of the targets and residuals that were drawn from these songs."""
    songs: int
    """Number of songs."""
    fingerprint: str | None
    """Fingerprint of their audio."""


class ModelCard(Config, Grown):
    """Facts that a user must know about a model. Licence and training data have no default on purpose."""

    ADDED: ClassVar = ("saw_test_songs", "fine_tuning", "semi_supervision", "budget")

    name: str
    """Name of the recipe or of the file it came from."""
    training_data: str
    """The data set, with its split or fingerprint if known."""
    licence: str
    """Licence of the weights."""
    saw_test_songs: bool | None = None
    """Whether it was trained on the test songs of MUSDB18-HQ; None: not known."""
    source: str = "trained with bandsplit"
    """Where the weights come from."""
    recipe: str | None = None
    """Recipe it was trained with; None if settings were changed by hand, and for imports."""
    seed: int | None = None
    """Seed it was trained with."""
    budget: str | None = None
    """Price of its system, at which the training stopped; None: it stopped as the recipe does."""
    source_sha256: str | None = None
    """Hash of the file an import was made from."""
    scores: dict[str, float] = Field(default_factory=dict)
    """Named scores, for example of the validation at the best epoch."""
    fine_tuning: FineTuning | None = None
    """The start from another model; None for models trained from random weights, and for imports."""
    semi_supervision: SemiSupervision | None = None
    """Songs without stems that it was trained on; None for models that had none."""
    bandsplit_version: str = __version__
    """Version that wrote the file."""


def read_card(path: Path | str) -> tuple[ModelConfig, ModelCard]:
    """Read configuration and card of a .safetensors or .onnx file, without the weights.

    Raises:
        ModelFileError: the file is missing, damaged, or not a bandsplit model.
    """
    path = Path(path)
    if is_bag(path):
        raise ModelFileError(f"{path}: is a bag of models, not a model; name one of its members")
    if path.suffix == ONNX_SUFFIX:
        _, config, card = read_onnx(path)
        return config, card
    _check_there(path)
    try:
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
        if header_bytes > MOST_HEADER_BYTES:
            raise OSError(f"its header claims to have {header_bytes} bytes; at most {MOST_HEADER_BYTES}")
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise ModelFileError(
            f"{path}: is not a model file or is damaged ({error}). A model is one .safetensors file; checkpoints of "
            f"other software (.ckpt) become one with `bandsplit models import {path.name}`"
        ) from None
    if metadata.get("format") != FORMAT:
        raise ModelFileError(
            f"{path}: is a safetensors file, but not a bandsplit model (format {metadata.get('format')!r} in its "
            f"metadata, expected {FORMAT!r}); was it written by another tool?"
        )
    return _parse_metadata(path, metadata)


def stored_types(path: Path) -> dict[str, int]:
    """Count the numbers in a .safetensors model by their type, for example ``{"F16": 4958468}``.

    Raises:
        ModelFileError: it is not a model file, or is damaged.
    """
    read_card(path)
    counts: dict[str, int] = {}
    with safe_open(path, framework="np") as file:
        for part in map(file.get_slice, file.keys()):
            counts[part.get_dtype()] = counts.get(part.get_dtype(), 0) + math.prod(part.get_shape())
    return counts


def read_onnx(path: Path | str) -> tuple[bytes, ModelConfig, ModelCard]:
    """Read an .onnx file that `bandsplit export` wrote: its bytes, configuration and card.

    Raises:
        ModelFileError: the file is missing, truncated, not written by ``bandsplit export``, refers to other files, or
            describes a graph that costs more than a model of its configuration can need.
    """
    path = Path(path)
    _check_there(path)
    try:
        data = path.read_bytes()
        file = parse_onnx(data)
    except (OSError, ValueError, MemoryError) as error:
        reason = shorten(format(error))
        raise ModelFileError(f"{path}: cannot be used as an ONNX model: {reason}; copy or export it again") from None
    if file.metadata.get("format") != ONNX_FORMAT:
        raise ModelFileError(
            f"{path}: was not written by `bandsplit export` (format {file.metadata.get('format')!r} in its metadata, "
            f"expected {ONNX_FORMAT!r}); export the model again: bandsplit export MODEL {path.name}"
        )
    config, card = _parse_metadata(path, file.metadata)
    try:
        shapes_in(config, [array.shape for array in file.graph.weights.values()])
        onnx_core(config).check(file, config)
    except (ValueError, ConfigError) as error:
        reason = shorten(format(error))
        raise ModelFileError(f"{path}: cannot be used as an ONNX model: {reason}; export it again") from None
    return data, config, card


def describe_file(format: str, config: ModelConfig, card: ModelCard) -> dict[str, str]:
    """Return the metadata of a model's file."""
    return {"format": format, "config": config.model_dump_json(), "card": card.model_dump_json()}


def _check_there(path: Path) -> None:
    try:
        is_file = path.is_file()
        if is_file:
            path.open("rb").close()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be opened ({error.strerror}); check its permissions") from None
    if not is_file:
        raise ModelFileError(
            f"{path}: no such model file; `bandsplit models list` shows what can be fetched, and with --architectures "
            f"what can be trained"
        )


def _parse_metadata(path: Path, metadata: dict[str, str]) -> tuple[ModelConfig, ModelCard]:
    try:
        for part in ("config", "card"):
            if len(metadata[part]) > _LONGEST_TEXT:
                raise ValueError(f"{part}: has {len(metadata[part])} characters; at most {_LONGEST_TEXT}")
        card = ModelCard.parse(json.loads(metadata["card"]))
        return parse_model(json.loads(metadata["config"])), card
    except (KeyError, ValueError, ConfigError, RecursionError, OverflowError) as error:
        raise ModelFileError(f"{path}: its metadata does not describe a model: {shorten(format(error))}") from None

"""One model, one file: safetensors with the configuration and a model card in its metadata. Nothing in it can run."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bandsplit import __version__
from bandsplit.config import ModelConfig
from bandsplit.errors import ConfigError, ModelFileError
from bandsplit.models.build import build_model
from bandsplit.models.model import BandSplitModel
from bandsplit.strict import Config

FORMAT = "bandsplit-model-1"

_PARTS = ("n_blocks", "depth", "hidden_layers")  # counts of things that have tensors of their own
_LARGEST = 1_000_000  # of any number in a configuration: rates, sizes, counts of bands


class ModelCard(Config):
    """What a user must know of a model before using it. Licence and training data have no default on purpose."""

    name: str
    """Name of the recipe or of the file it came from."""
    training_data: str
    """The data set, with its split or fingerprint if known."""
    licence: str
    """Licence of the weights."""
    source: str = "trained with bandsplit"
    """Where the weights come from."""
    recipe: str | None = None
    """Recipe it was trained with; none where settings were changed by hand, and for imports."""
    seed: int | None = None
    """Seed it was trained with."""
    source_sha256: str | None = None
    """Hash of the file an import was made from."""
    scores: dict[str, float] = Field(default_factory=dict)
    """Named scores, for example of the validation at the best epoch."""
    bandsplit_version: str = __version__
    """Version that wrote the file."""


def save_model(path: Path | str, model: BandSplitModel, card: ModelCard) -> None:
    """Write model, configuration and card to ``path``, under a temporary name first."""
    path = Path(path)
    metadata = {"format": FORMAT, "config": model.config.model_dump_json(), "card": card.model_dump_json()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata)
        os.replace(temporary, path)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be written ({error.strerror or error}); choose another folder") from None


def read_card(path: Path | str) -> tuple[ModelConfig, ModelCard]:
    """Read configuration and card without the weights.

    Raises:
        ModelFileError: as `load_model`.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(
            f"{path}: no such model file; `bandsplit models list` shows what can be fetched, and with --architectures "
            f"what can be trained"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata, n_tensors = file.metadata() or {}, len(file.keys())
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise ModelFileError(
            f"{path}: is not a model file or is damaged ({error}). A model is one .safetensors file; checkpoints of "
            f"the paper's authors (.ckpt) become one with `bandsplit models import {path.name}`"
        ) from None
    if metadata.get("format") != FORMAT:
        raise ModelFileError(
            f"{path}: is a safetensors file, but not a bandsplit model (format {metadata.get('format')!r} in its "
            f"metadata, expected {FORMAT!r}); was it written by another tool?"
        )
    try:
        card = ModelCard.model_validate_json(metadata["card"])
        _check_plausible(json.loads(metadata["config"]), n_tensors)
        return ModelConfig.model_validate_json(metadata["config"]), card
    except (KeyError, ValueError, ConfigError, RecursionError, OverflowError) as error:
        raise ModelFileError(f"{path}: its metadata does not describe a model: {error}") from None


def _check_plausible(value: Any, n_tensors: int, field: str = "config") -> None:
    """Refuse numbers of parts that no file of so few tensors can have, before anything that large is built.

    Raises:
        ValueError: naming the field.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plausible(item, n_tensors, key)
    elif isinstance(value, list):
        if field == "targets" and len(value) > n_tensors:
            raise ValueError(f"{len(value)} targets cannot be estimated with {n_tensors} tensors")
        for item in value:
            _check_plausible(item, n_tensors, field)
    elif isinstance(value, int | float):
        most = max(n_tensors, 1) if field in _PARTS else _LARGEST
        if not abs(value) <= most:
            raise ValueError(f"{field}: {value} is not plausible in a file of {n_tensors} tensors; at most {most}")


def load_model(path: Path | str) -> BandSplitModel:
    """Load a model on the CPU, ready to separate.

    Raises:
        ModelFileError: the file is missing, damaged, no bandsplit model, or its tensors do not fit its configuration.
    """
    path = Path(path)
    config, _ = read_card(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path}: is damaged ({error}); fetch or copy it again") from None
    try:
        return model_from_tensors(config, tensors)
    except (ModelFileError, ConfigError) as error:
        raise ModelFileError(f"{path}: {error}") from None


def model_from_tensors(config: ModelConfig, tensors: dict[str, Tensor]) -> BandSplitModel:
    """Build the network of ``config`` around ``tensors``, named and shaped as its ``state_dict``.

    Raises:
        ModelFileError: a tensor is missing, unexpected, misshapen, of another type or not finite; the message
            names them.
    """
    with torch.device("meta"):
        model = build_model(config)
    expected = model.state_dict()
    problems = compare_tensors(expected, tensors)
    problems = problems or [f"not finite: {name}" for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if problems:
        raise ModelFileError(describe_problems(problems))
    model.load_state_dict(tensors, strict=True, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model.eval()


def compare_tensors(expected: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    """List what is missing, unexpected, misshapen or of another type in ``found``."""
    problems = [f"missing: {name}" for name in expected if name not in found]
    problems += [f"unexpected: {name}" for name in found if name not in expected]
    problems += [
        f"misshapen: {name} is {tuple(found[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    problems += [
        f"of another type: {name} is {found[name].dtype}, expected {tensor.dtype}"
        for name, tensor in expected.items()
        if name in found and found[name].dtype != tensor.dtype
    ]
    return problems


def describe_problems(problems: list[str], shown: int = 10) -> str:
    """Join the first ``shown`` problems and count the others."""
    more = f"; and {len(problems) - shown} more" if len(problems) > shown else ""
    return f"{len(problems)} tensor(s) do not fit the configuration: " + "; ".join(problems[:shown]) + more

"""The weights that a run starts from, those of another model, and the parts that are not trained."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pooch import file_hash
from torch import Tensor, nn

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.core.text import counted
from bandsplit.models.card import ONNX_SUFFIX, ModelCard, read_card
from bandsplit.models.contract import ModelConfig
from bandsplit.models.families import tensor_shapes
from bandsplit.models.files import load_model
from bandsplit.models.layers.batch_norm import AnyBatchNorm
from bandsplit.models.tensors import count_parameters, cover
from bandsplit.models.transfer import Transfer, differing_settings, plan_transfer
from bandsplit.runs.config import RunConfig


@dataclass(frozen=True)
class InitialModel:
    """A model whose weights a run starts from."""

    path: Path
    card: ModelCard
    config: ModelConfig
    """Without the targets that the run does not have, where the family can leave them out."""
    left_out: tuple[str, ...]
    """These targets."""
    transfer: Transfer
    tensors: Mapping[str, Tensor]
    """Weights of ``transfer.loaded``."""
    settings: tuple[str, ...]
    """Settings of the source that differ, apart from targets, although all shapes are equal."""


def read_initial(path: Path | None, config: RunConfig) -> InitialModel | None:
    """Read the model that a run starts from; None for a run that starts from random weights.

    Raises:
        ConfigError: the run needs a model and none is named, or the opposite, or the file is another one.
        ModelFileError: the file is not a model of PyTorch, or does not fit the run's model.
    """
    if config.training.unlabelled is not None and config.init is None:
        raise ConfigError(
            "training.unlabelled: songs without stems are separated by a teacher; name the model that is the first one "
            "and the start of the run, --init"
        )
    if path is None or config.init is None:
        if path is not None:
            raise ConfigError(f"init: {path} is named, but the run's init is null; set it to the file's SHA-256")
        if config.init is not None:
            raise ConfigError(f"init: the run starts from the model with SHA-256 {config.init}; name its file, --init")
        return None
    found_config, card = read_card(path)
    if path.suffix == ONNX_SUFFIX:
        raise ModelFileError(f"{path}: an ONNX file cannot be trained; name the .safetensors it was exported from")
    if (found := file_hash(str(path))) != config.init:
        raise ConfigError(f"init: {path} has the SHA-256 {found}, the run starts from {config.init}")
    _check(path, found_config, config.model)
    model = load_model(path)
    common = [target for target in model.config.targets if target in config.model.targets]
    if common and len(common) < len(model.config.targets):
        model = model.narrowed(common)
    transfer, tensors = plan_transfer(model.config, config.model), model.state_dict()
    loaded = {name: tensors[name] for name in transfer.loaded}
    left_out = tuple(target for target in found_config.targets if target not in model.config.targets)
    settings = _differing(model.config, config.model)
    if config.training.unlabelled is not None:
        _check_teacher(path, model.config, config.model, settings)
    return InitialModel(path, card, model.config, left_out, transfer, loaded, settings)


def _check(path: Path, source: ModelConfig, config: ModelConfig) -> None:
    """Check that the models differ in targets only, before the weights are read."""
    try:
        plan_transfer(source, config)
    except ModelFileError as error:
        options = " ".join(f"--set {shlex.quote(setting)}" for setting in _differing(source, config))
        fix = f"give the run its settings: {options}" if source.family == config.family else "choose another recipe"
        raise ModelFileError(f"{path}: cannot be the start of this run: {error}; {fix}") from None


def _check_teacher(path: Path, source: ModelConfig, config: ModelConfig, settings: tuple[str, ...]) -> None:
    """Check that a source can teach: it estimates the targets with the very network that is trained."""
    missing = [target for target in config.targets if target not in source.targets]
    if missing:
        raise ModelFileError(
            f"{path}: cannot be the teacher: it does not estimate {', '.join(missing)}, only "
            f"{', '.join(source.targets)}; choose another --init"
        )
    if settings:
        options = " ".join(f"--set {shlex.quote(setting)}" for setting in settings)
        raise ModelFileError(
            f"{path}: cannot be the teacher: it has other settings than the model of the run; give the run its "
            f"settings: {options}"
        )


def _differing(source: ModelConfig, config: ModelConfig) -> tuple[str, ...]:
    ours, theirs = (each.model_dump(mode="json", exclude={"targets"}) for each in (config, source))
    return tuple(differing_settings(theirs, ours))


def freeze(model: nn.Module, frozen: frozenset[str]) -> list[nn.Module]:
    """Keep gradients from the frozen tensors, and return the batch normalisations whose statistics are frozen.

    Those must stay in evaluation mode: they normalise by their statistics, as they do when the model separates.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return [
        part
        for name, part in model.named_modules()
        if isinstance(part, AnyBatchNorm) and f"{name}.running_mean" in frozen
    ]


def describe_initial(initial: InitialModel, config: RunConfig) -> list[tuple[str, str]]:
    """Describe what is loaded, fresh, unused and frozen, in rows of a name and a text."""
    transfer, ours = initial.transfer, [name for name, _ in tensor_shapes(config.model)]
    frozen_tensors = config.frozen_tensors
    frozen = [name for name in ours if name in frozen_tensors]
    heads = f"heads of {', '.join(initial.config.targets)}"
    heads += f", not of {', '.join(initial.left_out)}" if initial.left_out else ""
    both = [*ours, *transfer.unused]
    rows = [
        ("start", f"{initial.card.name}, {initial.path}: {heads}"),
        ("loaded", _describe(config.model, transfer.loaded, both)),
        ("fresh", _describe(config.model, transfer.fresh, both)),
        ("unused", _describe(initial.config, transfer.unused, both)),
        ("frozen", _describe(config.model, frozen, ours)),
    ]
    if initial.settings:
        rows.append(("other settings", f"the source has {', '.join(initial.settings)}"))
    return rows


def _describe(config: ModelConfig, names: Iterable[str], among: Iterable[str]) -> str:
    names = tuple(names)
    parts = cover(names, among)
    shown = ", ".join(parts[:6]) + (", ..." if len(parts) > 6 else "")
    total = f"{count_parameters(config, names):,} parameters in {counted(len(names), 'tensor')}"
    return f"{total}: {shown}" if names else "nothing"

"""One model, one file: safetensors with the configuration and a model card in its metadata. Nothing in it can run."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bandsplit.config import ModelConfig
from bandsplit.core.files import write_atomically
from bandsplit.errors import ConfigError, ModelFileError
from bandsplit.models.build import build_model
from bandsplit.models.card import FORMAT, ModelCard, read_card
from bandsplit.models.model import BandSplitModel


def save_model(path: Path | str, model: BandSplitModel, card: ModelCard) -> None:
    """Write model, configuration and card to ``path``, under a temporary name first.

    Raises:
        ModelFileError: the file cannot be written.
    """
    path = Path(path)
    metadata = {"format": FORMAT, "config": model.config.model_dump_json(), "card": card.model_dump_json()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(tensors, metadata))
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be written ({error.strerror or error}); choose another folder") from None


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

"""Model files: safetensors with the configuration and a model card in the metadata. They contain no code."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.core.files import write_atomically
from bandsplit.models.card import FORMAT, ModelCard, describe_file, read_card
from bandsplit.models.contract import ModelConfig
from bandsplit.models.network import SeparationModel, build_model
from bandsplit.models.tensors import check_shapes, describe_problems

STORED_TYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Types of the weights in a model file; in memory all are of single precision."""


def save_model(
    path: Path | str, model: SeparationModel, card: ModelCard, types: Mapping[str, torch.dtype] | None = None
) -> None:
    """Write model, configuration and card to ``path``, under a temporary name first.

    Args:
        path: the file.
        model: the network.
        card: its card.
        types: types of the tensors in the file, by name; those not named keep the type that they have.

    Raises:
        ModelFileError: the file cannot be written.
    """
    path, types = Path(path), types or {}
    tensors = {
        name: tensor.detach().cpu().contiguous().to(types.get(name, tensor.dtype))
        for name, tensor in model.state_dict().items()
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(tensors, describe_file(FORMAT, model.config, card)))
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be written ({error.strerror or error}); choose another folder") from None


def save_untrained(path: Path | str, config: ModelConfig, name: str) -> None:
    """Write a model with seeded random weights, for measurements; `save_model` says what can go wrong."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(config)
    save_model(path, model, ModelCard(name=name, training_data="none: random weights", licence="none needed"))


def load_model(path: Path | str) -> SeparationModel:
    """Load a model on the CPU, ready to separate.

    Raises:
        ModelFileError: the file is missing, damaged or not a bandsplit model, or its tensors do not fit its
            configuration.
    """
    path = Path(path)
    config, _ = read_card(path)
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            check_shapes(config, shapes)
            tensors = {name: file.get_tensor(name) for name in shapes}
    except (ModelFileError, ConfigError) as error:
        raise ModelFileError(f"{path}: {error}") from None
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path}: is damaged ({error}); fetch or copy it again") from None
    try:
        return model_from_tensors(config, tensors)
    except (ModelFileError, ConfigError) as error:
        raise ModelFileError(f"{path}: {error}") from None


def model_from_tensors(config: ModelConfig, tensors: Mapping[str, Tensor]) -> SeparationModel:
    """Build the network of ``config`` with the values of ``tensors``, named and shaped as its ``state_dict``.

    Half precision becomes single precision, which holds the same values.
    The weights are copied into memory that torch allocates, which is aligned to 64 bytes: otherwise the rounding of
    products depends on the address of ``tensors``, which may be any byte of a mapped file.

    Raises:
        ModelFileError: a tensor is missing, unexpected, misshapen, of another type or not finite; the message
            names them.
    """
    check_shapes(config, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    problems = [
        f"of another type: {name} is {tensor.dtype}, expected {', '.join(map(str, STORED_TYPES))}"
        for name, tensor in tensors.items()
        if tensor.dtype not in STORED_TYPES
    ]
    problems = problems or [f"not finite: {name}" for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if problems:
        raise ModelFileError(describe_problems(problems))
    with torch.device("meta"):
        model = build_model(config)
    copies = {
        name: tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    model.load_state_dict(copies, strict=True, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model.eval()

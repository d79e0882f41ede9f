"""One model, one file: safetensors with the configuration and a model card in its metadata. Nothing in it can run."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.core.files import write_atomically
from bandsplit.models.bsrnn.build import build_model
from bandsplit.models.bsrnn.config import ModelConfig
from bandsplit.models.bsrnn.network import BandSplitModel
from bandsplit.models.bsrnn.shapes import Shape, shapes_in
from bandsplit.models.card import FORMAT, ModelCard, read_card


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


def model_from_tensors(config: ModelConfig, tensors: Mapping[str, Tensor]) -> BandSplitModel:
    """Build the network of ``config`` with the values of ``tensors``, named and shaped as its ``state_dict``.

    The weights are copied into memory that torch allocates, which is aligned to 64 bytes: otherwise the place where
    ``tensors`` lie, such as any byte of a mapped file, decides how products are rounded.

    Raises:
        ModelFileError: a tensor is missing, unexpected, misshapen, of another type or not finite; the message
            names them.
    """
    check_shapes(config, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    problems = [
        f"of another type: {name} is {tensor.dtype}, expected {torch.float32}"
        for name, tensor in tensors.items()
        if tensor.dtype != torch.float32
    ]
    problems = problems or [f"not finite: {name}" for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if problems:
        raise ModelFileError(describe_problems(problems))
    with torch.device("meta"):
        model = build_model(config)
    copies = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    model.load_state_dict(copies, strict=True, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model.eval()


def check_shapes(config: ModelConfig, found: Mapping[str, Shape]) -> None:
    """Compare names and shapes of tensors with those that ``config`` needs, before anything is built.

    Raises:
        ModelFileError: one is missing, unexpected or misshapen.
        ConfigError: ``config`` needs far more than there is.
    """
    expected = shapes_in(config, found.values())
    problems = [f"missing: {name}" for name in expected if name not in found]
    problems += [f"unexpected: {name}" for name in found if name not in expected]
    problems += [
        f"misshapen: {name} is {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if problems:
        raise ModelFileError(describe_problems(problems))


def describe_problems(problems: list[str], shown: int = 10) -> str:
    """Join the first ``shown`` problems and count the others."""
    more = f"; and {len(problems) - shown} more" if len(problems) > shown else ""
    return f"{len(problems)} tensor(s) do not fit the configuration: " + "; ".join(problems[:shown]) + more

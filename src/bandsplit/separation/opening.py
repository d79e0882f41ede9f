"""Opening models as networks, and checks before that."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.core.machine import has_packages
from bandsplit.models.card import MODEL_SUFFIXES, ONNX_SUFFIX, read_card
from bandsplit.models.contract import ModelConfig
from bandsplit.separation.network import Model, Network, Precision

Runtime: TypeAlias = Literal["auto", "torch", "onnx"]
"""Runtime of the networks; auto: onnxruntime for .onnx files, PyTorch for all others."""


def open_network(
    model: Model,
    device: object = "auto",
    targets: Sequence[str] | None = None,
    threads: int | None = None,
    precision: Precision = "fp32",
) -> Network:
    """Load a model.

    Args:
        model: a file, or a model of PyTorch.
        device: "auto" or a device of PyTorch; onnxruntime takes the CPU.
        targets: the wanted targets; None for all. Parts that they do not need are left out.
        threads: CPU threads of a call of onnxruntime; None for those of the machine.
        precision: of products; an .onnx file has its own.

    Raises:
        ModelFileError: the file is not a model.
        ConfigError: the device is not available.
    """
    if is_onnx(model):
        from bandsplit.separation.onnx_network import OnnxNetwork

        return OnnxNetwork(model, threads)  # type: ignore[arg-type]
    from bandsplit.separation.torch_network import TorchNetwork, pick_device

    return TorchNetwork.open(model, pick_device(device), targets, precision)


def is_onnx(model: Model) -> bool:
    """Return whether this is an .onnx file."""
    return isinstance(model, str | Path) and Path(model).suffix == ONNX_SUFFIX


def read_config(model: Model, name: str) -> ModelConfig:
    """Return the configuration of a model called ``name`` in errors.

    Raises:
        ModelFileError: the file is not a model.
        ConfigError: the object is not a model.
    """
    if isinstance(model, str | Path):
        return read_card(model)[0]
    from bandsplit.separation.torch_network import config_of

    return config_of(model, name)


def check_path(model: str | Path) -> None:
    """Check that a file that is not called like a model is at least there.

    Raises:
        ModelFileError: it is not.
    """
    if Path(model).suffix not in MODEL_SUFFIXES and not os.path.isfile(model):
        raise ModelFileError(
            f"{model}: no such model file; for a registered name or a folder of model files use "
            f"bandsplit.load_separator({str(model)!r})"
        )


def check_runtime(models: Sequence[Model], device: object, runtime: Runtime, precision: Precision) -> None:
    """Check that the runtime, the device and the precision suit models.

    Raises:
        ConfigError: one does not, or is unknown.
    """
    for field, value, legal in (("runtime", runtime, get_args(Runtime)), ("precision", precision, get_args(Precision))):
        if value not in legal:
            raise ConfigError(f"{field}: {value!r} is unknown; choose one of {', '.join(legal)}")
    for model in models:
        if runtime == "torch" and is_onnx(model):
            raise ConfigError(f"{model}: is an ONNX file, and runtime is 'torch'; give its .safetensors, or use 'onnx'")
        if runtime == "onnx" and not is_onnx(model):
            name = model if isinstance(model, str | Path) else "MODEL"
            out = Path(name).with_suffix(ONNX_SUFFIX).name
            raise ConfigError(
                f"{name}: is not an .onnx file (runtime 'onnx'); make one with: bandsplit export {name} {out}"
            )
        if not is_onnx(model) and not has_packages("torch"):
            raise ConfigError(
                f"{model}: needs PyTorch, which is not installed here; pip install torch, or give an .onnx file, "
                f"which `bandsplit export` writes on a machine with PyTorch"
            )
        if is_onnx(model) and str(device) not in ("auto", "cpu"):
            raise ConfigError(f"device: {str(device)!r} cannot compute {model}; ONNX files run on 'cpu'")
        if is_onnx(model) and precision != "fp32":
            raise ConfigError(
                f"precision: {precision!r} is for PyTorch; {model} was exported with its own: 32 bit, or 8 with --int8"
            )


def check_wanted(targets: Sequence[str], there: Sequence[str]) -> None:
    """Check that wanted targets are among those of the models.

    Raises:
        ConfigError: one is not, or none is wanted.
    """
    for target in targets:
        if target not in there:
            raise ConfigError(f"targets: {target!r} is not estimated by these models; legal: {', '.join(there)}")
    if not targets:
        raise ConfigError(f"targets: the list is empty; legal: {', '.join(there)}")

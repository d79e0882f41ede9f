"""Opening models as networks, and checks before that."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.core.kernels import search_kernels
from bandsplit.core.machine import has_packages, may_have_gpu
from bandsplit.models.card import MODEL_SUFFIXES, ONNX_SUFFIX, read_card
from bandsplit.models.contract import ModelConfig
from bandsplit.separation.native_network import LargeWeightsError, NativeNetwork, native_problem
from bandsplit.separation.network import Model, Network, Precision

Runtime: TypeAlias = Literal["auto", "torch", "onnx", "native"]
"""Runtime of the networks; native: the CPU kernels; auto: as `runtime_for` chooses."""


def open_network(
    model: Model,
    device: object = "auto",
    targets: Sequence[str] | None = None,
    threads: int | None = None,
    precision: Precision = "fp32",
    runtime: Runtime = "auto",
) -> Network:
    """Load a model.

    Args:
        model: a file, or a model of PyTorch.
        device: "auto" or a device of PyTorch; other runtimes take the CPU.
        targets: the wanted targets; None for all. Parts that they do not need are left out.
        threads: CPU threads of a call in other runtimes than PyTorch; None for those of the machine.
        precision: of products; an .onnx file has its own.
        runtime: one that `check_runtime` accepts.

    Raises:
        ModelFileError: the file is not a model.
        ConfigError: the device is not available.
    """
    chosen = runtime_for(model, device, runtime, precision)
    if chosen == "onnx":
        from bandsplit.separation.onnx_network import OnnxNetwork

        return OnnxNetwork(model, threads)  # type: ignore[arg-type]
    if chosen == "native":
        try:
            return NativeNetwork(model, targets, threads, precision)  # type: ignore[arg-type]
        except LargeWeightsError:
            if runtime == "native" or not has_packages("torch"):
                raise
    from bandsplit.separation.torch_network import TorchNetwork, pick_device

    return TorchNetwork.open(model, pick_device(device), targets, precision)


def runtime_for(model: Model, device: object, runtime: Runtime, precision: Precision) -> Runtime:
    """Choose the runtime that "auto" means for a model.

    It is onnxruntime for .onnx files; the CPU kernels for a file that they compute and no GPU takes, where they are the
    quickest or PyTorch is missing; else PyTorch, which also takes files whose weights turn out to be above 1e30.
    """
    if runtime != "auto":
        return runtime
    if is_onnx(model):
        return "onnx"
    if not isinstance(model, str | Path) or native_problem(read_card(model)[0], precision) is not None:
        return "torch"
    kernels = search_kernels().kernels
    quickest = kernels is not None and kernels.is_quick and _is_cpu(device)
    return "native" if quickest or not has_packages("torch") else "torch"


def _is_cpu(device: object) -> bool:
    """Return whether a device is the CPU; "auto" needs PyTorch, which is slow to load, only if there may be a GPU."""
    if device != "auto" or not may_have_gpu():
        return str(device) in ("auto", "cpu")
    from bandsplit.separation.torch_network import pick_device

    return pick_device(device).type == "cpu"


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
        if problem := _runtime_problem(model, str(device), runtime, precision):
            raise ConfigError(problem)


def _runtime_problem(model: Model, device: str, runtime: Runtime, precision: Precision) -> str | None:
    on_cpu = device in ("auto", "cpu")
    if is_onnx(model):
        if runtime not in ("auto", "onnx"):
            return f"{model}: is an ONNX file, and runtime is {runtime!r}; give its .safetensors, or use 'onnx'"
        if not on_cpu:
            return f"device: {device!r} cannot compute {model}; ONNX files run on 'cpu'"
        exported = "it was exported with its own: 32 bit, or 8 with --int8"
        return None if precision == "fp32" else f"precision: {precision!r} is not for {model}; {exported}"
    if not isinstance(model, str | Path):
        return None if runtime in ("auto", "torch") else f"runtime: {runtime!r} is for files, not for a model object"
    if runtime == "onnx":
        out = Path(model).with_suffix(ONNX_SUFFIX).name
        return f"{model}: is not an .onnx file (runtime 'onnx'); make one with: bandsplit export {model} {out}"
    if runtime != "native" and has_packages("torch"):
        return None
    problem = native_problem(read_card(model)[0], precision) if on_cpu else "computes on 'cpu' only"
    if runtime == "native":
        return f"{model}: runtime 'native' {problem}; use 'torch'" if problem else None
    if runtime == "auto" and not problem:
        return None
    why = f" (runtime 'native' {problem})" if problem else ""
    return (
        f"{model}: needs PyTorch, which is not installed here{why}; pip install torch, or give an .onnx file, "
        f"which `bandsplit export` writes on a machine with PyTorch"
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

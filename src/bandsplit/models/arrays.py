"""Weights of model files as NumPy arrays, without PyTorch; `bandsplit.models.files` makes networks of PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.models.card import read_card
from bandsplit.models.contract import ModelConfig
from bandsplit.models.tensors import check_shapes, describe_problems

_TYPES = "F32", "F16", "BF16"


def read_arrays(path: Path | str) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """Read a .safetensors model: its configuration, and its weights in single precision.

    Raises:
        ModelFileError: the file is missing, damaged or not a bandsplit model, or its tensors do not fit its
            configuration, are of another type or not finite; the message names them.
    """
    path = Path(path)
    config, _ = read_card(path)
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            check_shapes(config, {name: tuple(found.get_shape()) for name, found in slices.items()})
            types = {name: found.get_dtype() for name, found in slices.items()}
            bad = [name for name, kind in types.items() if kind not in _TYPES]
            _refuse([f"of another type: {name} is {types[name]}, expected {', '.join(_TYPES)}" for name in bad])
            if "BF16" in types.values():
                arrays = _read_bf16(path)
            else:
                arrays = {name: file.get_tensor(name).astype(np.float32, copy=False) for name in slices}
        _refuse([f"not finite: {name}" for name, array in arrays.items() if not np.isfinite(array).all()])
    except (ModelFileError, ConfigError) as error:
        raise ModelFileError(f"{path}: {error}") from None
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ModelFileError(f"{path}: is damaged ({error}); fetch or copy it again") from None
    return config, arrays


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ModelFileError(describe_problems(problems))


def _read_bf16(path: Path) -> dict[str, np.ndarray]:
    """Read a file with tensors in bfloat16, which NumPy lacks: they are the upper halves of single precision."""
    arrays = {}
    for name, tensor in deserialize(path.read_bytes()):
        if tensor["dtype"] == "BF16":
            array = (np.frombuffer(tensor["data"], "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            array = np.frombuffer(tensor["data"], {"F32": "<f4", "F16": "<f2"}[tensor["dtype"]]).astype(np.float32)
        arrays[name] = array.reshape(tensor["shape"])
    return arrays

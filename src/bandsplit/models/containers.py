"""Containers of weights that other software wrote, recognised by their content: nothing in them is run.

A file that torch.save wrote has its weights at the top level, or in one of `STATES`, next to anything else: settings of
the network under `ARGUMENTS` or as a package, and the state of a training, which nobody needs here. A .safetensors file
has weights, and may have a package's settings in its metadata; an ONNX file has weights and the operations that use
them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from bandsplit.core.errors import ModelFileError
from bandsplit.models.card import FORMAT, MOST_HEADER_BYTES, ONNX_FORMAT
from bandsplit.models.contract import Checkpoint
from bandsplit.models.onnx.metadata import parse_onnx
from bandsplit.models.packages import check_digits, package_in_metadata, package_in_pickle
from bandsplit.models.pickled import TYPES, PickledFile, StoredTensor
from bandsplit.models.settings import PickledSettings, Record

STATES = ("state_dict", "model_state_dict", "state")
ARGUMENTS = "hyper_parameters"

# torch.save before version 1.6: the pickle of a number that names the format.
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_ONNX = b"\x08"  # the first field of an ONNX file, the version of the format
_MOST_ONNX_BYTES = 1 << 31  # that Protocol Buffers allow
_SAFE_TYPES = {"F64", "F32", "F16", "BF16", "I64"}  # those of `TYPES`, by the names of safetensors
_LORA = "lora"
_PACKAGE_SUFFIX = ".th"  # state dicts of this suffix have digits in their names, too


@contextmanager
def open_checkpoint(path: Path, document: Mapping[str, Any] | None = None) -> Iterator[Checkpoint]:
    """Open a file of weights, whatever its name; `Checkpoint.read` works until the context ends.

    Args:
        path: the file.
        document: content of the configuration file that came with it.

    Raises:
        ModelFileError: it is missing or damaged, holds anything that does not belong in a checkpoint, no weights or
            those of a change to another model (LoRA), or its tensors are not plain, of strange numbers, or larger than
            the file.
    """
    start = _first_bytes(path)
    if start.startswith(_LEGACY):
        raise ModelFileError(
            "is in the format of PyTorch before version 1.6, which is not read; convert it where PyTorch is installed: "
            "torch.save(torch.load(OLD, weights_only=True), NEW)"
        )
    if start[8:9] == b"{":
        with _open_safetensors(path, document) as checkpoint:
            yield checkpoint
        return
    if start.startswith(_ONNX):
        yield _read_onnx(path, document)
        return
    with PickledFile(path) as file:
        arguments = package_in_pickle(file.content) if isinstance(file.content, dict) else None
        if arguments is not None or path.suffix == _PACKAGE_SUFFIX:
            check_digits(path)
        state = _check_tensors(*_find_state(file.content), path.stat().st_size)
        shapes = {name: tensor.shape for name, tensor in state.items()}
        if arguments is None and ARGUMENTS in file.content and ARGUMENTS not in state:
            arguments = PickledSettings(file.content[ARGUMENTS], ARGUMENTS)
        yield Checkpoint(shapes, lambda name: file.tensor(state[name]), arguments, document)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(_LEGACY))
    except FileNotFoundError:
        raise ModelFileError("no such checkpoint file") from None
    except OSError as error:
        raise ModelFileError(f"cannot be opened ({error.strerror}); name a checkpoint file") from None


@contextmanager
def _open_safetensors(path: Path, document: Mapping[str, Any] | None) -> Iterator[Checkpoint]:
    with path.open("rb") as start:
        header_bytes = int.from_bytes(start.read(8), "little")
    if header_bytes > MOST_HEADER_BYTES:
        raise ModelFileError(f"its header claims to have {header_bytes} bytes; at most {MOST_HEADER_BYTES}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") == FORMAT:
                raise ModelFileError("is a bandsplit model already: use it as it is")
            arguments = package_in_metadata(metadata)
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            for name, part in parts.items():
                _check_name(name)
                if part.get_dtype() not in _SAFE_TYPES:
                    raise _strange_numbers("it", name, part.get_dtype(), sorted(_SAFE_TYPES))
            shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}
            _require_some("it", shapes)
            yield Checkpoint(shapes, file.get_tensor, arguments, document)
    except SafetensorError as error:
        raise ModelFileError(f"cannot be read as a .safetensors file: {str(error)[:300]}") from None


def _read_onnx(path: Path, document: Mapping[str, Any] | None) -> Checkpoint:
    if (size := path.stat().st_size) > _MOST_ONNX_BYTES:
        raise ModelFileError(f"has {size} bytes, and an ONNX file at most {_MOST_ONNX_BYTES}")
    try:
        file = parse_onnx(path.read_bytes(), described=True)
    except ValueError as error:
        raise ModelFileError(f"cannot be read as an ONNX file: {error}") from None
    if file.metadata.get("format") == ONNX_FORMAT:
        raise ModelFileError("is a bandsplit model already: use it as it is")
    weights = file.graph.weights
    _require_some("it", weights)
    if strange := [name for name, array in weights.items() if array.type != "float32"]:
        raise _strange_numbers("it", strange[0], weights[strange[0]].type, ["float32"])

    def read(name: str) -> torch.Tensor:
        array = weights[name]
        return torch.frombuffer(bytearray(array.data), dtype=torch.float32).reshape(array.shape)

    return Checkpoint({name: array.shape for name, array in weights.items()}, read, None, document, file.graph)


def _find_state(content: Any) -> tuple[str, Any]:
    """Return what errors call the state dict of a pickle, and the state dict.

    Raises:
        ModelFileError: it has no state dict, or several.
    """
    if not isinstance(content, dict):
        raise ModelFileError(f"holds no weights: it is {_kind(content)}, not a mapping from names to tensors")
    if lora := [key for key in content if isinstance(key, str) and _LORA in key.lower()]:
        _check_name(lora[0])
    inside = [name for name in STATES if name in content]
    full = [name for name in inside if isinstance(content[name], dict) and _has_tensors(content[name])]
    if len(full) > 1:
        raise ModelFileError(f"has weights in {' and '.join(full)}, and which of them are meant is not known")
    if full or (inside and not _has_tensors(content)):
        name = (full or inside)[0]
        return f"its {name}", content[name]
    if _has_tensors(content):
        return "it", content
    raise ModelFileError(
        f"holds no weights: it needs names of tensors at its top level, or in one of {', '.join(STATES)}; it has "
        f"{', '.join(str(key)[:40] for key in [*content][:10]) or 'nothing'}"
    )


def _check_tensors(where: str, state: Any, file_bytes: int) -> dict[str, StoredTensor]:
    """Return the tensors of a state dict; all are plain, of numbers that can be weights, and no larger than the file.

    Raises:
        ModelFileError: one is not.
    """
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise ModelFileError(f"{where} must map names to tensors")
    for name, tensor in state.items():
        _check_name(name)
        if not isinstance(tensor, StoredTensor):
            raise ModelFileError(f"{where} must map names to plain tensors, but {name} is {_kind(tensor)}")
        if tensor.type not in TYPES:
            raise _strange_numbers(where, name, tensor.type, [*TYPES])
    _require_some(where, state)
    numbers_bytes = sum(math.prod(tensor.shape) * TYPES[tensor.type].itemsize for tensor in state.values())
    if numbers_bytes > file_bytes:
        largest = max(state, key=lambda name: math.prod(state[name].shape))
        raise ModelFileError(
            f"its tensors repeat the numbers of the file: they claim {numbers_bytes} bytes of {file_bytes}; the "
            f"largest is {largest} {state[largest].shape}"
        )
    return state


def _check_name(name: str) -> None:
    if _LORA in name.lower():
        raise ModelFileError(
            f"is a LoRA file ({name[:80]}): it holds changes to the weights of another model, not a model; merge them "
            f"with the software that made them, and import the complete weights"
        )


def _require_some(where: str, state: Mapping[str, Any]) -> None:
    if not state:
        raise ModelFileError(f"holds no weights: {where} has no tensors")


def _strange_numbers(where: str, name: str, found: str, legal: list[str]) -> ModelFileError:
    return ModelFileError(
        f"{where} has numbers that cannot be weights: {name} is of type {found}; legal: {', '.join(legal)}"
    )


def _has_tensors(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, StoredTensor) for value in content.values())


def _kind(value: Any) -> str:
    return value.name if isinstance(value, Record) else type(value).__name__

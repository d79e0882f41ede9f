"""Files of torch.save, read as data: nothing in them is called, built or imported.

The pickle inside is interpreted operation by operation. Plain containers are rebuilt; a class or function that the
pickle names becomes a `Record` of its name, its arguments and its state; a tensor becomes a `StoredTensor`, whose
numbers are read on request. So neither code nor false sizes have any effect.

Source: Python's pickletools; torch/serialization.py. The first lists the operations.
"""

import pickletools
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from bandsplit.core.errors import ModelFileError
from bandsplit.models.settings import Record

MOST_OPERATIONS = 1_000_000
"""Limit for a pickle; a large checkpoint with the state of its optimiser has a third as many."""

TYPES = {
    "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64,
}  # fmt: skip
"""Types of numbers that a state dict has, by torch's names of their storages; Long are counters of norms."""

_KNOWN_MODULES = (
    "torch.", "collections.", "omegaconf.", "typing.", "pathlib.",
    "ml_collections.", "pytorch_lightning.", "lightning.",  # settings and callbacks, next to the weights
    "diffq.",  # so that quantised weights get a message of their own
)  # fmt: skip
_KNOWN = {
    "builtins.dict", "builtins.list", "builtins.set", "builtins.complex", "builtins.bytearray", "_codecs.encode",
    "argparse.Namespace", "numpy.dtype", "numpy.ndarray", "fractions.Fraction",
    "demucs.htdemucs.HTDemucs", "demucs.hdemucs.HDemucs", "demucs.demucs.Demucs",  # named in packages, never called
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
}  # fmt: skip
_EMPTY = {"builtins.dict": dict, "builtins.list": list, "collections.OrderedDict": dict}
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_MARK = object()


@dataclass(eq=False, repr=False)
class StoredTensor:
    """A tensor in a file: the part with its numbers, their type, and their position in that part."""

    part: str
    type: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class PickledFile:
    """A file that torch.save wrote, open until its context ends.

    Attributes:
        content: what was saved, as dicts, lists, tuples, plain values, `Record` and `StoredTensor`.
    """

    def __init__(self, path: Path) -> None:
        """Read everything but the numbers of tensors.

        Raises:
            ModelFileError: it is damaged or not such a file, or it names classes or functions that do not
                belong in a checkpoint.
        """
        self.path = path
        self._storages: dict[tuple[str, str], Tensor] = {}
        names: set[str] = set()
        try:
            if not zipfile.is_zipfile(path):
                raise ModelFileError(
                    "is not a checkpoint: neither a zip file as torch.save writes nor a .safetensors file, or damaged"
                )
            self._zip = zipfile.ZipFile(path)
            self._folder = self._check_parts()
            self.content = _follow(self._zip.read(f"{self._folder}/data.pkl"), names)
        except ModelFileError:
            raise
        except Exception as error:  # damage makes zipfile and pickletools raise anything
            raise ModelFileError(_unreadable(error)) from None
        if strange := sorted(name for name in names if name not in _KNOWN and not name.startswith(_KNOWN_MODULES)):
            raise ModelFileError(
                f"refused, nothing was run: besides tensors it asks for {', '.join(strange[:10])}, which does "
                f"not belong in a checkpoint"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Read the numbers of a tensor, in the type that they have in the file.

        Raises:
            ModelFileError: the part does not have them, or is damaged.
        """
        try:
            key = stored.part, stored.type
            if key not in self._storages:
                numbers = bytearray(self._zip.read(f"{self._folder}/data/{stored.part}"))
                self._storages[key] = torch.frombuffer(numbers, dtype=TYPES[stored.type])
            return self._storages[key].as_strided(stored.shape, stored.stride, stored.offset)
        except Exception as error:
            raise ModelFileError(_unreadable(error)) from None

    def _check_parts(self) -> str:
        """Return the folder of all parts; raise a ValueError if they are not as torch.save writes them."""
        parts = self._zip.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise ValueError("its parts are compressed, which torch.save never does")
        if sum(part.file_size for part in parts) > self.path.stat().st_size:
            raise ValueError("its parts together are larger than the file")
        names = {part.filename for part in parts}
        folders = {name.partition("/")[0] for name in names if name.endswith("/data.pkl")}
        if len(folders) != 1:
            raise ValueError(f"it has data.pkl {len(folders)} times, not once")
        (folder,) = folders
        order = self._zip.read(f"{folder}/byteorder").decode() if f"{folder}/byteorder" in names else sys.byteorder
        if order != sys.byteorder:
            raise ValueError(f"its numbers are {order}-endian, which this machine does not read")
        return folder


def _unreadable(error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return f"cannot be read as a checkpoint, nothing was run: {reason[:300]}"


def _follow(pickle: bytes, names: set[str]) -> Any:
    """Return what a pickle describes; ``names`` collects all classes and functions that it mentions.

    Raises:
        ValueError: it is damaged, too long, or has an operation that torch.save never writes.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for number, (operation, argument) in enumerate(_operations(pickle)):
        if number > MOST_OPERATIONS:
            raise ValueError(f"its pickle has more than {MOST_OPERATIONS:,} operations")
        match operation:
            case "PROTO":
                pass
            case "STOP":
                return stack.pop()
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "BINUNICODE" | "SHORT_BINSTRING" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append(_VALUES[operation])
            case "GLOBAL":
                name = argument.replace(" ", ".").replace("__builtin__.", "builtins.")
                names.add(name)
                stack.append(Record(name))
            case "BINPERSID":
                stack.append(Record("storage", stack.pop()))
            case _:
                _change(stack, operation)
    raise ValueError("its pickle has no end")


def _operations(pickle: bytes) -> Iterator[tuple[str, Any]]:
    for operation, argument, _ in pickletools.genops(pickle):
        yield operation.name, argument


def _change(stack: list[Any], operation: str) -> None:
    """Apply an operation to the stack."""
    match operation:
        case "MARK":
            stack.append(_MARK)
        case "EMPTY_DICT":
            stack.append({})
        case "EMPTY_LIST" | "EMPTY_SET":
            stack.append([])
        case "EMPTY_TUPLE":
            stack.append(())
        case "TUPLE1" | "TUPLE2" | "TUPLE3":
            count = int(operation[-1])
            stack[-count:] = [tuple(stack[-count:])]
        case "TUPLE":
            stack.append(tuple(_above_mark(stack)))
        case "APPEND" | "APPENDS":
            items = [stack.pop()] if operation == "APPEND" else _above_mark(stack)
            _of_type(stack[-1], list).extend(items)
        case "SETITEM" | "SETITEMS":
            items = [stack.pop(-2), stack.pop()] if operation == "SETITEM" else _above_mark(stack)
            _of_type(stack[-1], dict).update((_key(key), value) for key, value in zip(*[iter(items)] * 2, strict=True))
        case "REDUCE" | "NEWOBJ":
            arguments = _of_type(stack.pop(), tuple)
            stack.append(_called(_of_type(stack.pop(), Record).name, arguments))
        case "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], Record):  # attributes of containers, which nobody needs
                stack[-1].state = state
        case _:
            raise ValueError(f"its pickle has the operation {operation}, which torch.save never writes")


def _above_mark(stack: list[Any]) -> list[Any]:
    items: list[Any] = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]


def _of_type(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"its pickle has a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def _key(value: Any) -> Any:
    """Return the key of a dict; containers cannot be one: hashing nested tuples may exhaust Python's stack."""
    if not isinstance(value, Record | str | int | float | None):
        raise ValueError(f"its pickle has a {type(value).__name__} as the key of a dict")
    return value


def _called(name: str, arguments: tuple[Any, ...]) -> Any:
    match name, arguments:
        case (("builtins.dict" | "builtins.list" | "collections.OrderedDict"), ()):
            return _EMPTY[name]()
        case "collections.defaultdict", (Record(),):
            return {}
        case "torch._utils._rebuild_parameter", (StoredTensor() as tensor, *_):
            return tensor
        case "torch._utils._rebuild_tensor_v2", (Record("storage", storage), int(at), tuple(shape), tuple(stride), *_):
            sizes = (at, *shape, *stride)
            match storage:
                case ("storage", Record(kind), str(part), *_) if all(isinstance(size, int) for size in sizes):
                    return StoredTensor(part, kind.removeprefix("torch.").removesuffix("Storage"), at, shape, stride)
    return Record(name, arguments)

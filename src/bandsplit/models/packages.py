"""Packages: files that hold a network's class by its name and the arguments of its constructor next to the weights."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pooch import file_hash

from bandsplit.core.errors import ModelFileError
from bandsplit.models.settings import PickledSettings, PlainReader, Record

_PARTS = ("klass", "args", "kwargs")
_QUANTISED, _QUANTISED_METADATA = "__quantized", "structure"  # DiffQ's marks


def package_in_pickle(content: Mapping[Any, Any]) -> PickledSettings | None:
    """Return the settings of a package, with its class as a name; None if a pickle's content is not one.

    Raises:
        ModelFileError: its weights are quantised.
    """
    state = content.get("state")
    if isinstance(state, dict) and _QUANTISED in state:
        raise _quantised()
    if not all(name in content for name in _PARTS):
        return None
    named = content["klass"]
    settings = {name: content[name] for name in _PARTS}
    return PickledSettings(settings | {"klass": named.name if isinstance(named, Record) else named}, "the package")


def package_in_metadata(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the settings of a package in the metadata of a .safetensors file, as JSON; None without one.

    Raises:
        ModelFileError: its weights are quantised, or the metadata are damaged.
    """
    if not all(name in metadata for name in _PARTS):
        return None
    if _QUANTISED_METADATA in metadata:
        raise _quantised()
    settings: dict[str, Any] = {"klass": metadata["klass"]}
    for name in _PARTS[1:]:
        try:
            settings[name] = PlainReader(name).read(json.loads(metadata[name]))
        except (ValueError, RecursionError):
            raise ModelFileError(f"its metadata are damaged: {name} is not JSON; fetch it again") from None
    return settings


def check_digits(path: Path) -> None:
    """Compare the eight digits at the end of a file's name, if there are any, with the file's sha256.

    Raises:
        ModelFileError: they are not the first digits of it.
    """
    digits = re.fullmatch(r".*-([0-9a-f]{8})", path.stem)
    if digits and not (found := file_hash(str(path))).startswith(digits[1]):
        raise ModelFileError(
            f"its sha256 begins with {found[:8]}, but its name promises {digits[1]}: it is damaged or another file; "
            f"fetch it again, or rename it without the digits if you trust it"
        )


def _quantised() -> ModelFileError:
    return ModelFileError(
        "its weights are quantised by DiffQ, which is not read; import the model that was not quantised (its name has "
        "no _q)"
    )

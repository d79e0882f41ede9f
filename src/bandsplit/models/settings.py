"""Settings in files of other software, read as plain data: within limits, and nothing that is not text or a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bandsplit.core.errors import ModelFileError

_DEEPEST, _LONGEST = 20, 100_000  # levels of nesting; values and characters


@dataclass(eq=False, repr=False)
class Record:
    """A class or function that a pickle names, with its arguments and its state."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None


class PlainReader:
    """Reader of settings that may be shared, nested or endless; it stops after a number of values and characters."""

    def __init__(self, where: str) -> None:
        """Read for errors that start with ``where``."""
        self.where, self._left = where, _LONGEST

    def read(self, value: Any, depth: int = 0) -> Any:
        """Strip the records from settings: OmegaConf keeps values in ``_val`` and containers in ``_content``.

        Raises:
            ModelFileError: they are nested too deeply (or in themselves), too many, or not plain values.
        """
        self._left -= 1 + len(value) if isinstance(value, str) else 1
        if depth > _DEEPEST or self._left < 0:
            raise ModelFileError(f"{self.where}: more than {_DEEPEST} levels deep, or more than {_LONGEST} values")
        if isinstance(value, Record) and value.name.startswith("omegaconf.") and isinstance(value.state, dict):
            return self.read(value.state.get("_val", value.state.get("_content")), depth + 1)
        if isinstance(value, Record) and value.name == "fractions.Fraction":
            return "/".join(str(self.read(part, depth + 1)) for part in value.arguments)
        if isinstance(value, dict):
            if strange := [key for key in value if not isinstance(key, str)]:
                raise ModelFileError(f"{self.where}: names must be text, found {type(strange[0]).__name__}")
            return {key: self.read(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.read(item, depth + 1) for item in value]
        if value is None or isinstance(value, str | int | float):
            return value
        kind = value.name if isinstance(value, Record) else type(value).__name__
        raise ModelFileError(f"{self.where}: {kind} is not a setting; legal: texts, numbers, lists, mappings, null")


class PickledSettings(Mapping[str, Any]):
    """Settings in a pickle; each is read when it is asked for, since those that nobody asks for may be anything."""

    def __init__(self, content: Any, where: str) -> None:
        """Take what the pickle holds.

        Raises:
            ModelFileError: it does not map texts.
        """
        self._reader = PlainReader(where)
        for _ in range(_DEEPEST):
            if not isinstance(content, Record) or not isinstance(content.state, dict):
                break
            content = content.state.get("_content")
        if not isinstance(content, dict):
            raise ModelFileError(f"{where} must be a mapping of constructor arguments")
        if strange := [key for key in content if not isinstance(key, str)]:
            raise ModelFileError(f"{where}: names must be text, found {type(strange[0]).__name__}")
        self._content = content

    def __getitem__(self, name: str) -> Any:
        return self._reader.read(self._content[name], 1)

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

"""Base class of all configurations: frozen, strict, with messages that name the field and the legal values."""

from __future__ import annotations

import difflib
import hashlib
import json
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from typing_extensions import Self

from bandsplit.core.errors import ConfigError

Size = Annotated[int, Field(ge=1, le=1_000_000)]
"""A size or count in a model: the limit is far above any network and small enough for all arithmetic on it."""


class Config(BaseModel):
    """Base of all configurations."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _name_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    near = difflib.get_close_matches(str(key), cls.model_fields, n=1, cutoff=0.5)
                    hint = f"did you mean {near[0]!r}?" if near else f"legal: {', '.join(cls.model_fields)}"
                    raise ValueError(f"unknown key {key!r}; {hint}")
        return data

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Build from plain data (a dict as read from JSON or YAML).

        Raises:
            ConfigError: one line per mistake: the field, what is wrong with it, what is legal.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigError(*map(_describe, error.errors()[:20])) from None

    def hash8(self) -> str:
        """Eight hexadecimal digits that identify the content."""
        return hash8(self.model_dump(mode="json"))


class Grown(BaseModel):
    """Base of stored models that got fields later, which are not stored where they have their defaults.

    So earlier versions read what does not use them, and nothing that is stored changes.
    """

    ADDED: ClassVar[tuple[str, ...]] = ()
    """Names of these fields."""

    @model_serializer(mode="wrap")
    def _leave_out(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        defaults = {name: type(self).model_fields[name].default for name in self.ADDED}
        unused = {name for name, default in defaults.items() if getattr(self, name) == default}
        return {name: value for name, value in serialise(self).items() if name not in unused}


def hash8(data: Any) -> str:
    """Return eight hexadecimal digits that identify plain data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:8]


def _describe(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "config"
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    shown = "" if isinstance(value, dict | BaseModel) else f" (got {value!r})"
    return shorten(f"{where}: {message}{shown}", 500)


def shorten(text: str, length: int = 2000) -> str:
    """Shorten a message that quotes more than anyone reads."""
    return text if len(text) <= length else f"{text[:length]} ... ({len(text)} characters)"

"""The page of the Python interface, written from its docstrings when the site is built."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import bandsplit
from bandsplit.core.config import Config
from settings_page import describe

INTRODUCTION = """# Python

The names of `bandsplit`, written from their docstrings when the site is built. [Separation](separate.md#python) has
an example. Axes in shapes: b batch, s target, c channel, f frequency bin, t frame; `samples` is spelled out.
"""


def python_page() -> str:
    """Return the page, in Markdown."""
    parts = [INTRODUCTION]
    for name in bandsplit.__all__:
        value = getattr(bandsplit, name)
        if inspect.ismodule(value):
            parts += _module(f"bandsplit.{name}", value)
        elif inspect.isclass(value) and issubclass(value, Config):
            parts += [f"## bandsplit.{name}\n", *describe(name, name, value)]
        elif callable(value):
            parts += _section(f"bandsplit.{name}", value, "##")
    return "\n".join(parts)


def _module(name: str, module: Any) -> Iterator[str]:
    yield f"## {name}\n\n{inspect.getdoc(module) or ''}\n"
    for inner, value in vars(module).items():
        public = not inner.startswith("_") and getattr(value, "__module__", "").startswith(module.__name__)
        if public and callable(value):
            yield from _section(f"{name}.{inner}", value, "###")


def _section(name: str, value: Any, level: str) -> Iterator[str]:
    yield f"{level} {name}\n\n```python\n{_signature(name.rpartition('.')[2], value)}\n```\n"
    yield f"```text\n{inspect.getdoc(value) or ''}\n```\n"
    if inspect.isclass(value) and not issubclass(value, BaseException):
        for inner, method in vars(value).items():
            if not inner.startswith("_") and inspect.isfunction(method):
                yield f"```python\n{_signature(f'{value.__name__}.{inner}', method)}\n```\n"
                yield f"```text\n{inspect.getdoc(method) or ''}\n```\n"


class _AsWritten(str):
    """Text that a signature shows without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _signature(name: str, value: Any) -> str:
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return name
    parameters = [
        each.replace(
            annotation=_annotation(each.annotation),
            default=_AsWritten("...") if inspect.isroutine(each.default) else each.default,
        )
        for each in signature.parameters.values()
    ]
    returned = _annotation(signature.return_annotation)
    return f"{name}{signature.replace(parameters=parameters, return_annotation=returned)}"


def _annotation(annotation: Any) -> Any:
    return _AsWritten(annotation) if isinstance(annotation, str) else annotation

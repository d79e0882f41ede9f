"""Required packages and the extras that install them, from the metadata that pip installed with bandsplit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from typing import NamedTuple

_FROM_SOURCE = {"kernels": "./kernels"}
"""Extras whose packages are on no index -> their folder in the source folder."""
_OF_DEVELOPMENT = ("dev", "docs", "oracle")


class Requirement(NamedTuple):
    """A package that bandsplit or one of its extras needs."""

    name: str
    found: str | None
    """The installed version, if any."""
    wanted: str
    """The accepted versions, as pip writes them."""


def extras() -> list[str]:
    """List the extras for users, in the order of pyproject.toml."""
    named = metadata.metadata("bandsplit").get_all("Provides-Extra") or []
    return [extra for extra in named if extra not in _OF_DEVELOPMENT]


def requirements(extra: str = "") -> Iterator[Requirement]:
    """List what bandsplit needs on this machine, or what an extra adds to it."""
    from packaging.requirements import Requirement as Parsed

    for line in metadata.requires("bandsplit") or []:
        parsed = Parsed(line)
        marker = parsed.marker
        always = marker is None or marker.evaluate({"extra": ""})
        if always == bool(extra) or (extra and marker is not None and not marker.evaluate({"extra": extra})):
            continue
        found = None
        with suppress(metadata.PackageNotFoundError):
            found = metadata.version(parsed.name)
        yield Requirement(parsed.name, found, str(parsed.specifier))


def install(extra: str, options: str = "") -> str:
    """Return the command that installs an extra, with where it must be called, if that matters."""
    folder = _FROM_SOURCE.get(extra)
    if folder is None:
        return f"pip install {options}'bandsplit[{extra}]'"
    return f"in the source folder, pip install {options}{folder}"


def describe_missing(module: str | None) -> str | None:
    """Say how to install the module that a `ModuleNotFoundError` names; None if bandsplit does not require it.

    Modules are assumed to have the name of their package, with ``_`` for ``-``. The one exception, yaml, is part of
    every installation.
    """
    top = (module or "").partition(".")[0]
    if top == "torch":
        fix = "pip install torch (separating with .onnx models works without it)"
        return f"this needs PyTorch, which is not installed: {fix}"
    with suppress(metadata.PackageNotFoundError):  # run from a source folder, which has no metadata
        for extra in ("", *extras()):
            for name, _, wanted in requirements(extra):
                if name.lower().replace("-", "_") == top:
                    fix = install(extra) if extra else f"pip install '{name}{wanted}'"
                    return f"this needs {name}, which is not installed: {fix}"
    return None

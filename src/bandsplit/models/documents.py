"""Configuration files of other software: YAML, read as plain data within limits."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from bandsplit.core.config import shorten
from bandsplit.core.errors import ModelFileError
from bandsplit.models.settings import PlainReader

MOST_BYTES = 200_000
"""Limit for a configuration file; published ones have three thousand."""

_DEEPEST = 20
_TUPLE = "tag:yaml.org,2002:python/tuple"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which knows one tag more, and no option that is set twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise yaml.MarkedYAMLError(problem=f"{twice!r} is set twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_tuple(self, node: yaml.Node) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise yaml.MarkedYAMLError(problem="!!python/tuple needs a list", problem_mark=node.start_mark)
        return tuple(self.construct_sequence(node, deep=True))


_Loader.add_constructor(_TUPLE, _Loader.construct_tuple)


def read_document(path: Path) -> dict[str, Any]:
    """Read a configuration file of other software; the one tag it may have is ``!!python/tuple``.

    Raises:
        ModelFileError: it is missing, too long, not YAML, not a mapping, nested too deeply, has aliases, other tags, an
            option that is set twice, or values that are not texts, numbers, lists or mappings.
    """
    try:
        text = _read_text(path)
        try:
            _check_structure(text)
            content = yaml.load(text, Loader=_Loader)
        except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
            raise ModelFileError(f"is not a YAML configuration: {' '.join(shorten(str(error), 300).split())}") from None
        if not isinstance(content, dict):
            raise ModelFileError(f"is not a configuration: it must map names to values, is {type(content).__name__}")
        return PlainReader("its options").read(content)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ModelFileError("no such configuration file") from None
    except OSError as error:
        raise ModelFileError(f"cannot be opened ({error.strerror}); name a configuration file") from None
    if len(data) > MOST_BYTES:
        raise ModelFileError(f"is not a configuration: it has more than {MOST_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ModelFileError("is not a configuration: it is not text (UTF-8)") from None


def _check_structure(text: str) -> None:
    """Check depth, aliases and tags before anything is built.

    Aliases double a document with every line (as values, and merged by ``<<``), and no published configuration has one.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        match event:
            case yaml.AliasEvent():
                raise ModelFileError(f"has the alias *{shorten(event.anchor, 40)}: write its value in its place")
            case yaml.CollectionStartEvent():
                depth += 1
            case yaml.CollectionEndEvent():
                depth -= 1
        if depth > _DEEPEST:
            raise ModelFileError(f"is nested more than {_DEEPEST} levels deep")
        tag = getattr(event, "tag", None)
        if tag not in (None, "!", _TUPLE):
            raise ModelFileError(f"has the tag {shorten(tag, 80)}; legal: !!python/tuple and none")

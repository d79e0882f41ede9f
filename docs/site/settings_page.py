"""The page of all settings, written from the docstrings of the configurations when the site is built."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pkgutil import resolve_name
from typing import Any

from bandsplit.core.config import Config
from bandsplit.models.families import FAMILIES
from bandsplit.runs.config import TrainingConfig
from site_tables import cell

Schema = Mapping[str, Any]

INTRODUCTION = """# Settings

Every setting of a training, of a plan of chunks and of each family of networks, with what is legal and its default.
This page is written from the configurations themselves when the site is built. `--set training.max_epochs=50` changes
one on the command line of `plan`, `train` and `submit`; a value is JSON or plain text, and replaces everything below
its name: `--set 'training.decay={"kind": "cosine"}'`. A name that does not exist is an error with the nearest one
that does. Recipes have values of their own: `config.json` in the folder of a run has all of them.

[Training](training.md) and [data](data.md#mixing-policies) explain settings of a training,
[separation](separate.md#chunks) plans of chunks.
"""
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_PLAIN = {"integer": "integer", "number": "number", "string": "text", "boolean": "`true`, `false`", "null": "`null`"}


def settings_page() -> str:
    """Return the page, in Markdown."""
    parts = [INTRODUCTION]
    parts += _chapter("Training", "training", TrainingConfig)
    for name, family in FAMILIES.items():
        parts += _chapter(f"Model: {name}", "model", resolve_name(family.config))
    return "\n".join(parts)


def _chapter(title: str, root: str, config: type[Config]) -> Iterator[str]:
    yield f"## {title}\n"
    yield from describe(title, root, config)


def describe(title: str, root: str, config: type[Config]) -> Iterator[str]:
    """Yield the tables of a configuration and of those in it; ``root`` is its place, ``title`` begins its anchors."""
    schema = config.model_json_schema(mode="validation")
    yield from _Chapter(title, schema.get("$defs", {})).section(root, schema)


class _Chapter:
    """The sections of one tree of settings; a configuration that is in several places is described in the first."""

    def __init__(self, title: str, definitions: Mapping[str, Schema]):
        self.title, self.definitions = title, definitions
        self.places: dict[str, str] = {}

    def section(self, path: str, schema: Schema) -> Iterator[str]:
        """Yield the description and the table of a configuration, then the sections below it."""
        yield _prose(schema.get("description", "")) + "\n"
        fields = {name: field for name, field in schema.get("properties", {}).items() if "const" not in field}
        below: list[tuple[str, str]] = []
        if fields:
            yield "| setting | legal | default | |\n|---|---|---|---|"
        for name, field in fields.items():
            legal = self._legal(field, f"{path}.{name}", below)
            default = _default(field) if name not in schema.get("required", ()) else "required"
            cells = (f"`{name}`", legal, default, _prose(field.get("description", "")))
            yield f"| {' | '.join(map(cell, cells))} |"
        if fields:
            yield ""
        for place, definition in below:
            part = self.definitions[definition]
            yield f"### {_heading(place, part)} {{: #{self.places[definition]} }}\n"
            yield from self.section(place, part)

    def _legal(self, schema: Schema, path: str, below: list[tuple[str, str]]) -> str:
        """Describe what a setting may be; configurations in it that were not seen before are added to ``below``."""
        if "$ref" in schema:
            return self._link(schema["$ref"], path, below)
        if "const" in schema:
            return _code(schema["const"])
        if "enum" in schema:
            return ", ".join(map(_code, schema["enum"]))
        for key in ("anyOf", "oneOf", "allOf"):
            if key in schema:
                return ", ".join(dict.fromkeys(self._legal(part, path, below) for part in schema[key]))
        kind = str(schema.get("type", "any"))
        if kind == "array":
            parts = schema.get("prefixItems")
            inner = ", ".join(self._legal(part, path, below) for part in parts) if parts else None
            return f"({inner})" if inner else f"list of {self._legal(schema.get('items', {}), path, below)}"
        if kind == "object":
            values = schema.get("additionalProperties")
            return f"name -> {self._legal(values, path, below)}" if isinstance(values, dict) else "object"
        bounds = [f"{sign} {schema[key]:,}" for key, sign in _BOUNDS.items() if key in schema]
        return " ".join([_PLAIN.get(kind, kind), ", ".join(bounds)]).strip()

    def _link(self, reference: str, path: str, below: list[tuple[str, str]]) -> str:
        name = reference.rpartition("/")[2]
        if name not in self.places:
            self.places[name] = re.sub(r"[^a-z0-9]+", "-", f"{self.title} {path} {name}".lower())
            below.append((path, name))
        kind = self.definitions[name].get("properties", {}).get("kind", {}).get("const")
        return f"[{_code(kind) if kind else 'its settings'}](#{self.places[name]})"


def _heading(path: str, schema: Schema) -> str:
    kind = schema.get("properties", {}).get("kind", {}).get("const")
    return f"`{path}.kind`: `{kind}`" if kind else f"`{path}`"


def _default(field: Schema) -> str:
    default = field.get("default")
    if isinstance(default, dict) and "kind" in default:
        return _code(default["kind"])
    if isinstance(default, dict) and default:
        return "as below"
    return _code(default) if "default" in field else "none"


def _code(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _prose(text: str) -> str:
    """Return a docstring as Markdown: on one line, with links to the places of its sources."""
    return re.sub(r"docs/([\w-]+\.md)(#[\w-]+)?", r"[\1](\1\2)", " ".join(text.split()))

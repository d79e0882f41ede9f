"""Transfer of weights to a network of the same family, whose targets may be others.

Heads, the parts that belong to targets, are found without knowledge of the family: two networks that differ in targets
only are equal once their targets have the same names, and the tensors that change then are heads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bandsplit.core.errors import ModelFileError
from bandsplit.models.contract import ModelConfig, Shape
from bandsplit.models.families import tensor_shapes
from bandsplit.models.tensors import compare_shapes


@dataclass(frozen=True)
class Transfer:
    """Tensors of two networks, by name."""

    loaded: tuple[str, ...]
    """Those of the new network that the source has."""
    fresh: tuple[str, ...]
    """Those that the source lacks: heads of other targets."""
    unused: tuple[str, ...]
    """Those of the source that the new network lacks: heads of other targets."""


def plan_transfer(source: ModelConfig, config: ModelConfig) -> Transfer:
    """Decide which tensors of ``source`` a network of ``config`` starts with: those of equal name and shape.

    Some families distinguish heads only by the position of their target. Such heads are loaded only if the targets are
    the same in the same order, or if both models have a single target.

    Raises:
        ModelFileError: the families differ, or tensors other than heads.
    """
    if source.family != config.family:
        raise ModelFileError(f"is of the family {source.family!r}, but this run trains one of {config.family!r}")
    alike = _placeholders(max(len(source.targets), len(config.targets)))
    compare_shapes(_shapes(config, alike), _shapes(source, alike))
    ours, theirs = _shapes(config, config.targets), _shapes(source, source.targets)
    placed = _heads_by_position(config)
    in_place = source.targets == config.targets or len(alike) == 1
    loaded = {name for name in ours if theirs.get(name) == ours[name] and (in_place or name not in placed)}
    return Transfer(
        loaded=tuple(name for name in ours if name in loaded),
        fresh=tuple(name for name in ours if name not in loaded),
        unused=tuple(name for name in theirs if name not in loaded),
    )


def _placeholders(count: int) -> tuple[str, ...]:
    return tuple(f"<target-{number}>" for number in range(1, count + 1))


def _shapes(config: ModelConfig, targets: Sequence[str]) -> dict[str, Shape]:
    return dict(tensor_shapes(config.model_copy(update={"targets": tuple(targets)})))


def _heads_by_position(config: ModelConfig) -> set[str]:
    """Find heads whose names do not contain that of their target: targets share them, or they are numbered."""
    others = _placeholders(len(config.targets) + 1)
    ours, renamed, more = (_shapes(config, targets) for targets in (config.targets, others[:-1], others))
    added = {_without_numbers(name) for name in more if name not in renamed}
    kept = [name for name in ours if name in renamed]
    return {name for name in kept if more.get(name) != ours[name] or _without_numbers(name) in added}


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "*", name)


def differing_settings(source: object, ours: object, path: str = "model") -> list[str]:
    """List settings of a source that differ from ours, as ``PATH=VALUE`` with the source's values in JSON."""
    if isinstance(source, dict) and isinstance(ours, dict) and source.keys() == ours.keys():
        return [text for key in source for text in differing_settings(source[key], ours[key], f"{path}.{key}")]
    return [] if source == ours else [f"{path}={json.dumps(source)}"]

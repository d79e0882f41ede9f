"""Reading models and bags as one system."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.models.bags import Bag, BagMember, is_bag, read_bag
from bandsplit.models.chunk_config import ChunkConfig
from bandsplit.models.pretrained.registry import find_models
from bandsplit.separation.chunk_choice import choose_chunks
from bandsplit.separation.members import Mean, Member, Part, members_of
from bandsplit.separation.network import Model, check_channels, check_targets, needed_channels
from bandsplit.separation.opening import check_path, check_wanted, read_config

Chunks = ChunkConfig | Mapping[str, Any] | None


class System(NamedTuple):
    """Models that are used together."""

    mean: Mean
    files: tuple[Path, ...]
    """All files of models and bags, including those that no wanted target needs."""


def read_system(
    models: Sequence[Model], targets: Sequence[str] | None = None, chunks: Chunks = None, runtime: str = "auto"
) -> System:
    """Read the configurations of models and bags that estimate different targets; no weights are loaded.

    Args:
        models: files of models or bags, or models of PyTorch.
        targets: the wanted targets, None for all; models and bags without any are left out.
        chunks: the chunk plan of all models, or changes to the plans of each.
        runtime: chooses among the files of a folder that a bag names; see `find_models`.

    Raises:
        ModelFileError: a file is missing, or not a model or bag.
        ConfigError: there are no models, none has a wanted target, they do not go together, or do not take such chunks.
    """
    if not models:
        raise ConfigError("model: the list is empty; give at least one model")
    names = [
        str(item) if isinstance(item, str | Path) else f"model {number} of the list"
        for number, item in enumerate(models, 1)
    ]
    reader = _Reader(chunks, runtime)
    named = [(reader.read(item, name), name) for item, name in zip(models, names, strict=True)]
    if targets is not None:
        check_wanted(targets, [target for part, _ in named for target in part.targets])
        named = [(part, name) for part, name in named if set(targets) & set(part.targets)]
    mean = _union("+".join(_title(part) for part, _ in named), *zip(*named, strict=True))
    _check_channels([part for part, _ in named])
    return System(mean, tuple(reader.files))


def check_bag(path: Path, bag: Bag) -> Mean:
    """Read the configurations of the members of a bag that will be at ``path``.

    Raises:
        ModelFileError: a member is missing, or not a model or bag.
        ConfigError: the members do not go together.
    """
    return _Reader(None, "auto").join(path, bag, {})


class _Reader:
    """Reader of models, bags, and bags in bags."""

    def __init__(self, chunks: Chunks, runtime: str) -> None:
        """Take what holds for all models."""
        self.chunks, self.runtime = chunks, runtime
        self.files: list[Path] = []
        self._open: list[Path] = []

    def read(self, model: Model, name: str, changes: Mapping[str, Any] | None = None) -> Part:
        """Read a model or a bag; ``changes`` are those of the bags around it to its chunk plan."""
        if isinstance(model, str | Path):
            self.files.append(Path(model))
            if is_bag(model):
                return self._read_bag(Path(model), changes or {})
            check_path(model)
        config = read_config(model, name)
        return Member(model, name, config, choose_chunks(self.chunks, config, name, changes or {}))

    def _read_bag(self, path: Path, changes: Mapping[str, Any]) -> Mean:
        if path.resolve() in self._open:
            raise ModelFileError(f"{path}: is a bag that contains itself; leave it out of its members")
        return self.join(path, read_bag(path), changes)

    def join(self, path: Path, bag: Bag, changes: Mapping[str, Any]) -> Mean:
        """Read the members of a bag, which is at ``path``, or will be."""
        self._open.append(path.resolve())
        parts: list[tuple[Part, Mapping[str, float]]] = []
        for number, member in enumerate(bag.members, 1):
            where = f"{path}: members: number {number} ({member.model})"
            try:
                part = self._read_member(path, member, {**changes, **bag.chunks, **member.chunks})
                part = _after(part, member.minus, [earlier for earlier, _ in parts])
                parts.append((part, _weights(part, member)))
            except ConfigError as error:
                raise ConfigError(f"{where}: {error}") from None
            except ModelFileError as error:
                raise ModelFileError(f"{where}: {error}") from None
        self._open.pop()
        _check_weights(path, bag, parts)
        return Mean(bag.name or path.stem, tuple(parts), bag.mixer)

    def _read_member(self, bag: Path, member: BagMember, changes: Mapping[str, Any]) -> Part:
        path = bag.parent / os.path.expanduser(member.model)
        files = find_models(path if path.exists() else member.model, runtime=self.runtime)
        parts = [self.read(file, str(file), changes) for file in files]
        return parts[0] if len(parts) == 1 else _union(member.model, parts, list(map(str, files)))


def _union(title: str, parts: Sequence[Part], names: Sequence[str]) -> Mean:
    """Join models or bags of different targets."""
    check_targets([part.targets for part in parts], names)
    return Mean(title, tuple((part, dict.fromkeys(part.targets, 1.0)) for part in parts))


def _title(part: Part) -> str:
    if isinstance(part, Mean):
        return part.name
    return Path(part.model).stem if isinstance(part.model, str | Path) else "model"


def _check_channels(parts: Sequence[Part]) -> None:
    members = [member for part in parts for member in members_of(part)]
    check_channels([member.config for member in members], [member.name for member in members])


def _weights(part: Part, member: BagMember) -> Mapping[str, float]:
    if member.weights is None:
        return dict.fromkeys(part.targets, 1.0)
    if unknown := [target for target in member.weights if target not in part.targets]:
        raise ConfigError(f"has no target {unknown[0]!r} to give a weight; legal: {', '.join(part.targets)}")
    return member.weights


def _after(part: Part, minus: Sequence[str], earlier: Sequence[Part]) -> Part:
    """Return a member with the earlier members whose estimates are subtracted from what it sees."""
    if not minus:
        return part
    if not isinstance(part, Member):
        raise ConfigError("minus: is for a single model, and this is several; name one model file")
    providers = []
    for target in minus:
        there = [one for one in earlier if isinstance(one, Member) and target in one.targets]
        if not there:
            raise ConfigError(f"minus: no model before it estimates {target!r}; put one that does in front of it")
        if there[0].chunks != part.chunks:
            raise ConfigError(
                f"minus: is cut into other chunks than {there[0].name}, which estimates {target!r}; give both the same "
                f"plan with `chunks`"
            )
        providers.append((there[0], target))
    return Member(part.model, part.name, part.config, part.chunks, tuple(providers))


def _check_weights(path: Path, bag: Bag, parts: Sequence[tuple[Part, Mapping[str, float]]]) -> None:
    named = {target for _, weights in parts for target in weights}
    given = {target for _, weights in parts for target, weight in weights.items() if weight}
    if without := sorted(named - given):
        raise ConfigError(
            f"{path}: target {without[0]!r} has no weight above 0 in any member; give it one, or leave it out of all"
        )
    try:
        _check_channels([part for part, _ in parts])
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if bag.mixer is not None:
        if missing := [target for target in bag.mixer.targets if target not in given]:
            raise ConfigError(f"{path}: mixer: no member estimates {missing[0]!r}; leave the mixer out, or add one")
        members = [member for part, _ in parts for member in members_of(part)]
        if any(needed_channels(member.config) not in (None, 2) for member in members):
            raise ConfigError(f"{path}: mixer: is for stereo, and its members take another number of channels")

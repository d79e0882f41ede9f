"""The models of a system, and how their estimates become those of the system."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, Union

import numpy as np

from bandsplit.models.bags import Mixer
from bandsplit.models.chunk_config import ChunkConfig
from bandsplit.models.contract import ModelConfig
from bandsplit.separation.channels import group_channels
from bandsplit.separation.network import Model

Estimates: TypeAlias = Mapping[str, np.ndarray]
"""Target -> ``channels samples``."""


@dataclass(frozen=True, eq=False)
class Member:
    """A model."""

    model: Model
    name: str
    """Its file, or another name in errors."""
    config: ModelConfig
    chunks: ChunkConfig
    """Its chunk plan."""
    minus: tuple[tuple[Member, str], ...] = ()
    """Members and their targets: their estimates are subtracted from the chunks that it sees."""

    @property
    def targets(self) -> tuple[str, ...]:
        """All targets that it estimates."""
        return self.config.targets


@dataclass(frozen=True, eq=False)
class Mean:
    """Weighted mean of the estimates of models or of other means, which a mixer may follow."""

    name: str
    parts: tuple[tuple[Part, Mapping[str, float]], ...]
    """Parts, and their weights by target; a target without one is not taken from the part."""
    mixer: Mixer | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """All targets with a weight, in the order of the parts."""
        if self.mixer is not None:
            return self.mixer.targets
        return tuple(dict.fromkeys(target for _, weights in self.parts for target in weights if weights[target]))


Part: TypeAlias = Union[Member, Mean]  # noqa: UP007


def members_of(part: Part) -> list[Member]:
    """Return all models, in their order."""
    if isinstance(part, Member):
        return [part]
    return [member for child, _ in part.parts for member in members_of(child)]


def needed_targets(part: Part, wanted: Iterable[str]) -> dict[Member, set[str]]:
    """Return the models that wanted targets need, each with the targets that are needed of it."""
    needed: dict[Member, set[str]] = {}
    _need(part, set(wanted), needed)
    return {member: needed[member] for member in members_of(part) if member in needed}


def _need(part: Part, wanted: set[str], needed: dict[Member, set[str]]) -> None:
    if isinstance(part, Member):
        if used := wanted & set(part.targets):
            needed.setdefault(part, set()).update(used)
            for provider, target in part.minus:
                _need(provider, {target}, needed)
        return
    if part.mixer is not None and wanted & set(part.mixer.targets):
        wanted = set(part.mixer.targets)
    for child, weights in part.parts:
        _need(child, {target for target in wanted if weights.get(target)}, needed)


def combine(part: Part, found: Mapping[Member, Estimates], mixture: np.ndarray) -> Estimates:
    """Return the estimates of a system.

    Args:
        part: the system.
        found: estimates of its models, as far as they are needed.
        mixture: ``channels samples``.
    """
    if isinstance(part, Member):
        return found.get(part, {})
    children = [(combine(child, found, mixture), weights) for child, weights in part.parts]
    means = {}
    for target in part.targets:
        given = [(weights[target], its[target]) for its, weights in children if weights.get(target) and target in its]
        if len(given) == 1:
            means[target] = given[0][1]
        elif given:
            total = sum(weight for weight, _ in given)
            means[target] = sum(np.float32(weight / total) * estimate for weight, estimate in given)
    if part.mixer is None or len(means) < len(part.mixer.targets):
        return means
    return _mix(part.mixer, means, mixture)


def _mix(mixer: Mixer, means: Estimates, mixture: np.ndarray) -> Estimates:
    """Apply a mixer to each pair of channels; a single one is duplicated, and its results are averaged."""
    inputs = np.stack([*(means[target] for target in mixer.targets), mixture])
    matrix, (_, channels, samples) = np.array(mixer.matrix, np.float32), inputs.shape
    mixed = np.empty((len(mixer.targets), channels, samples), np.float32)
    for group in group_channels(channels, 2, "mixer").groups:
        pair = matrix @ inputs[:, np.resize(group, 2)].reshape(-1, samples)
        found = pair.reshape(-1, 2, samples)
        mixed[:, list(group)] = found if len(group) == 2 else found.mean(axis=1, keepdims=True)
    return dict(zip(mixer.targets, mixed, strict=True))

"""Recipes: named experiments, and the derivation of one from another."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from bandsplit.core.errors import ConfigError
from bandsplit.core.targets import TARGETS
from bandsplit.published.paper import Values, validation_usdr_db
from bandsplit.runs.budgets import Budget
from bandsplit.runs.config import RunConfig

TWO_CORES: Mapping[str, Any] = {
    "model.sample_rate_hz": 16000,
    "training.batch_size": 4,
    "training.global_batch": 4,
    "training.decay": {"kind": "cosine"},
    "training.mixing.same_song_probability": 0.3,
    "training.validate_every": 2,
}
"""What all small counterparts have in common, which learn in minutes on two cores from songs at 16 kHz."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A named experiment; `run_config` makes it concrete for targets and a seed.

    Example:
        >>> from bandsplit.recipes.catalogue import find_recipe
        >>> base = find_recipe("base")
        >>> wide = base.vary("wide", "twice the features", {"model.n_features": 128})
        >>> config = wide.run_config(["vocals"], seed=1, changes={"training.max_epochs": 5})
        >>> config.model.n_features, config.model.targets, config.training.max_epochs, config.seed
        (128, ('vocals',), 5, 1)
    """

    id: str
    about: str
    """Short description: its role in the paper, or the system and the publication that it repeats."""
    row: str | None = None
    """Row of the paper's Table II."""
    parameters_m: float | None = None
    """Published parameters of the models of all targets, in millions."""
    shared: bool = False
    """One model estimates all its targets; otherwise each target has a model of its own."""
    by_target: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """Target -> dotted path -> value: settings of a model per target that differ between targets."""
    unknown: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Dotted path -> what its publication leaves open, and why the recipe has the value that it has."""
    counterpart: str | None = None
    """Recipe that this one imitates at a small size."""
    parent: str | None = None
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Dotted path -> value, the only differences from the parent."""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"model": {}, "training": {}})
    """The resolved settings, without what differs between models per target."""

    def vary(self, id: str, about: str, change: Mapping[str, Any], **facts: Any) -> Recipe:
        """Derive an experiment that differs only in ``change``, a mapping of dotted paths to values."""
        settings = apply_changes(self.settings, change)
        facts = {"shared": self.shared, "by_target": self.by_target, "unknown": self.unknown} | facts
        return Recipe(id, about, parent=self.id, changes=change, settings=settings, **facts)

    def run_config(
        self,
        targets: Sequence[str] = (),
        *,
        seed: int = 0,
        changes: Mapping[str, Any] | None = None,
        budget: Budget | None = None,
    ) -> RunConfig:
        """Make a run's configuration.

        Args:
            targets: what to estimate; needed unless the recipe shares one model between targets.
            seed: seed of weights and examples.
            changes: settings changed by hand, as dotted paths.
            budget: price at which the run stops; None: it stops as the recipe does.

        Raises:
            ConfigError: the model does not suit the targets, or a setting is unknown or illegal.
        """
        if not targets and not self.shared:
            raise ConfigError(
                f"recipe {self.id!r} trains one model per target: name one of {', '.join(TARGETS)} with --target"
            )
        if len(targets) > 1 and not self.shared:
            raise ConfigError(
                f"recipe {self.id!r} trains one model per target, got {', '.join(targets)}; run it for each"
            )
        settings = copy.deepcopy(dict(self.settings))
        if targets:
            settings["model"]["targets"] = list(targets)
        for target in targets:
            settings = apply_changes(settings, self.by_target.get(target, {}))
        given = {} if budget is None else {"training.budget": budget.model_dump()}
        settings = apply_changes(settings, {**(changes or {}), **given})
        return RunConfig.parse({"recipe": self.id, "changes": dict(changes or {}), "seed": seed, **settings})

    @property
    def published_usdr_db(self) -> Values | None:
        """The published validation uSDR, by target and "average"; None if it was not published."""
        return validation_usdr_db(self.id)

    @property
    def architecture(self) -> bool:
        """Whether its network differs from its parent's, and is not a small counterpart of another."""
        changed = any(path.startswith("model.") for path in self.changes)
        return self.counterpart is None and (self.parent is None or changed)

    def all_run_configs(self) -> list[RunConfig]:
        """Return the configurations that estimate all targets: one if shared, else one per target."""
        return [self.run_config()] if self.shared else [self.run_config([target]) for target in TARGETS]


def apply_changes(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``settings`` with the values at dotted paths replaced, and missing levels added.

    Raises:
        ConfigError: a path leads through a value that has no fields.
    """
    result = copy.deepcopy(dict(settings))
    for path, value in changes.items():
        *parents, last = path.split(".")
        level = result
        for key in parents:
            level = level.setdefault(key, {})
            if not isinstance(level, dict):
                raise ConfigError(f"{path}: {key!r} is {level!r} and has no field {last!r}")
        level[last] = copy.deepcopy(value)
    return result

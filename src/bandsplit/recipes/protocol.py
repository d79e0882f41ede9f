"""The common protocol of the systems of Table I: what is the same in the training of all, and the recipes under it.

Source: docs/table1.md#protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bandsplit.data.examples.mixing import UMX_LIKE
from bandsplit.models.chunk_config import CrossfadeConfig
from bandsplit.recipes.recipe import Recipe

EXCERPT_S = 7.8
"""Length of examples and chunks: the only one that every network takes, or exceeds by less than a sixth."""
PLAN = CrossfadeConfig(chunk_s=EXCERPT_S, geometry="even", normalise="none")
"""Chunk plan of every system, next to that of its authors for public weights."""
_EPOCHS = 200
COMMON: Mapping[str, Any] = {
    "training.mixing": UMX_LIKE,
    "training.examples_per_epoch": 7680,
    "training.max_epochs": _EPOCHS,
    "training.patience": _EPOCHS,
    "training.monitor": "usdr",
    "training.monitor_over": "songs",
    "training.validate_every": 1,
    "training.validate_max_s": None,
    "training.chunks": PLAN.model_dump(exclude={"normalise", "tta"}),
}
"""Dotted path -> value, of every system; the length of an example is the shortest of `EXCERPT_S` that a network takes.

The number of examples is that of the paper: 200 epochs of 20,000 examples of 3 s, 3300 hours of audio.
"""


def under_protocol(recipe: Recipe) -> Recipe:
    """Derive the recipe ``table1-<name>``: model, loss and optimiser of ``recipe``, all else from the protocol."""
    samples = {
        (config.model.geometry.fitting(round(EXCERPT_S * config.model.sample_rate_hz)), config.model.sample_rate_hz)
        for config in recipe.all_run_configs()
    }
    ((excerpt_samples, sample_rate_hz),) = samples  # models of all targets take the same
    change = {**COMMON, "training.excerpt_s": excerpt_samples / sample_rate_hz}
    return recipe.vary(
        f"table1-{recipe.id}", f"Table I under one protocol: {recipe.id}", change,
        by_target={target: dict(_kept(settings, change)) for target, settings in recipe.by_target.items()},
        unknown=dict(_kept(recipe.unknown, change)), parameters_m=recipe.parameters_m,
    )  # fmt: skip


def _kept(settings: Mapping[str, Any], change: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the settings that the protocol does not replace."""
    for path, value in settings.items():
        if not any(f"{path}.".startswith(f"{common}.") for common in change):
            yield path, value

"""A small recipe of each family that has one."""

from collections.abc import Mapping
from typing import Any

from bandsplit.recipes.catalogue import RECIPES
from bandsplit.runs.config import RunConfig

SMALL = [recipe.id for recipe in RECIPES.values() if recipe.id == "mini-base" or (
    recipe.id.startswith("mini-") and "family" in recipe.settings["model"]
)]  # fmt: skip


def small_run(name: str, changes: Mapping[str, Any] | None = None) -> RunConfig:
    """The run of a recipe, of vocals if it is not of several targets."""
    recipe = RECIPES[name]
    return recipe.run_config(() if recipe.shared else ("vocals",), changes=changes)

"""The catalogue of experiments: the changes of each to its parent, and its published numbers.

Source: paper, Table II; authors' code. The table has row numbers and parameter counts of four targets, the code the
models with a shared encoder ("SIMO").
"""

from __future__ import annotations

import difflib

from bandsplit.core.errors import ConfigError
from bandsplit.recipes.bs_roformer import bs_roformer_recipes
from bandsplit.recipes.demo import demo_recipe
from bandsplit.recipes.demucs import demucs_recipes
from bandsplit.recipes.dttnet import dttnet_recipes
from bandsplit.recipes.mdx_net import mdx_net_recipes
from bandsplit.recipes.mini import mini_recipes
from bandsplit.recipes.paper import paper_recipes
from bandsplit.recipes.presunet import presunet_recipes
from bandsplit.recipes.recipe import Recipe
from bandsplit.recipes.table1 import table1_recipes
from bandsplit.recipes.tfc_tdf import tfc_tdf_recipes


def find_recipe(id: str) -> Recipe:
    """Look up a recipe.

    Raises:
        ConfigError: no recipe has this name; the message suggests the nearest.
    """
    if id not in RECIPES:
        near = difflib.get_close_matches(id, RECIPES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"no recipe is named {id!r}; {hint}legal: {', '.join(RECIPES)}")
    return RECIPES[id]


RECIPES: dict[str, Recipe] = {recipe.id: recipe for recipe in paper_recipes()}
RECIPES |= {
    recipe.id: recipe
    for recipe in (
        demo_recipe(RECIPES["simo"]),
        *mini_recipes(RECIPES),
        *bs_roformer_recipes(),
        *dttnet_recipes(),
        *mdx_net_recipes(),
        *tfc_tdf_recipes(),
        *demucs_recipes(),
        *presunet_recipes(),
    )
}
RECIPES |= {recipe.id: recipe for recipe in table1_recipes(RECIPES)}
"""All recipes by id, parents before children where the paper's order allows."""

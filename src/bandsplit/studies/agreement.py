"""Agreement with the paper: the order of compared recipes here and in its published scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bandsplit.evaluation.comparison import Comparison
from bandsplit.published import paper as published
from bandsplit.recipes.catalogue import RECIPES

NAMED = 5
"""Largest number of pairs in the opposite order that are named, the largest differences first."""


@dataclass(frozen=True)
class Pair:
    """Two recipes with a comparison here and published scores."""

    comparison: Comparison
    published_db: float
    """Published difference, first minus second; rounded, as its terms were."""

    @property
    def alike(self) -> bool:
        """Whether the difference has the same sign here and in the paper."""
        return self.comparison.difference * self.published_db > 0

    @property
    def sure(self) -> bool:
        """Whether the difference here is significant."""
        return self.comparison.doubt is None


def published_db(recipe: str, column: str) -> float | None:
    """Return the published validation uSDR of a recipe, or of the one that it imitates; None without one.

    Args:
        recipe: name of a recipe.
        column: a target, or "average".
    """
    known = RECIPES.get(recipe)
    twin = known.counterpart if known is not None and known.counterpart else recipe
    return (published.validation_usdr_db(twin) or {}).get(column)


def published_pairs(found: Iterable[Comparison], target: str) -> list[Pair]:
    """Pair comparisons of recipes with the published validation uSDR of the recipes that they imitate.

    Recipes without a published counterpart, targets without a published number, and pairs whose published numbers are
    equal are left out.

    Args:
        found: comparisons of systems that are named by their recipes.
        target: the target, or "average".
    """
    pairs = []
    for one in found:
        theirs = [published_db(name, target) for name in (one.a, one.b)]
        if one.target == target and theirs[0] is not None and theirs[1] is not None:
            difference = round(theirs[0] - theirs[1], 6)
            if difference:
                pairs.append(Pair(one, difference))
    return pairs


def describe_agreement(found: Iterable[Comparison], target: str) -> list[str]:
    """Describe in sentences the agreement with the paper's order; return nothing without a published pair.

    Args:
        found: comparisons of systems that are named by their recipes.
        target: the target, or "average".
    """
    pairs = published_pairs(found, target)
    if not pairs:
        return []
    sure = [pair for pair in pairs if pair.sure]
    lines = [
        f"Order compared with the paper's ({target}, {len(pairs)} pairs with different published scores): "
        f"{_count(pairs)}. Significant differences here: {len(sure)}{f' ({_count(sure)})' if sure else ''}."
    ]
    contrary = sorted((pair for pair in sure if not pair.alike), key=lambda pair: -abs(pair.comparison.difference))
    if contrary:
        texts = [
            f"{one.a} - {one.b} {one.difference:+.2f} dB [{one.low:+.2f}, {one.high:+.2f}], published "
            f"{pair.published_db:+.1f} dB"
            for pair in contrary[:NAMED]
            for one in (pair.comparison,)
        ]
        more = f"; and {len(contrary) - NAMED} more" if len(contrary) > NAMED else ""
        lines.append(f"Significant differences with the opposite sign from the paper: {'; '.join(texts)}{more}.")
    return lines


def _count(pairs: list[Pair]) -> str:
    alike = sum(pair.alike for pair in pairs)
    return f"{alike} in the same order, {len(pairs) - alike} in the opposite order"

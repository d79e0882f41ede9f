"""Whether small counterparts of the paper's variants stand in the order that the paper found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bandsplit.evaluation.comparison import Comparison
from bandsplit.published import paper as published
from bandsplit.recipes.catalogue import RECIPES

NAMED = 5
"""Pairs in the contrary order that are named, the largest differences first."""


@dataclass(frozen=True)
class Pair:
    """Two recipes that were compared here and in print."""

    comparison: Comparison
    published_db: float
    """Published difference, first minus second; rounded, as its terms were."""

    @property
    def alike(self) -> bool:
        """Whether the difference has the same sign here and in print."""
        return self.comparison.difference * self.published_db > 0

    @property
    def sure(self) -> bool:
        """Whether the difference here is significant."""
        return self.comparison.doubt is None


def published_db(recipe: str, column: str) -> float | None:
    """Return the published validation uSDR of a recipe, or of the one that it imitates; none where there is none.

    Args:
        recipe: name of a recipe.
        column: a target, or "average".
    """
    known = RECIPES.get(recipe)
    twin = known.counterpart if known is not None and known.counterpart else recipe
    return (published.validation_usdr_db(twin) or {}).get(column)


def pairs_in_print(found: Iterable[Comparison], target: str) -> list[Pair]:
    """Pair comparisons of recipes with the published validation uSDR of the recipes that they imitate.

    Recipes that imitate none, targets without a published number, and pairs that are equal in print are left out.

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
    """Say in sentences how far the order agrees with the paper's; nothing where no pair is in print.

    Args:
        found: comparisons of systems that are named by their recipes.
        target: the target, or "average".
    """
    pairs = pairs_in_print(found, target)
    if not pairs:
        return []
    sure = [pair for pair in pairs if pair.sure]
    lines = [
        f"Order beside the paper's ({target}, {len(pairs)} pairs that differ in print): {_count(pairs)}. Told apart "
        f"here: {len(sure)}{f', {_count(sure)}' if sure else ''}."
    ]
    contrary = sorted((pair for pair in sure if not pair.alike), key=lambda pair: -abs(pair.comparison.difference))
    if contrary:
        texts = [
            f"{one.a} - {one.b} {one.difference:+.2f} dB [{one.low:+.2f}, {one.high:+.2f}], in print "
            f"{pair.published_db:+.1f} dB"
            for pair in contrary[:NAMED]
            for one in (pair.comparison,)
        ]
        more = f"; and {len(contrary) - NAMED} more" if len(contrary) > NAMED else ""
        lines.append(f"Told apart in the contrary order: {'; '.join(texts)}{more}.")
    return lines


def _count(pairs: list[Pair]) -> str:
    alike = sum(pair.alike for pair in pairs)
    return f"{alike} in the same order, {len(pairs) - alike} in the contrary one"

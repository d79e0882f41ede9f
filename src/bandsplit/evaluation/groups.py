"""Grouping of rows by their conditions, and remarks that distinguish groups of the same name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

Row = TypeVar("Row")
Key = TypeVar("Key", bound=Hashable)


def group(rows: Iterable[Row], by: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    """Group rows by what ``by`` returns; groups and their rows are in the order of first appearance."""
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault(by(row), []).append(row)
    return groups


def differing(conditions: Collection[Mapping[str, Hashable]]) -> list[str]:
    """List the fields in which some sets of conditions differ; all have the same fields."""
    fields = next(iter(conditions), {})
    return [field for field in fields if len({one[field] for one in conditions}) > 1]


def make_remarks(
    names: Sequence[Hashable], conditions: Sequence[Mapping[str, Any]], write: Callable[[str, Any], str]
) -> list[str]:
    """Write for each name what distinguishes it from others of the same name; nothing where it stands alone.

    Args:
        names: the names.
        conditions: of each name, by field.
        write: returns a field and its value as text.
    """
    twins = group(zip(names, conditions, strict=True), lambda pair: pair[0])
    fields = {name: differing([own for _, own in pairs]) for name, pairs in twins.items()}
    return [
        "; ".join(write(field, own[field]) for field in fields[name])
        for name, own in zip(names, conditions, strict=True)
    ]


def with_remark(name: str, remark: str) -> str:
    """Return the name, with the remark in parentheses if there is one."""
    return f"{name} ({remark})" if remark else name


def find_cliques(pairs: Iterable[tuple[str, str]], names: Sequence[str]) -> list[list[str]]:
    """Find the largest groups of names of which all pairs are given; a name may be in several groups.

    Args:
        pairs: pairs of names, each in one order; those with any other name are left out.
        names: the names, in the order of the result.
    """
    alike: dict[str, set[str]] = {name: set() for name in names}
    for a, b in pairs:
        if a in alike and b in alike:
            alike[a].add(b)
            alike[b].add(a)
    cliques: list[set[str]] = []

    def grow(clique: set[str], candidates: set[str], done: set[str]) -> None:
        # Bron and Kerbosch, 1973, with a pivot.
        if not candidates and not done:
            cliques.append(clique)
            return
        pivot = max(sorted(candidates | done), key=lambda name: len(alike[name] & candidates))
        for name in sorted(candidates - alike[pivot]):
            grow(clique | {name}, candidates & alike[name], done & alike[name])
            candidates = candidates - {name}
            done = done | {name}

    grow(set(), set(names), set())
    order = {name: number for number, name in enumerate(names)}
    groups = [sorted(clique, key=order.__getitem__) for clique in cliques if len(clique) > 1]
    return sorted(groups, key=lambda some: [order[name] for name in some])

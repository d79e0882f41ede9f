"""Pieces of text that tables and messages share."""

from __future__ import annotations

from collections.abc import Collection


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: ``1 song``, ``2 songs``."""
    return f"{number} {noun}{'s' * (number != 1)}"


def range_text(counts: Collection[int]) -> str:
    """Write the smallest and the largest count, or the only one: ``3``, ``1 to 3``."""
    return " to ".join(str(count) for count in dict.fromkeys((min(counts), max(counts))))


def numbered(name: str, number: int) -> str:
    """Name one of several things of the same name, from 1: ``name``, ``name-2``, ``name-3``."""
    return name if number == 1 else f"{name}-{number}"


def three_digits(value: float | None) -> str:
    """Write three significant digits; ``-`` for none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"

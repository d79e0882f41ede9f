"""Arithmetic of sizes that PyTorch's exporter follows: while it traces a network, the sizes of arrays are tensors."""

from typing import Any


def at_least(size: Any, least: int) -> Any:
    """Return the larger one."""
    return max(size, least) if isinstance(size, int) else size.clamp(min=least)


def at_most(size: Any, most: int) -> Any:
    """Return the smaller one."""
    return min(size, most) if isinstance(size, int) else size.clamp(max=most)


def missing_to_multiple(size: Any, factor: int) -> Any:
    """Return what completes a size to a multiple of ``factor``."""
    return (size + factor - 1) // factor * factor - size  # not -size % factor: exported graphs divide only what is >= 0

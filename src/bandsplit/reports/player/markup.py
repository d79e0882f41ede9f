"""Templates and files of pages with the player."""

from __future__ import annotations

import re
from importlib.resources import files

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

ASSETS = ("common.css", "player.js")
"""Files that a page with the player loads."""


def read_asset(name: str, package: str = "bandsplit.reports.player") -> str:
    """Return a file of the folder ``static`` of a package."""
    return (files(package) / "static" / name).read_text(encoding="utf-8")


def templates(package: str) -> Environment:
    """Return the templates of a package, which may import ``player.html``; values are shown as text, never as HTML."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("bandsplit.reports.player")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(clock=_clock, minus=with_minus)
    return environment


def with_minus(text: str) -> str:
    """Write the sign of negative numbers as wide as a digit."""
    return re.sub(r"(?<![\w.])-(?=\d|inf)", "\N{MINUS SIGN}", text)


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"

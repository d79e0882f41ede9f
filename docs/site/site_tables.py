"""Cells of the tables in written pages."""

from __future__ import annotations

import re


def cell(text: str) -> str:
    """Return Markdown that stays in one cell: in code Python-Markdown keeps a bar, and would show a backslash too."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.replace("|", "\\|") for part in parts)

"""Links between the pages of the site, from the links of the files that they are made of."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = {
    "benchmarks.md": "benchmarks/README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md",
}  # fmt: skip
"""Pages of the site -> files outside docs/, by their places in the project."""


def in_the_site(text: str, place: str) -> str:
    """Return Markdown of a file at ``place`` in the project with links between the pages of the site."""
    pages = {file: page for page, file in ELSEWHERE.items()} | {"README.md": "index.md"}

    def lead(match: re.Match[str]) -> str:
        link, anchor = match["link"], match["anchor"] or ""
        target = (ROOT / place / link if place.endswith("/") else (ROOT / place).parent / link).resolve()
        if not target.is_relative_to(ROOT):
            return match[0]
        inside = target.relative_to(ROOT).as_posix()
        if inside in pages:
            return f"]({pages[inside]}{anchor})"
        return f"]({inside.removeprefix('docs/')}{anchor})" if inside.startswith("docs/") else match[0]

    return re.sub(r"\]\((?!https?:|#|mailto:)(?P<link>[^)#\s]+)(?P<anchor>#[^)]*)?\)", lead, text)

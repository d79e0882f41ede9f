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
    """Return Markdown of a file at ``place`` in the project with links between the pages of the site.

    Raises:
        ValueError: if a link leads to a file that the site does not have.
    """
    pages = {file: page for page, file in ELSEWHERE.items()} | {"README.md": "index.md"}

    def lead(match: re.Match[str]) -> str:
        link, anchor = match["link"], match["anchor"] or ""
        target = (ROOT / place / link if place.endswith("/") else (ROOT / place).parent / link).resolve()
        inside = target.relative_to(ROOT).as_posix() if target.is_relative_to(ROOT) else ""
        if inside in pages:
            return f"]({pages[inside]}{anchor})"
        if not inside.startswith("docs/"):
            raise ValueError(f"{place}: {link} is not in the site: write it as code, or add it to ELSEWHERE")
        return f"]({inside.removeprefix('docs/')}{anchor})"

    return re.sub(r"\]\((?!https?:|#|mailto:)(?P<link>[^)#\s]+)(?P<anchor>#[^)]*)?\)", lead, text)

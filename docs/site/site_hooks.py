"""What the site adds to the pages of docs/: pages written from the code, and pages of other folders."""

from __future__ import annotations

import re
from pathlib import Path

from commands_page import commands_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from models_page import models_page
from python_page import python_page
from settings_page import settings_page

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = {
    "settings.md": settings_page, "commands.md": commands_page, "python.md": python_page, "registered.md": models_page,
}  # fmt: skip
ELSEWHERE = {
    "benchmarks.md": "benchmarks/README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md",
}  # fmt: skip
"""Pages of the site -> files outside docs/, by their places in the project."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for name, write in WRITTEN.items():
        files.append(File.generated(config, name, content=write()))
    for name, place in ELSEWHERE.items():
        text = (ROOT / place).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=in_the_site(text, place)))
    return files


def on_page_markdown(markdown: str, page: object, config: MkDocsConfig, files: Files) -> str:
    """Let links to files outside docs/ lead to their pages in the site."""
    return in_the_site(markdown, "docs/")


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

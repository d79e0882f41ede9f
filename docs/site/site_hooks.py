"""What the site adds to the pages of docs/: pages written from the code, and pages of other folders."""

from __future__ import annotations

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from commands_page import commands_page
from models_page import models_page
from python_page import python_page
from settings_page import settings_page
from site_links import ELSEWHERE, ROOT, in_the_site

WRITTEN = {
    "settings.md": settings_page, "commands.md": commands_page, "python.md": python_page, "registered.md": models_page,
}  # fmt: skip


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for name, write in WRITTEN.items():
        files.append(File.generated(config, name, content=write()))
    for name, place in ELSEWHERE.items():
        text = (ROOT / place).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=in_the_site(text, place)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files outside docs/ lead to their pages in the site; the first page is not part of a list."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]
    return in_the_site(markdown, f"docs/{page.file.src_uri}")

"""The site of docs/, built as `make docs` builds it: every link leads somewhere, and no Markdown shows."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from places import ROOT

SKIPPED = {"404.html"}
"""Its addresses begin at the root of a server."""


class Read(HTMLParser):
    """What a page leads to, the anchors in it, and its text outside examples."""

    def __init__(self, path: Path) -> None:
        """Read a file."""
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.words: list[str] = []
        self._examples = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src"):
                self.links.append(value or "")
            elif name in ("id", "name"):
                self.anchors.add(value or "")
        self._examples += tag in ("pre", "script")

    def handle_endtag(self, tag: str) -> None:
        self._examples -= tag in ("pre", "script")

    def handle_data(self, data: str) -> None:
        if not self._examples:
            self.words.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Read]:
    """The built pages."""
    pytest.importorskip("material", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return {path: Read(path) for path in folder.rglob("*.html") if path.name not in SKIPPED}


def test_every_link_and_picture_of_the_site_is_there(site: dict[Path, Read]):
    broken, followed = [], 0
    for path, page in site.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            followed += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchors = site[target].anchors if target in site else None
            if not target.is_file() or (parts.fragment and anchors is not None and parts.fragment not in anchors):
                broken.append((path.name, link))
    assert broken == [] and followed > 1000


def test_no_page_shows_a_backslash_before_a_bar(site: dict[Path, Read]):
    shown = [(path.name, words) for path, page in site.items() for words in page.words if "\\|" in words]
    assert shown == []


def test_choices_and_layouts_are_shown_with_their_bars_and_braces(site: dict[Path, Read]):
    pages = {path.name: page.words for path, page in site.items()}
    assert "--runtime <auto|torch|onnx|native>" in pages["commands.html"]
    assert "ROOT/{train,valid,test}/<song>/{mixture,vocals,...}.wav" in pages["data.html"]


def test_the_page_of_every_command_leads_to_the_pages_that_are_written_from_the_code(site: dict[Path, Read]):
    (tour,) = (page for path, page in site.items() if path.name == "tour.html")
    assert "index.html#reference" in tour.links

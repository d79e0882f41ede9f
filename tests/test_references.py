"""What code and pages refer to is there: the places of `Source:` lines, headings, files, tests."""

import re

import pytest

from places import ROOT
from prose import prose

SECTIONS_OF_THE_PAPER = {
    "I", "II", "II-A", "II-B", "II-C", "III", "III-A", "III-B", "III-B1", "III-B2", "III-B3", "III-B4", "IV", "IV-A",
    "IV-B", "IV-C", "IV-D", "IV-D1", "IV-D2", "IV-D3", "IV-E", "IV-F", "V", "V-A", "V-B", "V-B1", "V-B2", "V-B3",
    "V-B4", "V-C", "V-D", "VI", "VII",
}  # fmt: skip
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks" / "README.md"])
WORKS = re.findall(
    r"^\| ([^|]+?) \| ",
    (ROOT / "docs" / "numerics.md").read_text(encoding="utf-8").split("## Sources")[1].split("\n## ")[0],
    re.MULTILINE,
)[1:]
PLACE = r"(?:section [IVX]+(?:-[A-Z]\d?)?|chapter \d+|equation \(\d\)|Table [IVX]+|Fig\. \d)"
REFERENCE = rf"(?:docs/[\w-]+\.md#[\w-]+|(?:{'|'.join(map(re.escape, WORKS))})(?:, {PLACE})?)"
SOURCE = re.compile(rf"Source: ({REFERENCE}(?:; {REFERENCE})*)\.(?:$| )")


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def complaints(text: str) -> list[str]:
    """List the references in a text that lead nowhere."""
    found = [f"{text[at : at + 80]!r} has a form that docs/numerics.md#sources does not know" for at in _unread(text)]
    for page, anchor in re.findall(r"(docs/[\w-]+\.md)(?:#([\w-]+))?", text):
        if not (ROOT / page).exists():
            found.append(f"{page} does not exist")
        elif anchor and anchor not in anchors((ROOT / page).read_text(encoding="utf-8")):
            found.append(f"{page} has no heading #{anchor}")
    for section in re.findall(r"(?<!BSRNN )paper(?:'s)?,? section ([IVX]+[-\w]*)", text):
        if section not in SECTIONS_OF_THE_PAPER:
            found.append(f"the paper has no section {section}")
    return found + [f"{test} does not exist" for test in _tests(text) if not (ROOT / test).exists()]


def _unread(text: str) -> list[int]:
    return [match.start() for match in re.finditer(r"\bSource:", text) if not SOURCE.match(text, match.start())]


def _tests(text: str) -> list[str]:
    return re.findall(r"\btests/[\w/]+\.py", text)


def test_every_reference_in_the_code_leads_somewhere():
    sources = 0
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for text in prose(path.read_text(encoding="utf-8")):
            sources += text.count("Source: ")
            found += [f"{path.relative_to(ROOT)}: {complaint}" for complaint in complaints(text)]
    assert not found, "\n" + "\n".join(found)
    assert sources > 20


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_and_test_of_a_page_leads_somewhere(path):
    page = path.read_text(encoding="utf-8")
    found = [test for test in _tests(page) if not (ROOT / test).exists()]
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", page):
        there = path.parent / link if link else path
        if not there.exists() or (anchor and anchor not in anchors(there.read_text(encoding="utf-8"))):
            found.append(f"{link}#{anchor}")
    assert found == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('Source: NUMERICS "Loss".', "has a form that docs/numerics.md#sources does not know"),
        ("Source: paper, page 3.", "has a form"),
        ("Source: docs/numerics.md#loss; another paper.", "has a form"),
        ("Source: docs/numerics.md#losses.", "docs/numerics.md has no heading #losses"),
        ("Source: docs/number.md#loss.", "docs/number.md does not exist"),
        ("Source: paper, section IX-A.", "the paper has no section IX-A"),
        ("as in the paper, section III-C", "the paper has no section III-C"),
        ("`tests/models/test_nothing.py` holds the loop", "tests/models/test_nothing.py does not exist"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(text: str, complaint: str):
    (found,) = complaints(text)
    assert complaint in found


def test_references_that_lead_somewhere_are_fine():
    assert complaints("Source: docs/numerics.md#loss; paper, equation (1); BSRNN paper, section IV-A. Both.") == []
    assert complaints("Source: museval; paper, Fig. 2; bootstrap book, chapter 13.") == []

"""The English of docs/style.md: words that it replaces, counted in code and pages."""

import ast
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from places import PACKAGE, ROOT
from prose import prose

STYLE = ROOT / "docs" / "style.md"
GENERATED = ROOT / "docs" / "paper-tables.md"
PAGES = sorted({ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")} - {STYLE, GENERATED})
QUESTION = "What, How, Which, Whether"
IN_CODE = {"whole": 4, "tell": 2}
"""What is left in the package: texts that rows, runs and energy cards of earlier versions hold too."""


def words() -> list[str]:
    """Return the counted words, as the page lists them."""
    (table,) = re.findall(r"### Counted words\n(.*?)\n### ", STYLE.read_text(encoding="utf-8"), re.DOTALL)
    rows = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row)]


def count(texts: Iterable[str]) -> Counter[str]:
    """Count the words in texts; `is none` is not Python's `is None`."""
    found: Counter[str] = Counter()
    patterns = {word: re.compile(rf"\b{word}\b", 0 if "none" in word else re.IGNORECASE) for word in words()}
    for text in texts:
        for word, pattern in patterns.items():
            found[word] += len(pattern.findall(text))
    return found


def count_in_code(path: Path) -> Counter[str]:
    code = path.read_text(encoding="utf-8")
    found = count(prose(code))
    found[QUESTION] += bool(re.match(rf"({QUESTION.replace(', ', '|')})\b", ast.get_docstring(ast.parse(code)) or ""))
    return found


def above(found: Counter[str], bounds: dict[str, int]) -> list[str]:
    return [f"{word}: {n}, at most {bounds.get(word, 0)}" for word, n in found.items() if n > bounds.get(word, 0)]


def test_the_package_is_in_plain_english():
    found = sum((count_in_code(path) for path in PACKAGE.rglob("*.py")), Counter())
    assert above(found, IN_CODE) == [], "docs/style.md says what to write instead"


def test_the_pages_are_in_plain_english():
    found = count(" ".join(path.read_text(encoding="utf-8").split()) for path in PAGES)
    assert +found == Counter(), "docs/style.md says what to write instead"


def test_bounds_are_of_counted_words():
    assert IN_CODE.keys() <= {*words()}
    assert len(words()) > 10


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def told(heard): return heard  # a name is no prose", {}),
        ('"""How far it is, told."""', {"told": 1, "how far": 1}),
        ("# it goes\nx = 1  # It goes on", {"goes on": 1}),
        ("raise ValueError(f'{told!r} is none; it is None')", {"is none": 1}),
        ("'''A\n    whole\n    song, in\n    print'''", {"whole": 1, "in print": 1}),
    ],
)
def test_words_are_counted_in_prose_alone(code: str, expected: dict[str, int]):
    assert +count(prose(code)) == expected

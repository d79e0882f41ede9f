"""Draw the badges beside this file: ``.venv/bin/python docs/images/badges/draw_badges.py``.

They are files of this project, so that a page with them asks no other server.
"""

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{what}: {value}">
<title>{what}: {value}</title>
<rect width="{width}" height="20" rx="3" fill="#444"/>
<path d="M{left} 0h{bar}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{bar}z" fill="#0a6ebd"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">
<text x="{at}" y="14">{what}</text>
<text x="{beyond}" y="14">{value}</text>
</g>
</svg>
"""


def badges() -> dict[str, str]:
    """Return the badges by file name, with the facts of pyproject.toml."""
    project = (HERE.parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    versions = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    (licence,) = re.findall(r'^license = "(.*)"$', project, re.MULTILINE)
    facts = {"python": f"{versions[0]} to {versions[-1]}", "licence": licence}
    return {f"{what}.svg": draw(what, value) for what, value in facts.items()}


def draw(what: str, value: str) -> str:
    """Draw a badge; seven pixels for a letter, and a margin."""
    left, right = (7 * len(text) + 12 for text in (what, value))
    return SVG.format(
        width=left + right, left=left, bar=right - 3, at=left / 2, beyond=left + right / 2, what=what, value=value
    )


if __name__ == "__main__":
    for name, text in badges().items():
        (HERE / name).write_text(text, encoding="utf-8")

"""Commands that pages show, with what each needs that is not here.

A block of commands is fenced (``sh`` or ``bash``) or indented with a line that begins with ``bandsplit``. The comment
``<!-- needs: ... -->`` before it says what a test of its commands lacks: such commands are parsed, but not run.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"^```(\w*)")
_NEEDS = re.compile(r"^<!-- needs: ([^>]+) -->$")
_PROGRAM = re.compile(r"^(?:[A-Z_]+=\S+ )?(?:\.venv/bin/)?bandsplit(?= )")
_INDENT = " " * 4


class Shown(NamedTuple):
    """A command line of a page."""

    page: str
    line: int
    text: str
    needs: str | None
    """What it needs and a test does not have; None if a test runs it."""

    @property
    def is_ours(self) -> bool:
        """Whether it is a command of this project."""
        return bool(_PROGRAM.match(self.text))

    @property
    def arguments(self) -> list[str]:
        """The arguments after the name of the program, as a shell splits them."""
        return shlex.split(_PROGRAM.sub("", self.text), comments=True)


def shown_commands(path: Path) -> list[Shown]:
    """List the commands of a page in their order."""
    return [
        Shown(path.name, number, text, needs)
        for needs, lines in _blocks(path.read_text(encoding="utf-8").splitlines())
        for number, text in _joined(lines)
    ]


def _blocks(lines: list[str]) -> Iterator[tuple[str | None, list[tuple[int, str]]]]:
    """Yield what a block needs, and its numbered lines."""
    needs: str | None = None
    number = 0
    while number < len(lines):
        line = lines[number]
        if fence := _FENCE.match(line):
            end = next(place for place in range(number + 1, len(lines)) if lines[place].startswith("```"))
            if fence[1] in ("sh", "bash"):
                yield needs, [(place + 1, lines[place]) for place in range(number + 1, end)]
            needs, number = None, end + 1
        elif line.startswith(_INDENT):
            end = next((at for at in range(number, len(lines)) if not lines[at].startswith(_INDENT)), len(lines))
            block = [(place + 1, lines[place].removeprefix(_INDENT)) for place in range(number, end)]
            if any(_PROGRAM.match(text) for _, text in block):
                yield needs, block
            needs, number = None, end
        else:
            if marked := _NEEDS.match(line):
                needs = marked[1]
            elif line.strip():
                needs = None
            number += 1


def _joined(lines: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield commands, those that continue after a backslash as one; without comments and blank lines."""
    start, text = 0, ""
    for number, line in lines:
        start = start if text else number
        text += line.strip()
        if text.endswith("\\"):
            text = text[:-1]
            continue
        if text and not text.startswith("#"):
            yield start, text
        text = ""

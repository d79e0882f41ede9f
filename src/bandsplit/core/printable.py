"""Text from elsewhere (names of files, cards, configurations) made fit to be printed."""

from __future__ import annotations

import re

# Control characters (ESC and line breaks are among them), separators of lines, and signs that turn the order of text
# around: printed as they are, they command a terminal or forge what another line seems to say.
_COMMANDS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    r"""Return a text as one line without commands to a terminal: they are written as in Python, ESC as ``\x1b``.

    What is no text in a file's name becomes question marks.
    """
    text = str(text).encode("utf-8", "replace").decode("utf-8")
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def printable_lines(text: str) -> str:
    """Return a text of several lines without other commands to a terminal."""
    return "\n".join(map(printable, text.split("\n")))

"""Text from other sources (file names, cards, configurations) made safe to print."""

from __future__ import annotations

import re

# Control characters (including ESC and line breaks), line separators, and characters that change the direction of
# text: printed unescaped, they control a terminal or forge other lines.
_COMMANDS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    r"""Return a text as one line with control characters escaped as in Python, ESC as ``\x1b``.

    Bytes of a file name that are not valid text become question marks.
    """
    text = str(text).encode("utf-8", "replace").decode("utf-8")
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def printable_lines(text: str) -> str:
    """Return a text with all control characters except line breaks escaped."""
    return "\n".join(map(printable, text.split("\n")))

"""Rows of a journal that a model of pydantic describes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from bandsplit.core.errors import BandsplitError
from bandsplit.core.files import Journal

Row = TypeVar("Row")


def first_problem(error: ValidationError) -> str:
    """Describe the first fault of a file or a line, and its place."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else problem["msg"]


def read_rows(path: Path, parse: Callable[[str], Row], kind: str, fix: str) -> tuple[list[Row], str]:
    """Read a journal whose lines are all of one kind.

    Args:
        path: the file.
        parse: makes a row of the text of a line.
        kind: noun for a row, such as "score".
        fix: what a user does after deleting a line that is not a row.

    Returns:
        The rows, and `Content.damage`: a line about incomplete rows, whose writer was stopped, that were left out.

    Raises:
        OSError: the file is missing or cannot be read.
        BandsplitError: a line is neither a row nor the beginning of one.
    """
    content, rows = Journal(path).read(), []
    for line in sorted(content.lines + content.foreign):
        try:
            rows.append(parse(line.text))
        except ValidationError as error:
            raise BandsplitError(
                f"{path}, line {line.number}: not a {kind} ({first_problem(error)}); delete the line and {fix}"
            ) from None
    return rows, content.damage

"""The prose of Python code: its strings and comments, each on one line."""

import ast
import io
import tokenize
from collections.abc import Iterator


def prose(code: str) -> Iterator[str]:
    """Yield docstrings, other strings, the text in f-strings, and comments; names and numbers are no prose."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield " ".join(node.value.split())
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            yield token.string.lstrip("# ")

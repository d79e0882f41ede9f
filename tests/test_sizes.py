"""The sizes of the package's functions and files, which a reader can take in at once."""

import ast

from places import PACKAGE

LINES_OF_A_FUNCTION = 60
LINES_OF_A_FILE = 400


def test_no_function_and_no_file_is_longer_than_a_reader_can_take_in():
    long: list[str] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if source.count("\n") > LINES_OF_A_FILE:
            long.append(f"{path.relative_to(PACKAGE)}: {source.count(chr(10))} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > LINES_OF_A_FUNCTION:
                    long.append(f"{path.relative_to(PACKAGE)}: {node.name} has {lines} lines")
    assert long == []

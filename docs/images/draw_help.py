"""Draw the help of the command line beside this file: ``.venv/bin/python docs/images/draw_help.py``."""

import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

HERE = Path(__file__).resolve().parent
COLUMNS = 100
PICTURES = {"help.svg": [], "help-separate.svg": ["separate"]}
"""File -> arguments before ``--help``."""


def draw(arguments: list[str]) -> str:
    """Return the help of a command, as a picture."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "PYTHONPATH")}
    width = {"COLUMNS": str(COLUMNS), "TERMINAL_WIDTH": str(COLUMNS)}
    terminal = width | {"FORCE_COLOR": "1", "TERM": "xterm", "PYTHONUTF8": "1"}
    run = [sys.executable, "-c", "import sys; sys.argv[0] = 'bandsplit'; from bandsplit.cli.main import main; main()"]
    command = [*run, *arguments, "--help"]
    printed = subprocess.run(command, env=kept | terminal, capture_output=True, encoding="utf-8", check=True)
    lines = [Text.from_ansi(line) for line in printed.stdout.strip("\n").splitlines()]
    for line in lines:
        line.rstrip()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor",
                          _environ={})  # fmt: skip
        console.print(Text("\n").join(lines))
    return console.export_svg(title=" ".join(["bandsplit", *arguments, "--help"]), theme=MONOKAI)


if __name__ == "__main__":
    for name, arguments in PICTURES.items():
        (HERE / name).write_text(draw(arguments), encoding="utf-8")

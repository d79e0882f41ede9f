"""Draw the help of the command line beside this file: ``.venv/bin/python docs/images/draw_help.py``."""

import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS = 100

for name, arguments in (("help", []), ("help-separate", ["separate"])):
    environment = os.environ | {"COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "TERMINAL_WIDTH": str(COLUMNS)}
    run = [sys.executable, "-c", "import sys; sys.argv[0] = 'bandsplit'; from bandsplit.cli.main import main; main()"]
    told = subprocess.run([*run, *arguments, "--help"], env=environment, capture_output=True, text=True, check=True)
    lines = [Text.from_ansi(line) for line in told.stdout.strip("\n").splitlines()]
    for line in lines:
        line.rstrip()
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text("\n").join(lines))
    title = " ".join(["bandsplit", *arguments, "--help"])
    console.save_svg(str(Path(__file__).parent / f"{name}.svg"), title=title, theme=MONOKAI)

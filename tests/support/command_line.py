"""The command line, run in this process."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from bandsplit.cli import main as cli


class Ended(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


def run_training(
    capsys: pytest.CaptureFixture[str], command: str, recipe: str, changes: Sequence[str], *options: str | Path
) -> tuple[int, str]:
    """Run ``train`` or ``plan`` of a changed recipe for vocals; return exit code and all output, unwrapped."""
    settings = [part for change in changes for part in ("--set", change)]
    ended = run_command(capsys, command, recipe, "-t", "vocals", "--device", "cpu", "--no-energy", *settings, *options)
    return ended.code, " ".join((ended.out + ended.err).split())


def run_command(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Ended:
    """Run ``bandsplit`` with these arguments."""
    argv, sys.argv = sys.argv, ["bandsplit", *map(str, arguments)]
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = argv
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return Ended(code, captured.out, captured.err)

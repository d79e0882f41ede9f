"""Completion in a shell: what the shell asks, in a process of its own, and the answer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from places import ROOT

RUN = "import sys; sys.argv[0] = 'bandsplit'; from bandsplit.cli.main import main; main()"


def ask(folder: Path, *arguments: str, **settings: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT / "src"),
                   "BANDSPLIT_CACHE": str(folder)}  # fmt: skip
    command = [sys.executable, "-c", RUN, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment | settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("bandsplit mod", {"models"}),
        ("bandsplit models rem", {"remove"}),
        ("bandsplit models fetch htd", {"htdemucs", "htdemucs_ft", "htdemucs_6s"}),
        ("bandsplit separate --devi", {"--device"}),
        ("bandsplit separate -n bsrnn-o", {"bsrnn-opt"}),
    ],
)
def test_bash_completes_commands_options_and_models(tmp_path: Path, line: str, answer: set[str]):
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1), "_BANDSPLIT_COMPLETE": "complete_bash"}
    assert {word.strip() for word in ask(tmp_path, **words).split("\n") if word.strip()} == answer


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed_to_be_installed(tmp_path: Path, shell: str):
    script = ask(tmp_path, _BANDSPLIT_COMPLETE=f"source_{shell}")
    assert "_BANDSPLIT_COMPLETE" in script and "bandsplit" in script

"""What does not load torch: looked at in one process, since this one may have loaded it long ago."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bandsplit.core.extras import requirements
from environments import needed_by
from places import ROOT
from run_folders import write_run

COMMAND = """
from bandsplit.cli import main as cli
sys.argv = ["bandsplit", *{!r}.split()]
try: cli.main()
except SystemExit as end: assert not end.code, end.code
else: raise AssertionError("a command ends with an exit code")
"""
STATEMENTS = {
    "the package": "import bandsplit\nassert 'numpy' not in sys.modules",
    "the registry of models": "from bandsplit.models.pretrained.registry import entries\nassert entries()",
    "what surrounds ONNX graphs": "from bandsplit.models.families import FAMILIES, find_part\n"
    "for name in FAMILIES: find_part(name, 'onnx')()",
    "tables and figures": "import bandsplit.studies.tables.validation, bandsplit.studies.figures",
    **{
        line: COMMAND.format(line)
        for line in ("--help", "study list", "study plan paper", "study status paper", "runs runs")
    },
}
SCRIPT = """
import contextlib, io, json, sys

loaded = {}
for name, statement in json.loads(sys.argv[1]).items():
    with contextlib.redirect_stdout(io.StringIO()):
        exec(statement, {"sys": sys})
    loaded[name] = "torch" in sys.modules
print(json.dumps(loaded))
"""


def test_reading_listing_and_tables_do_not_load_torch(tmp_path: Path):
    write_run(tmp_path / "runs", [1.0])
    command = [sys.executable, "-W", "error", "-c", SCRIPT, json.dumps(STATEMENTS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert loaded == dict.fromkeys(STATEMENTS, False), "the first that is true loads it; after it, all are"


@pytest.mark.parametrize("page", ["onnx.md", "kernels.md"])
def test_the_smallest_set_of_packages_is_complete(page: str):
    lines = (ROOT / "docs" / page).read_text().splitlines()
    (given,) = [line.split()[2:] for line in lines if line.endswith("soundfile soxr typer")]
    found = {name for package in given if package != "onnxruntime" for name in needed_by(package)}
    assert {name for name, _, _ in requirements()} - found == {"torch"}

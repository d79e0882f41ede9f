"""What names and texts from elsewhere may do to a terminal, a table and a spreadsheet: nothing."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.text import Text

from bandsplit.cli.model_tables import models_table
from bandsplit.cli.terminal import make_console, print_lines
from bandsplit.core.errors import ConfigError, DataError
from bandsplit.core.printable import printable
from bandsplit.core.screen import PlainConsole, PlainTable
from bandsplit.core.table import TextTable
from bandsplit.evaluation.results import Score
from bandsplit.evaluation.tables import score_tables
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.pretrained.registry import entries
from command_line import run_command
from places import PACKAGE
from run_folders import write_run
from tiny_models import write_tiny_model

ESCAPES = "\x1b]0;title\x07\x1b[2J\x9b1A\r\u202e\u2028"
HOSTILE = f"net{ESCAPES}\nlicence: forged"
COMMANDS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def check_printed(text: str) -> None:
    """Make sure that no command is left in what was printed, and no line is forged."""
    assert not COMMANDS.search(text), repr(text)
    assert not any(line.strip().startswith(("licence: forged", "failed: forged")) for line in text.split("\n")), text
    assert r"\x1b]0;title\x07" in re.sub(r"\s", "", text)


def test_commands_to_a_terminal_are_written_out_and_other_text_is_left_as_it_is():
    assert printable("a\x1b[31m\n\r\t\x07\x7f\x9b\u2028\u2029\u202e\u2066z") == (
        r"a\x1b[31m\n\r\t\x07\x7f\x9b\u2028\u2029\u202e\u2066z"
    )
    assert printable("Björk – 東京 [red] \\ ✓ \U0001f469\u200d\U0001f3a4") == (
        "Björk – 東京 [red] \\ ✓ \U0001f469\u200d\U0001f3a4"
    )
    assert printable("bad\udcff") == "bad?"


def test_nothing_is_printed_but_through_the_functions_that_write_commands_out():
    others = {
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in PACKAGE.rglob("*.py")
        for line in path.read_text(encoding="utf-8").split("\n")
        if re.search(r"typer\.(echo|secho)|(?<![\w.])print\(|(?<!\w)Console\(|(?<![\w.])Table\(", line)
        if path.name not in ("terminal.py", "screen.py")
    }
    assert not others


def test_a_console_writes_commands_out_wherever_they_are_and_keeps_its_own_styles():
    file = io.StringIO()
    console = PlainConsole(file=file, force_terminal=True, color_system="standard", width=200)
    table = PlainTable("heading\x1b[1m", title=f"title{ESCAPES}")
    table.add_row(HOSTILE)
    table.add_row(["two", "lines"])
    for text in (f"plain{ESCAPES}", Text(f"text{ESCAPES}", "red"), table):
        console.print(text)
    without_styles = re.sub(r"\x1b\[[\d;]*m", "", file.getvalue())
    check_printed(without_styles)
    assert without_styles != file.getvalue()
    assert "heading\\x1b[1m" in without_styles
    assert len([line for line in without_styles.split("\n") if "two" in line or "lines" in line]) == 2


def test_each_line_that_is_told_stays_one_line(capsys: pytest.CaptureFixture[str]):
    print_lines(make_console(), HOSTILE, "second")
    err = capsys.readouterr().err
    check_printed(err)
    assert err.count("\n") == 2


def test_the_card_of_a_model_forges_no_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    card = {"licence": f"MIT\nlicence: forged\r{ESCAPES}", "training_data": HOSTILE}
    path = write_tiny_model(tmp_path / "m.safetensors", "vocals", card=card)
    ended = run_command(capsys, "models", "show", path)
    assert ended.code == 0
    check_printed(ended.out)
    assert len(re.findall("^licence", ended.out, re.MULTILINE)) == 1
    ended = run_command(capsys, "models", "show", "--json", path)
    assert json.loads(ended.out)[0]["card"]["training_data"] == HOSTILE


def test_the_list_of_models_forges_no_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "300")
    entry = entries()[0].model_copy(update={"name": HOSTILE, "aliases": (HOSTILE,)})
    make_console(err=False).print(models_table([entry]))
    check_printed(capsys.readouterr().out)


def test_names_of_songs_forge_no_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    escapes = ESCAPES.replace("/", "")
    good, bad = f"good{escapes}\nfailed: forged.wav", f"bad{escapes}\nfailed: forged.wav"
    soundfile.write(good, np.full((4000, 2), 0.1), 8000, subtype="FLOAT", format="WAV")
    Path(bad).write_bytes(b"no sound")
    model = write_tiny_model(tmp_path / "m.safetensors", "vocals")
    for options in ((), ("--plan",), ("--dry-run", "--force"), ()):
        ended = run_command(capsys, "separate", good, bad, "-n", model, "-o", "stems", *options)
        assert ended.code == 1
        check_printed(ended.out + ended.err)
        assert len(re.findall("^failed", ended.err, re.MULTILINE)) == 1
    ended = run_command(capsys, "separate", good, "-n", model, "-o", "stems", "--force", "--json")
    assert json.loads(ended.out)["input"] == good


def test_the_list_of_runs_forges_no_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "300")
    folder = write_run(tmp_path, [1.0], changes={"training.max_epochs": HOSTILE})
    config = json.loads((folder / "config.json").read_text())
    config["run"]["recipe"] = HOSTILE
    (folder / "config.json").write_text(json.dumps(config))
    ended = run_command(capsys, "runs", tmp_path)
    check_printed(ended.out)
    folder.joinpath("config.json").write_text(json.dumps(config | {"run": {"recipe": HOSTILE, "seed": HOSTILE}}))
    ended = run_command(capsys, "runs", tmp_path)
    assert ended.code == 1
    assert not COMMANDS.search(ended.out + ended.err)


def test_an_error_has_the_lines_that_it_was_given_and_no_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ended = run_command(capsys, "models", "show", tmp_path / f"{HOSTILE}.onnx")
    assert ended.code == 1
    check_printed(ended.err)
    assert ended.err.count("\n") == 1
    error = DataError("first", "second")
    assert (str(error), f"{error}") == ("first\nsecond", "first; second")
    with pytest.raises(ConfigError) as caught:
        BsrnnConfig.parse({"targets": [HOSTILE], "bands": [(1, HOSTILE)], "n_features": "x\ny"})
    assert len(caught.value.args) == 2


def test_warnings_about_a_song_forge_no_line():
    # In a process of its own: pytest puts handlers of its own in place of the one that prints.
    script = (
        "import logging, sys; from bandsplit.cli import main as cli; sys.argv = ['bandsplit', '--version']\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        f"logging.getLogger('bandsplit').warning('%s: is clipped', {HOSTILE!r})"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    check_printed(ended.stderr)
    assert ended.stderr.endswith("forged: is clipped\n")


def score(system: str, value: float = -1.5) -> Score:
    return Score(
        system=system, data=HOSTILE, fingerprint="abc", split="test", track="a", target="vocals", metric="usdr_db",
        value=value, mixture="sum", inference="whole", scored_with=("vocals",), seed=None, version="1",
    )  # fmt: skip


def test_tables_of_scores_keep_one_line_a_row_in_every_format():
    (table,) = score_tables([score(HOSTILE), score("a|b & c")])
    file = io.StringIO()
    PlainConsole(file=file, width=400).print(table.screen())
    for text in (file.getvalue(), table.markdown(), table.csv(), table.latex().replace(r"\textbackslash{}", "\\")):
        check_printed(text)
    assert len(table.markdown().rstrip().split("\n")) == 6
    assert all(line.count("|") - line.count("\\|") == 3 for line in table.markdown().rstrip().split("\n")[2:])
    assert table.latex().count(r"\\" + "\n") == 3


def test_text_that_a_spreadsheet_would_compute_gets_an_apostrophe_and_numbers_stay_numbers():
    names = ("=1+1", "+A1", "-1+1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\t=1", "plain", "a=1", "-")
    numbers = ("-1.50", "+0.25", "-1e-05", "-1.00 ± 0.20", "-0.10 to +0.20", "-inf", "-", "-5%", "3")
    table = TextTable("caption", ("=name", "dB"), tuple(zip(names, numbers, strict=True)))
    header, *rows = csv.reader(io.StringIO(table.csv()))
    assert header == ["'=name", "dB"]
    assert [row[1] for row in rows] == list(numbers)
    assert [row[0] for row in rows] == [
        "'=1+1", "'+A1", "'-1+1", "'@SUM(A1)", "'=cmd|' /C calc'!A0", r"\t=1", "plain", "a=1", "-"
    ]  # fmt: skip
    records = ({"name": "=1+1", "dB": -1.5}, {"name": "-", "dB": None})
    assert TextTable("caption", ("x",), (), records=records).csv() == "name,dB\n'=1+1,-1.5\n-,\n"

"""What a user reads where an extra is not installed: every command, in an environment without extras."""

import json
import re
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer

from bandsplit.cli import main as cli
from bandsplit.cli.main import app
from bandsplit.core.extras import describe_missing, extras, install, requirements
from bandsplit.separation.export import export_model
from environments import Environment
from places import CHECKPOINT, ROOT
from run_folders import write_run
from songs import write_dataset
from tiny_models import write_tiny_model

# Every command with arguments that make it work, and the extra that it names instead; "" where it needs none.
CASES = [
    ("separate songs/test/*/mixture.wav -n m.safetensors", ""),
    ("separate songs/test/*/mixture.wav -n m.onnx", "onnx"),
    ("serve -n m.safetensors --port 0", "serve"),
    ("separate songs/test/*/mixture.wav -n m.safetensors --runner ray", "ray"),
    ("separate songs/test/*/mixture.wav -n m.safetensors -o s3://bucket", "remote"),
    ("evaluate m.safetensors --data songs --yardsticks -o rows.jsonl -d cpu", ""),
    ("train base -t vocals --data songs --device cpu", "train"),
    ("plan base -t vocals --data songs --device cpu", "train"),
    ("submit base -t vocals --data songs --launcher local --gpus 0", "slurm"),
    ("export m.safetensors out.onnx", "onnx"),
    ("doctor", ""),
    ("runs runs", ""),
    ("runs runs --plot curves.png", "train"),
    ("demo --folder demo", "train"),
    ("models list", ""),
    ("models show m.safetensors", ""),
    ("models bag m.safetensors -o bag.yaml", ""),
    ("models costs mini-base m.safetensors", ""),
    ("models fetch bsrnn-large --help", ""),
    ("models import weights.ckpt", ""),
    ("models fetch hf:ada/tiny", "hub"),
    ("models push m.safetensors hf:ada/tiny --yes", "hub"),
    ("models export --help", ""),
    ("models remove --help", ""),
    ("data check songs", ""),
    ("data activity songs", "train"),
    ("data download --help", ""),
    ("data pack songs packed", ""),
    ("data synth made --songs 1 --valid 1 --test 1 --minutes 0.02", "train"),
    ("bench data songs --examples 10", ""),
    ("bench train", "train"),
    ("bench separate -n m.safetensors --runtime onnx", "onnx"),
    ("energy report runs", ""),
    ("study list", ""),
    ("study plan mini", ""),
    ("study plan mini --measure --data songs", "train"),
    ("study run mini --data songs --rows mini-base --seeds 1 --targets vocals --no-evaluate", "train"),
    ("study status mini", ""),
    ("study costs mini --rows mini-base --gpu L40S", ""),
    ("study tables mini", "train"),
    ("study figures mini", "train"),
    ("study prices table1-mini --budgets 1e12flop,4e12flop", "train"),
    ("study report mini --data songs", "train"),
]
# All in one process, which loads PyTorch once.
SCRIPT = """
import contextlib, io, json, sys, traceback
from bandsplit.cli import main as cli

rows = []
for line in json.loads(sys.argv[1]):
    sys.argv, text, code = ["bandsplit", *line.split()], io.StringIO(), 0
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
    rows.append([code, text.getvalue()])
print(json.dumps(rows))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file, with an .onnx file beside it."""
    pytest.importorskip("onnxruntime")
    path = write_tiny_model(tmp_path_factory.mktemp("model") / "m.safetensors", "vocals")
    export_model(path, path.with_suffix(".onnx"))
    return path


def furnish(environment: Environment, model: Path) -> set[str]:
    """Give an environment what the commands work on; return the names in its folder."""
    folder = environment.folder
    for path in (model, model.with_suffix(".onnx")):
        shutil.copy(path, folder)
    shutil.copy(CHECKPOINT, folder / "weights.ckpt")
    write_dataset(folder / "songs")
    write_run(folder / "runs", [5.0, 6.0])
    return {path.name for path in folder.iterdir()}


def every_command(group: Any, name: str = "") -> Iterator[str]:
    for part, command in group.commands.items():
        full = f"{name} {part}".strip()
        yield from every_command(command, full) if hasattr(command, "commands") else [full]


def run_all(environment: Environment, lines: list[str]) -> list[tuple[int, str]]:
    """Run command lines and return the exit codes and all that was printed."""
    ended = environment.run("-c", SCRIPT, json.dumps(lines))
    assert ended.returncode == 0, ended.stderr
    return [(code or 0, " ".join(text.split())) for code, text in json.loads(ended.stdout.splitlines()[-1])]


def test_the_cases_hold_every_command():
    commands = set(every_command(typer.main.get_command(app)))
    known = {command for command in commands for line, _ in CASES if f"{line} ".startswith(f"{command} ")}
    assert commands - known == set(), "give each an example in CASES"


@pytest.mark.slow
def test_without_extras_every_command_works_or_names_the_extra_that_it_needs(tmp_path: Path, model: Path):
    environment = Environment(tmp_path / "bare")
    there = furnish(environment, model)
    found = run_all(environment, [line for line, _ in CASES])
    for (line, extra), (code, text) in zip(CASES, found, strict=True):
        assert "Traceback" not in text, f"{line}: {text}"
        assert (code != 0) == bool(extra), f"{line}: {text}"
        assert not extra or f"pip install 'bandsplit[{extra}]'" in text, f"{line}: {text}"
    made = {path.name for path in environment.folder.iterdir()} - there
    assert made == {"separated", "rows.jsonl", "bag.yaml", "weights.safetensors", "packed", "study"}
    (doctor,) = (text for (line, _), (_, text) in zip(CASES, found, strict=True) if line == "doctor")
    assert "train without codecarbon, lightning-fabric, matplotlib, scipy -> if you need it:" in doctor
    assert "0 failed" in doctor
    (scored,) = (text for (line, _), (_, text) in zip(CASES, found, strict=True) if "--yardsticks" in line)
    assert "multichannel Wiener: not scored, since it needs norbert: pip install 'bandsplit[wiener]'" in scored
    (status,) = (text for (line, _), (_, text) in zip(CASES, found, strict=True) if line.startswith("study status"))
    assert "mini-base vocals seed 1: error: this needs lightning-fabric, which is not installed: pip" in status


def test_with_one_extra_an_option_that_needs_another_names_it(tmp_path: Path, model: Path):
    environment = Environment(tmp_path / "train", extras=["train"])
    furnish(environment, model)
    cases = {
        "train base -t vocals --data songs --device cpu --tensorboard": "tensorboard",
        "submit base -t vocals --data songs --launcher local --gpus 0": "slurm",
        "export m.safetensors out.onnx": "onnx",
    }
    for (line, extra), (code, text) in zip(cases.items(), run_all(environment, list(cases)), strict=True):
        assert code != 0 and f"pip install 'bandsplit[{extra}]'" in text and "Traceback" not in text, f"{line}: {text}"


def test_a_missing_module_is_told_by_the_first_extra_that_brings_it():
    message = "this needs {}, which is not installed: pip install '{}'"
    assert describe_missing("scipy.signal") == message.format("scipy", "bandsplit[train]")
    assert describe_missing("lightning_fabric") == message.format("lightning-fabric", "bandsplit[train]")
    assert describe_missing("python_stretch") == message.format("python-stretch", "bandsplit[augment]")
    assert describe_missing("soxr") == message.format("soxr", "soxr>=0.5")
    assert describe_missing("lightning_utilities") is None  # a need of a need: its own installation is broken
    assert describe_missing(None) is None


def test_every_package_of_an_extra_is_found_by_the_name_it_is_imported_by():
    owners = metadata.packages_distributions().items()
    for extra in extras():
        for name, found, _ in requirements(extra):
            modules = [module for module, packages in owners if name in map(str.lower, packages)]
            assert not (found and modules) or any(map(describe_missing, modules)), name


def test_extras_of_development_are_offered_to_nobody():
    project = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[")[0]
    named = re.findall(r"^(\w+) = \[$", project, re.MULTILINE)
    assert set(named) - set(extras()) == {"dev", "docs", "oracle"}


def test_the_kernels_come_from_their_folder_since_no_index_has_them():
    assert install("kernels") == "in the source folder, pip install ./kernels"
    assert install("av") == "pip install 'bandsplit[av]'"
    places = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    assert [path.name for path in places if "bandsplit[kernels]" in path.read_text()] == []


def test_every_extra_that_is_named_exists():
    places = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    named = {name for path in places for text in re.findall(r"bandsplit\[([\w,]+)\]'", path.read_text())
             for name in text.split(",")}  # fmt: skip
    assert named <= set(extras()), named


@pytest.mark.parametrize("name", ["lightning_utilities", None])
def test_a_module_that_bandsplit_does_not_ask_for_remains_a_traceback(
    name: str | None, monkeypatch: pytest.MonkeyPatch
):
    def fail(tell: object) -> None:
        raise ModuleNotFoundError("No module named 'x'", name=name)

    monkeypatch.setattr("bandsplit.tools.doctor.examine", fail)
    monkeypatch.setattr("sys.argv", ["bandsplit", "doctor"])
    with pytest.raises(ModuleNotFoundError):
        cli.main()

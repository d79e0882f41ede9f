"""The wheel, the container, and what a page of the project needs: complete, and true to the sources."""

import email
import os
import re
import shutil
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

import bandsplit
from bandsplit.audio import files as audio
from environments import Environment
from places import ROOT
from songs import noise
from tiny_models import write_tiny_model

DOCKERFILE = ROOT / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def copied() -> list[str]:
    """Return the files and folders of the project that the container is built from."""
    return [name for word, rest in instructions() if word == "COPY" and "--from" not in rest
            for name in rest.split()[:-1]]  # fmt: skip


# --- the wheel -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from what the container is built from, and nothing else."""
    pytest.importorskip("setuptools")
    project = tmp_path_factory.mktemp("project")
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, project)
    code = "import setuptools.build_meta as build; print(build.build_wheel('dist'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=project)
    assert done.returncode == 0, done.stderr
    return project / "dist" / done.stdout.splitlines()[-1]


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = ROOT / "src"
    there = {path.relative_to(package).as_posix() for path in (package / "bandsplit").rglob("*") if path.is_file()}
    assert packed == {name for name in there if "__pycache__" not in name}
    assert wheel.name == f"bandsplit-{bandsplit.__version__}-py3-none-any.whl"
    assert wheel.stat().st_size < 3_000_000


def test_the_metadata_of_the_wheel_are_complete(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        (folder,) = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        facts = email.message_from_bytes(archive.read(f"{folder}/METADATA"))
        commands = archive.read(f"{folder}/entry_points.txt").decode()
        licences = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    assert (facts["Name"], facts["Version"]) == ("bandsplit", bandsplit.__version__)
    assert facts["License-Expression"] == "MIT" and len(licences) == 1
    assert facts["Requires-Python"] == ">=3.10" and facts["Description-Content-Type"] == "text/markdown"
    assert facts["Summary"] and str(facts.get_payload()).startswith("# ")
    assert commands.split() == ["[console_scripts]", "bandsplit", "=", "bandsplit.__main__:main"]
    extras = set(facts.get_all("Provides-Extra") or [])
    assert {"av", "dev", "hub", "onnx", "slurm", "train"} <= extras
    for line in facts.get_all("Requires-Dist") or []:  # an exact version would be another project's conflict
        assert "==" not in line.partition(";")[0], line
        assert re.search(r"extra == ['\"]", line) or not any(f"bandsplit[{extra}]" in line for extra in extras)


def test_the_installed_wheel_separates_a_song_without_extras(wheel: Path, tmp_path: Path):
    environment = Environment(tmp_path / "clean")
    (site,) = environment.folder.glob("lib/python*/site-packages")
    for link in site.glob("bandsplit-*"):
        link.unlink()
    pip = [sys.executable, "-m", "pip", "--python", str(environment.python), "install", "-q", "--no-index", str(wheel)]
    settings = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        pip, capture_output=True, text=True, env=settings
    )  # fails if the wheel needs what is not there
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "work"
    folder.mkdir()
    write_tiny_model(folder / "m.safetensors", "bass")
    audio.write(folder / "song.wav", noise(1, 8000), 8000)
    command = [environment.python.with_name("bandsplit"), "separate", "song.wav", "-n", "m.safetensors", "-d", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=settings)
    assert done.returncode == 0, done.stderr
    assert audio.info(folder / "separated" / "song" / "bass.wav").samples == 8000
    code = "import bandsplit; print(bandsplit.__file__)"
    done = subprocess.run([environment.python, "-c", code], capture_output=True, text=True, cwd=folder, env=settings)
    assert Path(done.stdout.strip()).is_relative_to(environment.folder)


# --- the container ---------------------------------------------------------------------------------------------------


def test_the_container_is_slim_and_not_run_by_root():
    words = [word for word, _ in instructions()]
    assert set(words) <= {"ARG", "FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "ENTRYPOINT", "CMD"}
    bases = [rest for word, rest in instructions() if word == "FROM"]
    assert bases == ["python:${PYTHON}-slim AS build", "python:${PYTHON}-slim"]
    last = instructions()[len(words) - words[::-1].index("FROM") :]
    (user,) = [rest for word, rest in last if word == "USER"]
    assert user.isdigit() and f"useradd --uid {user} " in DOCKERFILE.read_text(encoding="utf-8")
    assert [rest for word, rest in last if word == "COPY"] == ["--from=build /opt/bandsplit /opt/bandsplit"]
    start = [word for word, _ in last].index("USER")
    assert all(word not in ("RUN", "COPY") for word, _ in last[start:])
    for word, rest in instructions():
        if word in ("ENTRYPOINT", "CMD", "VOLUME"):
            assert rest.startswith("[") and rest.endswith("]"), f"{word} {rest}: a shell would stand between"
        if word == "RUN":
            assert not re.search(r"\b(apt-get|sudo|curl|wget|chmod 777)\b", rest), rest
    settings = " ".join(rest for word, rest in instructions() if word == "ENV")
    assert "PIP_NO_CACHE_DIR=1" in settings and "PIP_NO_COMPILE=1" in settings and "BANDSPLIT_CACHE=/cache" in settings


def test_a_linter_finds_nothing_in_the_instructions_of_the_container():
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("hadolint has no wheel for this platform")
    command = [str(linter), "--no-color", "--failure-threshold", "info", "Dockerfile"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_container_takes_the_torch_that_is_tested_and_a_python_that_is():
    arguments = dict(rest.split("=", 1) for word, rest in instructions() if word == "ARG")
    assert arguments["TORCH_INDEX"].endswith("/cpu")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"Programming Language :: Python :: {arguments["PYTHON"]}"' in project
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in arguments["EXTRAS"].split(","))
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert len([line for line in pins if line.startswith("torch==")]) == 1  # what the Dockerfile's grep finds
    index = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert arguments["TORCH_INDEX"] in index


def test_the_container_is_sent_what_it_copies_and_no_more():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied())
    hidden = [rule.removeprefix("**/") for rule in rules[1:] if not rule.startswith("!")]
    for path in (ROOT / "src").rglob("*"):
        if any(fnmatch(part, rule) for part in path.parts for rule in hidden):
            assert "__pycache__" in path.parts or ".egg-info" in str(path)


# --- the project's pages ---------------------------------------------------------------------------------------------


def test_the_citation_names_this_version_and_is_complete():
    citation: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["version"] == bandsplit.__version__ and citation["license"] == "MIT"
    assert citation["message"] and citation["title"].startswith("bandsplit: ") and citation["authors"]
    for work in citation["references"]:
        assert {"type", "title", "authors", "year", "url"} <= work.keys()
        assert all({"family-names", "given-names"} <= author.keys() for author in work["authors"])


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name
)
def test_an_issue_template_is_a_form(path: Path):
    form: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.name == "config.yml":
        assert form.keys() == {"blank_issues_enabled"}
        return
    assert form.keys() == {"name", "description", "labels", "body"} and form["name"] and form["description"]
    names = [part["id"] for part in form["body"]]
    assert len(set(names)) == len(names)
    for part in form["body"]:
        assert part["type"] in {"textarea", "input", "dropdown", "checkboxes"} and part["attributes"]["label"]
        assert part.keys() <= {"type", "id", "attributes", "validations"}
        assert ("options" in part["attributes"]) == (part["type"] in {"dropdown", "checkboxes"})
        for command in re.findall(r"`bandsplit ([a-z]+)", str(part)):
            assert command in {"doctor", "models"}


def test_the_badges_say_what_the_project_does(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "images" / "badges"))
    from draw_badges import HERE, badges  # type: ignore[import-not-found]

    drawn = badges()
    assert {path.name: path.read_text(encoding="utf-8") for path in HERE.glob("*.svg")} == drawn
    assert "3.10 to 3.13" in drawn["python.svg"] and "MIT" in drawn["licence.svg"]

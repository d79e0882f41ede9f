"""The package: its public names, and its source distribution."""

import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import bandsplit
from bandsplit.audio import files as audio
from places import ROOT
from songs import noise
from tiny_models import write_tiny_model

FOLDERS = (".ci", ".github", "benchmarks", "docs", "kernels", "src", "tests")
FILES = (
    ".dockerignore", ".gitignore", ".pre-commit-config.yaml", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md",
    "Dockerfile", "LICENSE", "MANIFEST.in", "Makefile", "README.md", "constraints.txt", "mkdocs.yml", "pyproject.toml",
)  # fmt: skip


def test_the_installed_version_is_the_one_the_package_names():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", bandsplit.__version__)
    assert version("bandsplit") == bandsplit.__version__


def test_every_public_name_exists():
    for name in bandsplit.__all__:
        assert getattr(bandsplit, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'bandsplit' has no attribute 'separator'"):
        _ = bandsplit.separator


def test_the_python_of_the_page_on_separating_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = (ROOT / "docs" / "separate.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    write_tiny_model("bass.safetensors", "bass")
    audio.write("song.mp3", noise(2, 44_100), 44_100)
    exec(code, {})
    assert audio.info("stems/song/bass.flac").samples == 44_100


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """Build the source distribution of a copy of the project; return the folder in it, and the copied files."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("source")
    copy = folder / "project"
    for name in FOLDERS:
        shutil.copytree(
            ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", ".*_cache")
        )
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    before = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    with tarfile.open(copy / "dist" / build(copy, "sdist")) as archive:
        for member in archive:  # `extractall` has no argument that all versions of Python take in silence
            if file := archive.extractfile(member):
                path = folder / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.read())
    return folder / f"bandsplit-{bandsplit.__version__}", before


def build(folder: Path, kind: str) -> str:
    """Build a distribution of a project; return the name of its file in `dist`."""
    code = f"import setuptools.build_meta as build; print(build.build_{kind}('dist'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_the_source_distribution_holds_all_that_the_tests_and_documents_need_and_no_more(
    unpacked: tuple[Path, set[str]],
):
    folder, before = unpacked
    packed = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert before - packed == set(), "add them to MANIFEST.in"
    added = {name for name in packed - before if not name.startswith("src/bandsplit.egg-info/")}
    assert added == {"PKG-INFO", "setup.cfg"}


def test_the_copied_files_are_all_that_the_manifest_names():
    lines = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    named = {word: {name for line in lines if line.startswith(f"{word} ") for name in line.split()[1:]}
             for word in ("include", "graft")}  # fmt: skip
    always = {"LICENSE", "MANIFEST.in", "README.md", "pyproject.toml"}  # setuptools' own choice
    assert set(FILES) == named["include"] | always
    assert set(FOLDERS) == named["graft"] | {"src"}


def test_the_wheel_that_is_built_from_the_source_distribution_is_complete(unpacked: tuple[Path, set[str]]):
    folder, before = unpacked
    facts = email.message_from_bytes((folder / "PKG-INFO").read_bytes())
    assert (facts["Name"], facts["Version"]) == ("bandsplit", bandsplit.__version__)
    assert facts["License-Expression"] == "MIT" and facts["Requires-Python"] == ">=3.10"
    with zipfile.ZipFile(folder / "dist" / build(folder, "wheel")) as archive:
        packed = {f"src/{name}" for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        built = email.message_from_bytes(archive.read(metadata))
    assert packed == {name for name in before if name.startswith("src/")}
    assert built.items() == facts.items() and built.get_payload() == facts.get_payload()

"""What importing the package does, and does not."""

import re
import shutil
import subprocess
import sys
import tarfile
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
    ".dockerignore", ".pre-commit-config.yaml", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "Dockerfile",
    "LICENSE", "MANIFEST.in", "Makefile",
    "README.md", "constraints.txt", "mkdocs.yml", "pyproject.toml",
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


def test_the_source_distribution_holds_all_that_the_tests_and_documents_need(tmp_path: Path):
    pytest.importorskip("setuptools")
    copy = tmp_path / "project"
    for name in FOLDERS:
        shutil.copytree(
            ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", ".*_cache")
        )
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    before = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    code = "import setuptools.build_meta as build; print(build.build_sdist('dist'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=copy)
    assert done.returncode == 0, done.stderr
    with tarfile.open(copy / "dist" / done.stdout.splitlines()[-1]) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert before - packed == set(), "add them to MANIFEST.in"

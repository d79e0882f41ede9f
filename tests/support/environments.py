"""Environments that lack packages on purpose: links to what is installed, and this folder's sources."""

import os
import subprocess
import venv
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from places import ROOT


class Environment:
    """A Python that sees bandsplit, what it needs (with extras), and nothing else."""

    def __init__(self, folder: Path, extras: Sequence[str] = (), without: Iterable[str] = ()) -> None:
        """Make it in ``folder``; packages in ``without``, and what only they need, stay out."""
        if os.name != "posix":
            pytest.skip("virtual environments lie elsewhere here, and links need rights")
        venv.create(folder, with_pip=False)
        (site,) = folder.glob("lib/python*/site-packages")
        for name in needed_by("bandsplit", extras, without):
            for top in _files(name):
                if not (site / top.name).exists():
                    (site / top.name).symlink_to(top)
        self.folder = folder
        self.python = folder / "bin" / "python"

    def run(self, *arguments: str | Path, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run its Python in its folder, without a network."""
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "HOME": str(self.folder)}
        environment |= {"OMP_NUM_THREADS": "1", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
        return subprocess.run(
            [str(argument) for argument in (self.python, *arguments)],
            capture_output=True, text=True, env=environment, cwd=self.folder, timeout=timeout,
        )  # fmt: skip


def needed_by(name: str, extras: Iterable[str] = (), without: Iterable[str] = ()) -> set[str]:
    """Name a package and all that it needs, as far as installed."""
    found, todo, without = set(), [(name, extra) for extra in ("", *extras)], set(without)
    while todo:
        name, extra = todo.pop()
        if name in without or (name, extra) in found:
            continue
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add((name, extra))
        for line in lines:
            needs = Requirement(line)
            if needs.marker is None or needs.marker.evaluate({"extra": extra}):
                todo += [(needs.name.lower(), one) for one in ("", *needs.extras)]
    return {name for name, _ in found}


def _files(name: str) -> set[Path]:
    """Find the files and folders of a package in its site-packages; of bandsplit its metadata alone."""
    paths = metadata.distribution(name).files or []
    tops = {path.parts[0] for path in paths if path.parts[0] not in ("..", "__pycache__")}
    if name == "bandsplit":
        tops = {top for top in tops if top.endswith(".dist-info")}
    return {Path(str(metadata.distribution(name).locate_file(top))) for top in tops}

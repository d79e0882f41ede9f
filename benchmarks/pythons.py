"""Install bandsplit for every Python from 3.10 to 3.13 that is found, and run the fast part of the suite on each.

    python benchmarks/pythons.py [--environments FOLDER] [3.10 3.12 ...]

Pythons are looked for on the PATH and where pyenv keeps them. The environments stay: the second time is quicker.
Exit code 1 if one fails, or none is found.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.10", "3.11", "3.12", "3.13")


def find_python(version: str) -> str | None:
    """Find an interpreter; of several in pyenv's folder the newest."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    kept = sorted(pyenv.glob(f"{version}.*"), key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)])
    for candidate in (shutil.which(f"python{version}"), *(str(path / "bin" / "python") for path in reversed(kept))):
        # A shim of pyenv is on the PATH also where its version is not switched on.
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
            return candidate
    return None


def install(python: str, folder: Path) -> Path:
    """Make an environment, with a CPU build of PyTorch where one is to be had; return its Python."""
    inside = folder / "bin" / "python"
    if not inside.exists():
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
    constraints = str(ROOT / "constraints.txt")
    pip = [str(inside), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    (torch,) = re.findall(r"^torch==(\S+)", Path(constraints).read_text(), re.MULTILINE)
    (index,) = re.findall(r"^CPU_INDEX := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    if subprocess.run([str(inside), "-c", "import torch"], capture_output=True).returncode:
        ways = ([f"torch=={torch}+cpu"], ["--index-url", index, f"torch=={torch}"])
        if all(subprocess.run([*pip, "--no-deps", *way], capture_output=True).returncode for way in ways):
            subprocess.run([*pip, f"torch=={torch}"], check=True)  # a CUDA build, of several GB
    environment = {**os.environ, "PIP_CONSTRAINT": constraints, "PIP_BUILD_CONSTRAINT": constraints}
    what = f"{ROOT}[train,av,augment,onnx,slurm,tensorboard,wiener]"
    subprocess.run([*pip, "pytest", "pytest-timeout", "pytest-xdist", what], check=True, env=environment)
    return inside


def main() -> None:
    """Install and test; print a line for each Python."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, default=ROOT / "build" / "pythons")
    parser.add_argument("versions", nargs="*", default=VERSIONS)
    options = parser.parse_args()
    lines = []
    for version in options.versions:
        python = find_python(version)
        if python is None:
            lines.append((version, "not found"))
            continue
        inside = install(python, options.environments.resolve() / version)
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        how = ["-p", "no:cacheprovider", "-n", "2", "--dist", "worksteal", "-m", "not slow"]
        command = [str(inside), "-m", "pytest", *how]
        code = subprocess.run(command, cwd=ROOT, env=environment).returncode
        lines.append((version, "passed" if code == 0 else f"failed (exit code {code})"))
    for version, verdict in lines:
        sys.stdout.write(f"Python {version}: {verdict}\n")
    verdicts = {verdict for _, verdict in lines}
    sys.exit(0 if "passed" in verdicts and verdicts <= {"passed", "not found"} else 1)


if __name__ == "__main__":
    main()

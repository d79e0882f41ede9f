"""The machine code of the CPU kernels: no loop of products stores its sums, and sanitizers find nothing."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bandsplit.core.kernels import instruction_sets
from cpu_kernels import installed_kernels
from places import ROOT

DOTS = {
    "avx2": {"vfmadd231ps ymm", "vpmaddwd ymm"},
    "avxvnni": {"vfmadd231ps ymm", "vpdpbusd ymm"},
    "avx512vnni": {"vfmadd231ps zmm", "vpdpbusd zmm"},
    "avx512bf16": {"vfmadd231ps zmm", "vpdpbusd zmm", "vdpbf16ps zmm"},
}
"""The products of each instruction set."""
SUMS = {"ymm": 12, "zmm": 24}
"""Products in a loop: those of six rows with two vectors, and with four where there are 32 registers."""

Line = tuple[int, str]


def disassembly(library: Path) -> list[Line]:
    """Return addresses and instructions."""
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(library)], capture_output=True, text=True, check=True
    ).stdout
    found = re.findall(r"^ *([0-9a-f]+):\t(.*?) *$", text, re.MULTILINE)
    return [(int(address, 16), instruction) for address, instruction in found]


def loops_of_products(code: list[Line]) -> Iterator[tuple[str, list[str]]]:
    """Find the innermost loops that spread words of six rows over vectors; yield their product and instructions."""
    place = {address: number for number, (address, _) in enumerate(code)}
    for end, (_, instruction) in enumerate(code):
        jump = re.match(r"j\w+ +([0-9a-f]+)", instruction)
        start = place.get(int(jump[1], 16)) if jump else None
        if start is None or not 0 < end - start < 100:
            continue
        body = [text for _, text in code[start : end + 1]]
        found = (re.search(r"(vfmadd231ps|vpmaddwd|vp?dp\w+).*%(.mm)", text) for text in body)
        dots = [f"{dot[1]} {dot[2]}" for dot in found if dot]
        spread = [text for text in body if re.match(r"vp?broadcasts?[ds] +\S*\(", text)]
        if len(spread) == 6 and len(set(dots)) == 1:
            yield dots[0], body
            assert len(dots) == SUMS[dots[0][-3:]]


@pytest.mark.skipif(not shutil.which("objdump"), reason="objdump is not installed")
def test_the_sums_of_products_stay_in_registers():
    library = installed_kernels().library
    loops = list(loops_of_products(disassembly(Path(library._name))))
    built = [kernels.name for kernels in instruction_sets(library)]
    assert {dot for dot, _ in loops} == set().union(*(DOTS[name] for name in built))
    for _, body in loops:
        spilled = [text for text in body if re.match(r"vmov\S+ +%.mm\d+,.*\(", text) or re.search(r"%r[sb]p\)", text)]
        assert spilled == [], "\n".join(body)
        copied = [text for text in body if re.match(r"vmov\S+ +%.mm\d+,%", text)]
        assert len(copied) <= 2, "\n".join(body)  # a CPU renames registers instead


SCRIPT = """
import sys
import numpy as np
from pathlib import Path
from bandsplit.core.kernels import Dense, PackedRecurrent, PackedStack, instruction_sets, load_library

library = load_library(Path(sys.argv[1]))
draw = np.random.default_rng(0).normal
for kernels in instruction_sets(library):
    if not library.bandsplit_set_runs(kernels.number):
        continue
    for precision in ("fp32", "bf16", "int8"):
        if not kernels.has(precision):
            continue
        for n, m, groups in [(16, 16, 1), (80, 48, 5), (96, 32, 2)]:
            sizes = (2, 4 * m, n + m + 1), (2, n, m), (n,)
            weights = (draw(size=size) for size in sizes)
            gru = groups == 2
            packed = PackedRecurrent(kernels, *weights, gru=gru, groups=groups, eps=1e-7, precision=precision)
            for shape in [(1, 1, 1, 1), (1, 2, 5, 3), (2, 1, 3, 13)]:
                for axis in ("time", "band"):
                    x = draw(size=(*shape, 2 * n)).astype(np.float32)
                    x[0, 0, 0, 0, 0] = np.nan
                    packed.along(x, np.empty_like(x), axis, heads=2, threads=2)
        for m in (5, 32, 80):
            layers = [Dense(draw(size=(2, o, i)), draw(size=(2, o)), precision, "tanh") for i, o in [(32, 48), (48, m)]]
            PackedStack(kernels, layers).apply(draw(size=(2, 1, 53, 32)).astype(np.float32), 2)
        sizes, slopes = [(48, 32), (48, 48), (32, 48), (32, 48)], [np.ones(48), np.ones(48), None, np.ones(32)]
        layers = [
            Dense(draw(size=(1, m, n)), draw(size=(1, m)), precision, "none" if slope is None else "prelu", slope)
            for (m, n), slope in zip(sizes, slopes)
        ]
        PackedStack(kernels, layers, mixes=True).apply(draw(size=(2, 3, 49, 32)).astype(np.float32), 2)
        kernels.multiply(draw(size=(7, 48)), draw(size=(65, 48)), precision)
        print(kernels.name, precision)
"""


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("g++")), reason="cmake or g++ is not installed")
def test_sanitizers_find_nothing(tmp_path: Path):
    build = ["cmake", "-S", str(ROOT / "kernels"), "-B", str(tmp_path), "-DSANITIZE=ON", "-DCMAKE_CXX_COMPILER=g++"]
    for command in (build, ["cmake", "--build", str(tmp_path), "-j2"]):
        subprocess.run(command, check=True, capture_output=True)
    (library,) = tmp_path.glob("libbandsplit_kernels.*")
    runtime = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    # Python itself never frees what it keeps until its end.
    environment = {**os.environ, "LD_PRELOAD": runtime.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
    command = [sys.executable, "-c", SCRIPT, str(library)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment | {"PYTHONPATH": str(ROOT / "src")})
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "avx2 fp32" in ended.stdout and "avx2 int8" in ended.stdout

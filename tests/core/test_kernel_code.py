"""The machine code of the CPU kernels: no loop of products stores its sums, and sanitizers find nothing."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bandsplit.core.kernels import instruction_sets, load_library
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


def check_loops(library: Path, built: list[str]) -> None:
    """Check that each set has loops for all of its products, as many as the others, and that none stores sums."""
    loops = list(loops_of_products(disassembly(library)))
    sets = Counter(dot for name in built for dot in DOTS[name])
    found = Counter(dot for dot, _ in loops)
    assert found.keys() == sets.keys()
    for register in SUMS:
        for_each_set = {found[dot] / sets[dot] for dot in sets if dot.endswith(register)}
        assert len(for_each_set) <= 1 and all(count.is_integer() for count in for_each_set), found
    for _, body in loops:
        spilled = [text for text in body if re.match(r"vmov\S+ +%.mm\d+,.*\(", text) or re.search(r"%r[sb]p\)", text)]
        assert spilled == [], "\n".join(body)
        copied = [text for text in body if re.match(r"vmov\S+ +%.mm\d+,%", text)]
        assert len(copied) <= 2, "\n".join(body)  # a CPU renames registers instead


@pytest.mark.skipif(not shutil.which("objdump"), reason="objdump is not installed")
def test_the_sums_of_products_stay_in_registers():
    library = installed_kernels().library
    check_loops(Path(library._name), [kernels.name for kernels in instruction_sets(library)])


def build_library(folder: Path, compiler: str, *options: str) -> Path:
    """Build the library with a compiler; skip the test where it or CMake is missing."""
    if not (shutil.which("cmake") and shutil.which(compiler)):
        pytest.skip(f"cmake or {compiler} is not installed")
    build = ["cmake", "-S", str(ROOT / "kernels"), "-B", str(folder), f"-DCMAKE_CXX_COMPILER={compiler}", *options]
    for command in (build, ["cmake", "--build", str(folder), "-j2"]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0 and "warning: " not in done.stdout + done.stderr, done.stdout + done.stderr
    (library,) = folder.glob("libbandsplit_kernels.*")
    return library


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["g++", "g++-11", "clang++", "clang++-14"])
def test_every_compiler_builds_the_sets_that_it_knows(compiler: str, tmp_path: Path):
    library = build_library(tmp_path, compiler)
    sets = instruction_sets(load_library(library))
    assert {"avx2", "avx512vnni", "avx512bf16"} <= {kernels.name for kernels in sets}
    if shutil.which("objdump"):
        check_loops(library, [kernels.name for kernels in sets])
    inputs, weights = np.random.default_rng(0).normal(size=(2, 70, 128))
    for kernels in sets:
        if kernels.library.bandsplit_set_runs(kernels.number):
            found = kernels.multiply(inputs, weights, "fp32")
            np.testing.assert_allclose(found, inputs @ weights.T, atol=1e-4)


SCRIPT = """
import sys
import numpy as np
from pathlib import Path
from bandsplit.core.kernel_attention import attend
from bandsplit.core.kernels import Dense, PackedRecurrent, PackedStack, instruction_sets, load_library

library = load_library(Path(sys.argv[1]))
draw = np.random.default_rng(0).normal
for kernels in instruction_sets(library):
    if not library.bandsplit_set_runs(kernels.number):
        continue
    for precision in ("fp32", "bf16", "int8"):
        if not kernels.has(precision):
            continue
        for n, m, groups, gru in [(*size, gru) for size in [(16, 16, 1), (80, 48, 5), (96, 32, 2)] for gru in (0, 1)]:
            sizes = (2, 4 * m, n + m + 1), (2, n, m), (n,)
            weights = (draw(size=size) for size in sizes)
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
        for groups, queries, keys, d, v in [(1, 1, 1, 16, 1), (3, 7, 5, 20, 65), (2, 49, 13, 300, 7)]:
            arrays = (draw(size=(groups, *size)).astype(np.float32) for size in [(queries, d), (keys, d), (keys, v)])
            attend(kernels, *arrays, threads=5, precision=precision)
        print(kernels.name, precision)
"""


def preloaded(library: Path | str, script: str, *arguments: Path | str) -> subprocess.CompletedProcess[str]:
    """Run a script in a Python that loads a library first."""
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT / "src")}
    environment["ASAN_OPTIONS"] = "detect_leaks=0"  # Python itself never frees what it keeps until its end
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_sanitizers_find_nothing(tmp_path: Path):
    library = build_library(tmp_path, "g++", "-DSANITIZE=ON")
    runtime = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    ended = preloaded(runtime.stdout.strip(), SCRIPT, library)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "avx2 fp32" in ended.stdout and "avx2 int8" in ended.stdout


SCARCE = """
#include <cstdlib>
#include <new>

static int left = -1;
extern "C" void fail_after(int count) { left = count; }
void *operator new(std::size_t size) {
    if (left >= 0 && left-- == 0) throw std::bad_alloc();
    return std::malloc(size);
}
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, std::size_t) noexcept { std::free(memory); }
"""
NO_MEMORY = """
import ctypes, sys
import numpy as np
from pathlib import Path
from bandsplit.core.kernels import Dense, PackedStack, instruction_sets, load_library

scarce = ctypes.CDLL(sys.argv[1])
layer = Dense(np.ones((1, 16, 16)), np.zeros((1, 16)))
stack, x = PackedStack(instruction_sets(load_library(Path(sys.argv[2])))[0], [layer]), np.ones((1, 1, 500, 16), "f4")
for count in range(9):
    scarce.fail_after(count)
    assert (stack.apply(x, 5) == 16).all()
print("all computed")
"""


@pytest.mark.skipif(not shutil.which("g++"), reason="g++ is not installed")
def test_no_memory_for_a_thread_leaves_the_work_to_the_others(tmp_path: Path):
    kernels, scarce = installed_kernels(), tmp_path / "scarce.so"
    command = ["g++", "-shared", "-fPIC", "-x", "c++", "-", "-o", str(scarce)]
    subprocess.run(command, input=SCARCE, text=True, check=True, capture_output=True)
    ended = preloaded(scarce, NO_MEMORY, scarce, kernels.library._name)
    assert (ended.stdout.strip(), ended.stderr) == ("all computed", "")

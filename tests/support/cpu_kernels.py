"""The instruction sets of the installed CPU kernels."""

import pytest

from bandsplit.core.kernels import KernelPrecision, Kernels, instruction_sets, search_kernels

NAMES = ("avx2", "avxvnni", "avx512vnni", "avx512bf16")
KINDS: list[tuple[str, KernelPrecision]] = [
    *((name, precision) for name in NAMES for precision in ("fp32", "int8")),
    ("avx512bf16", "bf16"),
]
"""Every product that the library has: an instruction set and a precision."""


def installed_kernels() -> Kernels:
    """Return the kernels that separation uses here; skip the test where there are none."""
    kernels, reason, _ = search_kernels()
    if kernels is None:
        pytest.skip(f"CPU kernels: {reason}")
    return kernels


def kernels_of(name: str) -> Kernels:
    """Return an instruction set; skip the test where it does not run."""
    library = installed_kernels().library
    for kernels in instruction_sets(library):
        if kernels.name == name and library.bandsplit_set_runs(kernels.number):
            return kernels
    pytest.skip(f"this CPU or the compiler of the kernels lacks {name}")

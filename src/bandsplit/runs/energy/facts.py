"""Constants behind energy figures, each with its source: watts of hardware, and everyday equivalents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from bandsplit.core.errors import ConfigError

GREEN_ALGORITHMS = "Lannelongue, Grealey, Inouye: Green Algorithms, Advanced Science 8(12), 2100707, 2021"

MEMORY_W_PER_GB = 0.3725
"""Source: Green Algorithms. The paper's 3 W per 8 GB (section IV-F) is about the same."""

ANY_CORE_W = 12.0
"""Watts of a core of an unknown CPU. Source: Green Algorithms. Its value for "Any" CPU."""


class Watts(NamedTuple):
    """Power of a part under full load."""

    name: str
    """As the driver or the operating system writes it; capitals and blanks do not matter."""
    watts: float
    """Of a GPU, or of one core of a CPU."""
    source: str


_NVIDIA = "NVIDIA data sheet"
GPU_TDP: tuple[Watts, ...] = (
    # More specific names first: the first one that is part of the driver's name is used.
    Watts("RTX 2080 Ti", 250, f"{_NVIDIA} (reference card)"),
    Watts("GTX 1080 Ti", 250, f"{_NVIDIA} (reference card)"),
    Watts("RTX 3090 Ti", 450, f"{_NVIDIA} (reference card)"),
    Watts("RTX 3090", 350, f"{_NVIDIA} (reference card)"),
    Watts("RTX 4090", 450, f"{_NVIDIA} (reference card)"),
    Watts("RTX A6000", 300, _NVIDIA),
    Watts("T4", 70, _NVIDIA),
    Watts("L40S", 350, _NVIDIA),
    Watts("L40", 300, _NVIDIA),
    Watts("L4", 72, _NVIDIA),
    Watts("A40", 300, _NVIDIA),
    Watts("V100S-PCIE", 250, _NVIDIA),
    Watts("V100-PCIE", 250, _NVIDIA),
    Watts("V100-SXM2", 300, _NVIDIA),
    Watts("P100-PCIE", 250, _NVIDIA),
    Watts("A100-PCIE-40GB", 250, _NVIDIA),
    Watts("A100 80GB PCIe", 300, _NVIDIA),
    Watts("A100-SXM", 400, _NVIDIA),
    Watts("H100 NVL", 400, f"{_NVIDIA} (upper limit)"),
    Watts("H100 PCIe", 350, _NVIDIA),
    Watts("H100 80GB HBM3", 700, f"{_NVIDIA} (SXM)"),
    Watts("H200 NVL", 600, _NVIDIA),
    Watts("H200", 700, f"{_NVIDIA} (SXM)"),
)


class GpuPeak(NamedTuple):
    """Peak rates of a GPU's products of dense matrices, in 1e12 operations per second; sums are of 32 bits."""

    name: str
    """As users name it."""
    driver_name: str
    """Its name in `GPU_TDP`, which has its power."""
    fp32: float
    tf32: float | None
    """None where the GPU lacks the type: its products are of 32 bits then."""
    bf16: float | None
    fp16: float
    source: str

    @property
    def watts(self) -> float:
        """Rated power."""
        return next(row.watts for row in GPU_TDP if row.name == self.driver_name)

    def tflops(self, precision: str) -> float:
        """Return the rate of a training's precision: fp32, tf32, bf16 or fp16."""
        return {"tf32": self.tf32, "bf16": self.bf16, "fp16": self.fp16}.get(precision) or self.fp32


GPU_PEAKS: tuple[GpuPeak, ...] = (
    GpuPeak("RTX 2080 Ti", "RTX 2080 Ti", 13.4, None, None, 53.8, "NVIDIA Turing whitepaper (reference card)"),
    GpuPeak("RTX 4090", "RTX 4090", 82.6, 82.6, 165.2, 165.2, "NVIDIA Ada whitepaper"),
    GpuPeak("L40S", "L40S", 91.6, 183, 362, 362, f"{_NVIDIA}; half of its rates with sparsity"),
    GpuPeak("A100", "A100-SXM", 19.5, 156, 312, 312, f"{_NVIDIA} (SXM)"),
    GpuPeak("H100", "H100 80GB HBM3", 67, 494.5, 989.5, 989.5, f"{_NVIDIA} (SXM); half of its rates with sparsity"),
    GpuPeak("H200", "H200", 67, 494.5, 989.5, 989.5, f"{_NVIDIA} (SXM); half of its rates with sparsity"),
)

_INTEL, _AMD = "Intel ARK: TDP / cores", "AMD data sheet: TDP / cores"
CORE_POWER: tuple[Watts, ...] = (
    Watts("Xeon Silver 4110", 85 / 8, _INTEL),
    Watts("Xeon Gold 5218", 125 / 16, _INTEL),
    Watts("Xeon Gold 6126", 125 / 12, _INTEL),
    Watts("Xeon Gold 6130", 125 / 16, _INTEL),
    Watts("Xeon Gold 6248R", 205 / 24, _INTEL),
    Watts("Xeon Gold 6254", 200 / 18, _INTEL),
    Watts("Xeon Platinum 8480", 350 / 56, _INTEL),
    Watts("EPYC 7452", 155 / 32, _AMD),
    Watts("EPYC 7513", 200 / 32, _AMD),
    Watts("EPYC 7742", 225 / 64, _AMD),
    Watts("EPYC 7763", 280 / 64, _AMD),
    Watts("EPYC 9654", 360 / 96, _AMD),
    Watts("Ryzen 9 5950X", 105 / 16, _AMD),
)


class Equivalent(NamedTuple):
    """An everyday thing that takes a known energy."""

    what: str
    """Its name, after a number."""
    kwh: float
    """Energy of one."""
    source: str


EQUIVALENTS: tuple[Equivalent, ...] = (
    Equivalent(
        "years of electricity of a person in France",
        2223.0,
        "www.data.gouv.fr/reuses/consommation-par-habitant-et-par-ville-delectricite-en-france (the paper's footnote "
        "10): 2223 kWh per person and year, from data of Agence ORE and Insee",
    ),
    Equivalent(
        "km of electric car",
        0.19,
        "the paper's footnote 11 names ev-database.org/cheatsheet/energy-consumption-electric-car, whose mean moves "
        "with the market; 19 kWh per 100 km is the certified mean of 342 cars in Sustainability 16(17), 7529, 2024",
    ),
)


def find_watts(table: Sequence[Watts], name: str) -> Watts | None:
    """Return the first row whose name is part of ``name``, as complete words, or None."""
    words = _words(name)
    return next((row for row in table if f" {_words(row.name)} " in f" {words} "), None)


def find_peak(name: str) -> GpuPeak:
    """Return the rates of a GPU; capitals and blanks do not matter.

    Raises:
        ConfigError: the table lacks it.
    """
    found = next((row for row in GPU_PEAKS if _words(row.name) == _words(name)), None)
    if found is None:
        legal = ", ".join(row.name for row in GPU_PEAKS)
        raise ConfigError(f"GPU {name!r}: its peak rates are not in the table; choose one of {legal}")
    return found


def _words(name: str) -> str:
    # "Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz" -> "intel xeon gold 6130 cpu 2 10ghz"; A100-SXM4-80GB: SXM of any kind
    text = re.sub(r"\((r|tm)\)", " ", name.lower())
    text = re.sub(r"sxm\d+", "sxm", text) if "a100" in text else text
    return " ".join(re.findall(r"[a-z0-9]+", text))


def green_algorithms_kwh(
    hours: float, *, cores: float, core_w: float, gpus_w: float, memory_gb: float, usage: float = 1.0
) -> float:
    """Estimate energy from hardware and time, in kWh without PUE.

    Args:
        hours: wall time.
        cores: number of CPU cores.
        core_w: watts of one core.
        gpus_w: sum of the watts of all GPUs.
        memory_gb: memory installed, not memory used.
        usage: share of the time that cores and GPUs work; the paper takes 1.

    Source: Green Algorithms, equation (1).
    """
    return hours * ((cores * core_w + gpus_w) * usage + memory_gb * MEMORY_W_PER_GB) / 1000

"""The machine: processor, threads, memory, software."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from bandsplit.core.version import __version__


def cpu_name() -> str:
    """Name the processor; Python itself leaves it empty on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def environment() -> dict[str, Any]:
    """Describe the software and the machine."""
    import torch  # the other facts are read without it

    return {
        "bandsplit": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpu_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def forget_peak() -> bool:
    """Begin the peak of the memory in use anew; return whether the system, which must be Linux, allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def memory_mb(fact: str) -> float:
    """Read "VmRSS", the memory of this process, or "VmHWM", its peak; Linux alone tells them."""
    return int(Path("/proc/self/status").read_text().partition(f"{fact}:")[2].split()[0]) / 1024


def cpu_threads() -> int:
    """Return OMP_NUM_THREADS if it is a positive number, else the number of cores this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

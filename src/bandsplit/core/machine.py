"""Properties of the machine: processor, threads, memory, software."""

from __future__ import annotations

import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bandsplit.core.version import __version__

if TYPE_CHECKING:
    import torch


def cpu_name() -> str:
    """Return the name of the processor; on Linux Python itself returns an empty one."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def environment() -> dict[str, Any]:
    """Describe the software and the machine."""
    import torch  # the rest of this module works without it

    return {
        "bandsplit": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpu_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def describe_machine(device: torch.device) -> str:
    """Describe the processor or GPU of ``device`` and the version of PyTorch in a few words."""
    facts = environment()
    computes = facts["gpu"] if device.type == "cuda" else f"{facts['cpu']}, {facts['cpu_threads']} threads"
    return f"{computes}, torch {facts['torch']}"


def memory_gb() -> float:
    """Return the memory of this machine; 0 where the system does not report it."""
    names = getattr(os, "sysconf_names", {})
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30 if "SC_PHYS_PAGES" in names else 0.0


def has_packages(*names: str) -> bool:
    """Return whether all these packages are installed, without importing them."""
    return all(find_spec(name) is not None for name in names)


def may_have_gpu() -> bool:
    """Return whether PyTorch might find a GPU, without importing it: on Linux, whether a driver's device is there."""
    files = "/dev/nvidiactl", "/dev/kfd", "/dev/dxg"  # of NVIDIA, AMD, and Windows' subsystem for Linux
    return not sys.platform.startswith("linux") or any(map(os.path.exists, files))


def forget_peak() -> bool:
    """Reset the peak of the memory in use; return whether that worked (only Linux supports it)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def memory_mb() -> float:
    """Return the memory that this process uses now; Linux only."""
    return _status_mb("VmRSS")


def peak_memory_mb(device: torch.device | None = None) -> float:
    """Return the peak memory: of tensors on a CUDA ``device``, otherwise of this process."""
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform.startswith("linux"):
        return _status_mb("VmHWM")  # getrusage starts with the peak of the parent
    import resource  # not available on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def _status_mb(fact: str) -> float:
    return int(Path("/proc/self/status").read_text().partition(f"{fact}:")[2].split()[0]) / 1024


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_threads() -> int:
    """Return the threads of PyTorch if it is loaded, else OMP_NUM_THREADS if it is a positive number, else `cores`."""
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else cores()

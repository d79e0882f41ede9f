"""Memory that the process keeps while networks compute on a CPU."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for the next allocation instead of returning it to the system.

    A training step or a chunk allocates gigabytes on a CPU and frees them. If they are returned, the system clears and
    maps each page again the next time, which takes up to a third of the time. With this setting, the process stays as
    large as it was at its peak, which it needs again anyway. Numbers do not change.

    Returns:
        Whether it was done; only glibc, the C library of most Linux systems, takes such settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Allocate on the heap, never in a mapping of its own; and keep up to 2 GB of freed memory at the end of the heap.
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))

"""Memory that the process keeps while networks compute on a CPU."""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # from glibc's malloc.h


def share_heap() -> None:
    """Let all threads allocate from one heap, in this process and in those that it starts.

    Call it before there are threads: one that has a heap of its own keeps it, and later threads inherit it. Such a heap
    is returned to the system as soon as it is empty, so that `keep_freed_memory` has no effect on it; separation with
    two threads then takes up to 1.4 times as long. The user's ``MALLOC_ARENA_MAX`` takes precedence.
    """
    if "MALLOC_ARENA_MAX" not in os.environ and _set((_M_ARENA_MAX, 1)):
        os.environ["MALLOC_ARENA_MAX"] = "1"


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for the next allocation instead of returning it to the system.

    A training step or a chunk allocates gigabytes on a CPU and frees them. If they are returned, the system clears and
    maps each page again the next time, which takes up to a third of the time. With this setting, the process stays as
    large as it was at its peak, which it needs again anyway. Numbers do not change.

    Returns:
        Whether it was done; only glibc, the C library of most Linux systems, takes such settings.
    """
    # Allocate on the heap, never in a mapping of its own; and keep up to 2 GB of freed memory at the end of the heap.
    return _set((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_ARENA_MAX, 1))


def _set(*settings: tuple[int, int]) -> bool:
    """Set options of malloc; return whether the C library takes them."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all([mallopt(name, value) for name, value in settings])

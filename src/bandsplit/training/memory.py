"""Memory that the process keeps while it trains."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let the C library keep memory that is freed, for the next step, in place of giving it back to the system.

    A step on a CPU allocates gigabytes and frees them. Given back and asked for again, each page is cleared and mapped
    anew, which takes up to a third of the step. The process then stays as large as its largest step, which it needs
    again anyway. Numbers do not change.

    Returns:
        Whether it was done; only glibc, the C library of most Linux systems, takes such settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # From the heap, never from a mapping of its own; and up to 2 GB at the end of the heap stay when they are freed.
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))

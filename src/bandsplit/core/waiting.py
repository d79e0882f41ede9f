"""Spin limit for the threads of PyTorch's OpenMP; standard library only, since it acts before PyTorch is loaded.

By default threads spin for some milliseconds at the end of every product. While another program uses one of the cores,
the spinning takes time from the thread that they wait for, and small products become tens of times slower.
"""

import os
import sys

SPIN_COUNT = "1000"
"""Rounds of spinning before a thread sleeps: some microseconds, which costs nothing on an idle machine."""
_POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def bound_spinning() -> None:
    """Limit how long threads spin, in this process and its children, unless the user set a wait policy.

    The call must come before PyTorch is loaded, because OpenMP reads the environment at that point. It affects only GNU
    OpenMP, which PyTorch's builds for Linux use.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in _POLICIES):
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT


def describe_waiting() -> str:
    """Return the settings as names and values; empty if PyTorch was loaded first."""
    return ", ".join(f"{name}={os.environ[name]}" for name in _POLICIES if name in os.environ)

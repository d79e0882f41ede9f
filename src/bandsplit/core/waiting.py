"""How threads of PyTorch's OpenMP wait for each other; standard library only, since it acts before PyTorch is loaded.

By default they spin for some milliseconds at the end of every product. While another program has one of the cores, that
time is taken from the thread that is waited for, and small products become tens of times slower.
"""

import os
import sys

SPIN_COUNT = "1000"
"""Rounds of spinning before a thread sleeps: some microseconds, which costs nothing on a quiet machine."""
_POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def bound_spinning() -> None:
    """Bound how long threads spin, in this process and those it starts, unless the user chose how they wait.

    It has an effect before PyTorch is loaded, whose OpenMP reads the environment then, and only on GNU's OpenMP, which
    PyTorch's builds for Linux have.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in _POLICIES):
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT


def describe_waiting() -> str:
    """Say what is set, by name and value; nothing where PyTorch was loaded first."""
    return ", ".join(f"{name}={os.environ[name]}" for name in _POLICIES if name in os.environ)

"""Worker processes that leave signals to their parent and never outlive it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from bandsplit.core.interrupt import SIGNALS


@contextmanager
def worker_pool(
    count: int, initializer: Callable[..., None] | None = None, initargs: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes; if the block raises, they are killed at once.

    Each is a spawned process, since a fork of a process with running threads can hang.

    Args:
        count: maximum number of processes.
        initializer: called first in each process.
        initargs: its arguments.
    """
    pool = ProcessPoolExecutor(count, _Context(), initializer, initargs)
    try:
        yield pool
    except BaseException:
        # Before Python 3.14 pools have no public way to kill their processes.
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.kill()
        raise
    finally:
        with suppress(RuntimeError):  # a signal came between the making and the start of the pool's thread
            pool.shutdown(cancel_futures=True)


def start_worker(target: Callable[..., object], *arguments: object) -> SpawnProcess:
    """Start a process that runs a function of a module; it is spawned, leaves signals to this one and ends with it."""
    process = _Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def end_processes() -> None:
    """Kill all processes that `multiprocessing` started in this process."""
    for process in multiprocessing.active_children():
        process.kill()


def leave_signals_to_parent() -> None:
    """Ignore signals, which terminals and clusters send to all processes, and exit when the parent does.

    Call this first in a process that `multiprocessing` started: the parent decides, and may need the current work.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # returns no matter how the parent ended
        os._exit(1)


class _Process(SpawnProcess):
    """A process that receives no signal before it ignores them."""

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the new process inherits this
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def run(self) -> None:
        leave_signals_to_parent()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        super().run()


class _Context(SpawnContext):
    Process = _Process  # pyright: ignore[reportAssignmentType]

"""Worker processes: they leave signals to the process that started them, and never outlive it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from bandsplit.core.interrupt import SIGNALS


@contextmanager
def worker_pool(
    count: int, initializer: Callable[..., None] | None = None, initargs: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes; if the block raises, they end at once, in the middle of their work.

    Each is a fresh process, since a copy of one that already runs threads can hang.

    Args:
        count: most processes at a time.
        initializer: called first in each of them.
        initargs: its arguments.
    """
    pool = ProcessPoolExecutor(count, _Context(), initializer, initargs)
    try:
        yield pool
    except BaseException:
        # Before Python 3.14 pools have no public way to do that.
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def end_processes() -> None:
    """End all processes that `multiprocessing` started here, at once."""
    for process in multiprocessing.active_children():
        process.kill()


def leave_signals_to_parent() -> None:
    """Ignore signals, which terminals and clusters send to all processes, and end when the parent does.

    To be called first in a process that `multiprocessing` started: the parent decides, and may need what is under way.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # returns however it ended
        os._exit(1)


class _Process(SpawnProcess):
    """A process that no signal meets before it has learnt to ignore them."""

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # it inherits this
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

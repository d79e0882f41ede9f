"""Signals that stop a command: Ctrl-C, SIGTERM and SIGHUP raise KeyboardInterrupt once, except where it would do harm.

After the first signal, clean-up runs undisturbed: only another Ctrl-C raises again. While files are renamed, signals
wait (`held`); work that can save its state collects them (`collected`); threads poll for them (`stopping`).
Outside of `watching`, as in programs that use this package as a library, signals act as that program defines.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_AGAIN_S = 0.01


@dataclass
class _Watch:
    received: list[int] = field(default_factory=list)
    held: int = 0
    collected: int = 0
    raised: bool = False
    over: bool = False
    before: dict[int, Any] = field(default_factory=dict)
    """Previous handlers; empty while signals are not watched."""
    unraisable: Any = None


_watch = _Watch()


def watch() -> bool:
    """Start watching signals; return False if they are watched already or this is not the main thread.

    A signal that ``nohup`` ignores stays ignored. Ctrl-C does not, although shells ignore it for commands that a script
    starts in the background: a user who sends it wants the command to stop.
    """
    global _watch
    if _watch.before or threading.current_thread() is not threading.main_thread():
        return False
    before = {number: signal.getsignal(number) for number in SIGNALS}
    nohup = [number for number in SIGNALS if before[number] is signal.SIG_IGN and number != signal.SIGINT]
    _watch = _Watch(before={n: handler or signal.SIG_DFL for n, handler in before.items() if n not in nohup})
    _watch.unraisable, sys.unraisablehook = sys.unraisablehook, _raise_elsewhere
    for number in _watch.before:
        signal.signal(number, _receive)
    return True


@contextmanager
def watching() -> Iterator[None]:
    """Watch signals in the block; a nested block changes nothing."""
    if not watch():
        yield
        return
    try:
        yield
    finally:
        finish()
        for number, handler in _watch.before.items():
            signal.signal(number, handler)
        sys.unraisablehook = _watch.unraisable
        _watch.before = {}
        _watch.received.clear()


def finish() -> None:
    """Ignore further signals: the command is over, and the rest is clean-up."""
    _watch.over = True
    for number in _watch.before:
        signal.signal(number, signal.SIG_IGN)  # the interpreter drops Python handlers when it exits


@contextmanager
def held() -> Iterator[None]:
    """Delay signals until the end of the block, for short steps that belong together."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals only ever raise in the main thread
        return
    _watch.held += 1
    try:
        yield
    finally:
        _watch.held -= 1
        if _watch.received and not (_watch.held or _watch.collected or _watch.raised or _watch.over):
            _watch.raised = True
            raise KeyboardInterrupt


@contextmanager
def collected(*, every: bool = False) -> Iterator[Sequence[int]]:
    """Yield the signals received so far, for the block to poll.

    Args:
        every: never raise; otherwise a second Ctrl-C raises.
    """
    if threading.current_thread() is not threading.main_thread():
        yield ()
        return
    with watching():
        _watch.collected += 1
        _watch.held += every
        try:
            yield _watch.received
        finally:
            _watch.collected -= 1
            _watch.held -= every


def stopping() -> bool:
    """Return whether a signal arrived: for threads, and for loops in which a library may have dropped the exception."""
    return bool(_watch.received)


def stop_reason() -> str:
    """Return the name of the first signal; SIGINT if signals were not watched."""
    return signal.Signals(_watch.received[0] if _watch.received else signal.SIGINT).name


def check() -> None:
    """Raise if a signal arrived.

    Raises:
        KeyboardInterrupt: a signal arrived.
    """
    if stopping():
        raise KeyboardInterrupt


def _receive(number: int, _: Any) -> None:
    _watch.received.append(number)
    again = number == signal.SIGINT and len(_watch.received) > 1
    if not (_watch.over or _watch.held) and (again or not (_watch.collected or _watch.raised)):
        _watch.raised = True
        raise KeyboardInterrupt


def _raise_elsewhere(ignored: sys.UnraisableHookArgs) -> None:
    """Repeat the signal if its exception was raised where Python drops it, as in ``__del__``."""
    if ignored.exc_type is not KeyboardInterrupt or not _watch.raised:
        _watch.unraisable(ignored)
    elif not _watch.over:
        _watch.raised = False
        threading.Timer(_AGAIN_S, _thread.interrupt_main, (_watch.received[0],)).start()

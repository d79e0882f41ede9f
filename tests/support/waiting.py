"""Waiting for what another process or thread does, with a deadline."""

import time
from collections.abc import Callable


def wait_until(done: Callable[[], object], what: str, deadline_s: float = 120) -> None:
    """Return as soon as ``done`` is true.

    The deadline is no limit on speed: it turns a test that would wait forever into one that fails.

    Args:
        done: asked every few milliseconds; may itself fail where waiting has become pointless.
        what: what is waited for, for the message.
        deadline_s: seconds after which the test fails.
    """
    until = time.monotonic() + deadline_s
    while not done():
        assert time.monotonic() < until, f"waited {deadline_s:g} s in vain for {what}"
        time.sleep(0.005)

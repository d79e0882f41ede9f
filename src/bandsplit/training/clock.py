"""The speed of an epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bandsplit.data.examples.dataset import Example


class Clock:
    """Speed since the clock was started, and the share of the time spent waiting for examples."""

    def __init__(self) -> None:
        """Start."""
        self.began = time.perf_counter()
        self.waited_s = 0.0
        self.examples = 0
        """Examples used since then, which the caller counts."""

    def waits_for(self, batches: Iterator[Example]) -> Iterator[Example]:
        """Yield the batches, and measure the time spent waiting for each."""
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    @property
    def examples_per_s(self) -> float:
        """Examples per second."""
        return self.examples / (time.perf_counter() - self.began)

    @property
    def waiting(self) -> float:
        """Share of the time spent waiting, 0 to 1."""
        return self.waited_s / (time.perf_counter() - self.began)

"""Networks on a CPU whose threads share chunks and independent channels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bandsplit.core.machine import cpu_threads
from bandsplit.models.contract import ModelConfig


class PooledNetwork(ABC):
    """Base of networks without PyTorch, whose batches are parts that threads estimate.

    One thread for each part is faster than two on one: no thread waits, and the data stay in the caches.

    Attributes:
        name: name of the model's file.
        config: the model's.
        device: always "cpu".
    """

    def __init__(self, name: str, config: ModelConfig, threads: int | None) -> None:
        """Start no thread yet; ``threads`` is by default OMP_NUM_THREADS, else one per usable core."""
        self.name, self.config, self.device = name, config, "cpu"
        self._threads = threads or cpu_threads()
        self._pool = ThreadPoolExecutor(self._threads)

    @property
    def batch_size(self) -> int:
        """Best number of chunks to estimate at once: one for each thread."""
        return self._threads

    def estimate(self, batch: np.ndarray) -> np.ndarray:
        """Estimate chunks, float32 ``b c samples``: float32 ``b s c samples``. Threads may call it in parallel.

        Raises:
            MemoryError: the machine has too little memory.
            ModelFileError: the file is damaged in a way that shows only now.
        """
        b, c, samples = batch.shape
        count = self._separable(b, c)
        parts = np.array_split(batch.reshape(count, -1, samples), min(self._threads, count))
        if len(parts) == 1:
            estimates = self._estimate(parts[0], 1)
        else:
            found = list(self._pool.map(lambda part: self._estimate(part, len(parts)), parts))
            estimates = np.concatenate(found)
        return estimates.reshape(b, -1, *estimates.shape[1:]).swapaxes(1, 2).reshape(b, -1, c, samples)

    def _separable(self, b: int, c: int) -> int:
        """Return the number of independent parts of a batch: chunks, or channels unless the network mixes them."""
        return b * c if self.config.any_channels else b

    @abstractmethod
    def _estimate(self, batch: np.ndarray, calls: int) -> np.ndarray:
        """Map ``b c samples`` to ``b s c samples`` in one of ``calls`` parallel calls, which share the threads."""

"""Worker processes: what a signal leaves, whenever it comes."""

import os
from concurrent.futures import process as pools

import pytest

from bandsplit.core.processes import worker_pool


def test_a_pool_works_in_another_process():
    with worker_pool(1) as pool:
        assert pool.submit(os.getpid).result() != os.getpid()


def test_a_signal_before_the_thread_of_a_pool_has_started_is_not_hidden(monkeypatch: pytest.MonkeyPatch):
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pools._ExecutorManagerThread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), worker_pool(1) as pool:
        pool.submit(os.getpid)

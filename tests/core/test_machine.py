"""Facts of the machine."""

import os
import sys

import pytest
import torch

from bandsplit.core.machine import cores, cpu_name, cpu_threads, describe_machine, has_packages, peak_memory_mb


def test_the_peak_of_the_memory_holds_what_was_freed_again():
    content = b"x" * 64 * 2**20
    peak_mb = peak_memory_mb()
    assert peak_mb > len(content) / 2**20
    del content
    assert peak_memory_mb(torch.device("cpu")) > 0.99 * peak_mb


@pytest.mark.parametrize("given", ["", "0", "many"])
def test_threads_are_those_that_were_asked_for_or_one_for_each_usable_core(given: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert cpu_threads() == torch.get_num_threads() == 1
    monkeypatch.delitem(sys.modules, "torch")
    assert cpu_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert 1 <= cpu_threads() == cores() <= (os.cpu_count() or 1)


def test_the_machine_is_described_by_what_computes():
    expected = f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    assert describe_machine(torch.device("cpu")) == expected


def test_packages_are_looked_for_without_importing_them():
    assert has_packages("torch", "numpy") and has_packages("this")
    assert not has_packages("numpy", "no_such_package")

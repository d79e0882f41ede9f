"""The examples in docstrings run and print what they say."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    "module", ["separation.separator", "evaluation.metrics", "evaluation.spectra", "recipes.recipe"]
)
def test_the_examples_of_a_module_run(module: str):
    failed, tried = doctest.testmod(import_module(f"bandsplit.{module}"))
    assert tried and not failed

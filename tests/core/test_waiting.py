"""How long threads spin: bounded before torch is loaded, and never over what the user chose."""

import os
import subprocess
import sys

import pytest


def environment_after(code: str, **variables: str) -> str:
    """What a new process reports after ``code``."""
    clean = {name: text for name, text in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    report = "; import os; from bandsplit.core.waiting import describe_waiting"
    report += "; print([os.environ.get('GOMP_SPINCOUNT'), describe_waiting()])"
    run = subprocess.run(
        [sys.executable, "-c", code + report], env=clean | variables, capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


@pytest.mark.parametrize("code", ["import bandsplit", "import bandsplit.cli.main", "import bandsplit, torch"])
def test_importing_the_package_bounds_how_long_threads_spin(code: str):
    assert environment_after(code) == "['1000', 'GOMP_SPINCOUNT=1000']"


def test_what_the_user_chose_stays():
    assert environment_after("import bandsplit", GOMP_SPINCOUNT="7") == "['7', 'GOMP_SPINCOUNT=7']"
    assert environment_after("import bandsplit", OMP_WAIT_POLICY="active") == "[None, 'OMP_WAIT_POLICY=active']"


def test_after_torch_it_is_too_late_and_nothing_is_claimed():
    assert environment_after("import torch, bandsplit") == "[None, '']"

"""Fixtures shared by the suite."""

from pathlib import Path

import pytest
import torch

# The tests' tensors are tiny: threads would only wait for each other, badly so on a machine that does other work too.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the project; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("the reference folder ../shared is not here")
    return folder

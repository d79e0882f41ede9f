"""A server that the tests of this folder share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from served import Client, Served
from tiny_models import write_tiny_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model `small`, of vocals and bass at 8 kHz."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "small.safetensors")


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Served]:
    """A server without a token, which offers `small`."""
    with Served(tmp_path_factory.mktemp("server") / "served", "-n", model, "--keep-free", "0") as server:
        yield server


@pytest.fixture
def client(served: Served) -> Client:
    """A client of it."""
    return served.client

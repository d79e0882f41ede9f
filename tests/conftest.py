"""Fixtures shared by the suite, and the conditions that every test runs under."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from checkpoints import Store
from hub_server import Hub
from webserver import Server

# The tests' tensors are tiny: threads would only wait for each other, badly so on a machine that does other work too.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put slow tests first, so that with several workers the end is not one long test."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the project; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("the reference folder ../shared is not here")
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def store(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    cache = tmp_path / "cache"
    monkeypatch.setenv("BANDSPLIT_CACHE", str(cache))
    monkeypatch.setenv("BANDSPLIT_MIRROR", f"{server.url}/models")
    monkeypatch.delenv("BANDSPLIT_OFFLINE", raising=False)
    return Store(server, cache, monkeypatch)


@pytest.fixture
def hub(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub on this machine, for a user without a token."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.delenv("BANDSPLIT_MIRROR")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a store of its own, which is not here
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()

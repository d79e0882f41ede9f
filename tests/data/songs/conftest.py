"""Fixtures of the download tests."""

from pathlib import Path

import numpy as np
import pytest

from downloads import Archive, Here, set_in, zip_of
from songs import write_dataset
from webserver import CUT, Server


@pytest.fixture(scope="session")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = write_dataset(tmp_path_factory.mktemp("songs"), train=2, test=1)
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.wav"))}
    return {**files, "notes.bin": np.random.default_rng(0).bytes(2 * CUT)}


@pytest.fixture(scope="session")
def archive(members: dict[str, bytes]) -> Archive:
    return set_in(zip_of(members))


@pytest.fixture
def here(server: Server, archive: Archive, tmp_path: Path) -> Here:
    return Here(server, archive, tmp_path / "data")

"""Folders of bounded size: what they keep, what they remove, several processes, full disks."""

import multiprocessing
import os
from pathlib import Path

import pytest

from bandsplit.core.bounded import BoundedFolder
from disks import largest_file


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.cached"))


def names(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.cached")}


def age(folder: BoundedFolder, name: str, by_s: int) -> None:
    """Let a file have been used earlier than it was."""
    status = (folder.path / f"{name}.cached").stat()
    os.utime(folder.path / f"{name}.cached", ns=(status.st_atime_ns, status.st_mtime_ns - by_s * 10**9))


def test_content_is_returned_and_missing_files_are_none(tmp_path: Path):
    folder = BoundedFolder(tmp_path / "cache", 100)
    assert folder.read("a") is None
    folder.write("a", b"one")
    folder.write("a", b"two")
    assert folder.read("a") == b"two"


def test_the_files_that_were_not_used_for_longest_make_room(tmp_path: Path):
    folder = BoundedFolder(tmp_path, 100)
    for number, name in enumerate("abcd"):
        folder.write(name, bytes(25))
        age(folder, name, by_s=100 - number)
    assert folder.read("a") is not None  # used now
    folder.write("e", bytes(25))
    assert {"a", "e"} <= names(tmp_path) and "b" not in names(tmp_path)
    assert size_bytes(tmp_path) <= 100


def test_the_size_is_never_above_the_bound(tmp_path: Path):
    folder = BoundedFolder(tmp_path, 1000)
    for number in range(200):
        folder.write(str(number), bytes(7 * number % 300))
        assert size_bytes(tmp_path) <= 1000
    assert size_bytes(tmp_path) > 500
    folder.write("large", bytes(1001))
    assert folder.read("large") is None
    folder.write("all", bytes(1000))
    assert names(tmp_path) == {"all"}


@pytest.mark.parametrize("record", [None, b"", b"x", b"99999999"])
def test_a_record_of_the_size_that_is_missing_or_wrong_is_made_again(tmp_path: Path, record: bytes | None):
    folder = BoundedFolder(tmp_path, 100)
    folder.write("a", bytes(40))
    (tmp_path / ".used").unlink()
    if record is not None:
        (tmp_path / ".used").write_bytes(record)
    folder.write("b", bytes(40))
    assert names(tmp_path) == {"a", "b"}
    assert (tmp_path / ".used").read_bytes() == b"80"


def test_files_of_others_are_left_alone(tmp_path: Path):
    (tmp_path / "mine.wav").write_bytes(bytes(500))
    (tmp_path / "songs").mkdir()
    folder = BoundedFolder(tmp_path, 100)
    for number in range(9):
        folder.write(str(number), bytes(40))
    assert size_bytes(tmp_path) == 80
    assert (tmp_path / "mine.wav").stat().st_size == 500 and (tmp_path / "songs").is_dir()


def _write_many(folder: BoundedFolder, process: int) -> None:
    for number in range(60):
        folder.write(f"{process}-{number % 20}", bytes([process]) * 50)
        content = folder.read(f"{1 - process}-{number % 20}")
        assert content in (None, bytes([1 - process]) * 50), "never a part of a file"


def test_two_processes_share_a_folder(tmp_path: Path):
    folder = BoundedFolder(tmp_path, 1000)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write_many, args=(folder, number)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert 500 < size_bytes(tmp_path) <= 1000


def test_a_full_disk_is_an_error_and_leaves_no_part_of_a_file(tmp_path: Path):
    folder = BoundedFolder(tmp_path, 10_000)
    folder.write("a", b"old")
    with largest_file(100), pytest.raises(OSError, match="File too large"):
        folder.write("a", bytes(200))
    assert folder.read("a") == b"old"
    assert names(tmp_path) == {"a"} and not [*tmp_path.glob("*.part")] and not [*tmp_path.glob(".bandsplit-*")]
    folder.write("a", bytes(200))
    assert folder.read("a") == bytes(200)

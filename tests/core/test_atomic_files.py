"""Files that are complete or absent, and journals that survive kills, full disks and several writers."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from bandsplit.core.files import Journal, write_atomically
from disks import largest_file
from waiting import wait_until

# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_and_gets_the_mode_of_the_umask(tmp_path: Path):
    path = tmp_path / "a.json"
    before = os.umask(0o027)
    try:
        for content in (b"first, which is longer", b"second"):
            write_atomically(path, content)
            assert path.read_bytes() == content
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [0, 1, 30_000, 99_999])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, size: int):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    writers = (bytes(100_000), lambda file: [file.write(bytes(10)) for _ in range(10_000)])
    for content in writers:
        with largest_file(size), pytest.raises(OSError, match=r"a\.bin") as caught:
            write_atomically(path, content)
        assert caught.value.errno == errno.EFBIG
        assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_the_error_of_the_disk_is_raised_where_torch_hides_it(tmp_path: Path):
    with largest_file(50_000), pytest.raises(OSError, match="File too large"):
        write_atomically(tmp_path / "state.pt", lambda file: torch.save({"a": torch.zeros(50_000)}, file))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_a_writer_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        raise error

    with pytest.raises(error):
        write_atomically(path, write)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_missing_is_an_error_that_names_the_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "none" / "a.txt", b"")
    assert caught.value.filename == str(tmp_path / "none" / "a.txt")


# --- journals --------------------------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.jsonl")


def values(journal: Journal) -> list[Any]:
    return [line.value for line in journal.read().lines]


def test_what_is_appended_is_read_back_whatever_line_ends_it_holds(journal: Journal):
    rows = [{"name": "a\u2028b\x85c\r\nd"}, {"name": "é"}]
    journal.append(*(json.dumps(row, ensure_ascii=False) for row in rows))
    journal.append(json.dumps(rows[0]))
    content = journal.read()
    assert [line.value for line in content.lines] == [*rows, rows[0]]
    assert content.damage == ""


def test_a_line_cut_anywhere_is_left_out_and_the_next_one_is_whole(journal: Journal):
    line = json.dumps({"number": 1, "name": "é"}, ensure_ascii=False)
    for cut in range(1, len(line.encode())):
        journal.path.write_bytes(b'{"number": 0}\n' + line.encode()[:cut])
        assert values(journal) == [{"number": 0}]
        journal.append('{"number": 2}')
        journal.append('{"number": 3}')
        content = journal.read()
        assert [(found.number, found.value["number"]) for found in content.lines] == [(1, 0), (3, 2), (4, 3)]
        assert [found.number for found in content.cut] == [2]
        assert content.damage == f"{journal.path}: left out a line that is cut or damaged: 2"


def test_a_last_line_that_lacks_only_its_end_is_kept(journal: Journal):
    journal.path.write_text('{"number": 1}')
    journal.append('{"number": 2}')
    assert values(journal) == [{"number": 1}, {"number": 2}]


@pytest.mark.parametrize("line", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "\0\0\0", '{"a": "\udcff"}'])
def test_a_line_that_no_parser_takes_is_damaged_and_no_obstacle(journal: Journal, line: str):
    journal.path.write_bytes(f"1\n{line}\n2\n".encode(errors="surrogateescape"))
    content = journal.read()
    assert [found.value for found in content.lines] == [1, 2]
    assert [found.number for found in (content.cut if line[0] in "{\0" else content.foreign)] == [2]


@pytest.mark.parametrize("room", [0, 1, 7, 40])
def test_an_append_to_a_full_disk_leaves_the_file_as_it_was(journal: Journal, room: int):
    journal.append('{"number": 1}')
    whole = journal.path.read_bytes()
    for before in (whole, whole + b'{"num'):
        journal.path.write_bytes(before)
        with largest_file(len(before) + room), pytest.raises(OSError, match=r"journal\.jsonl") as caught:
            journal.append(*(f'{{"number": {number}}}' for number in range(2, 6)))
        assert caught.value.errno == errno.EFBIG
        assert journal.path.read_bytes() == before
    journal.append('{"number": 2}')
    assert values(journal) == [{"number": 1}, {"number": 2}]


APPEND = """
import json, sys
from bandsplit.core.files import Journal
from pathlib import Path
for number in range(100):
    rows = [{"name": sys.argv[2], "number": number, "part": part, "x": "x" * 3000} for part in range(3)]
    Journal(Path(sys.argv[1])).append(*map(json.dumps, rows))
"""


def test_lines_of_several_processes_never_mix_even_if_one_is_killed(journal: Journal):
    journal.path.write_text("garbage")
    names = ["a", "b", "killed"]
    processes = [subprocess.Popen([sys.executable, "-c", APPEND, str(journal.path), name]) for name in names]
    wait_until(lambda: b'{"name": "killed"' in journal.path.read_bytes(), "a line of the third process")
    processes[2].send_signal(signal.SIGKILL)
    assert [process.wait() for process in processes[:2]] == [0, 0]
    processes[2].wait()
    content = journal.read()
    for name in ("a", "b"):
        mine = [(row["number"], row["part"]) for row in values(journal) if row["name"] == name]
        assert mine == [(number, part) for number in range(100) for part in range(3)]
    assert [line.number for line in content.foreign] == [1] and len(content.cut) <= 1


def test_a_lock_does_not_outlive_an_append_in_a_forked_child(journal: Journal):
    """A loader process that was forked during an append holds the file open for as long as it lives."""
    code = (
        "import os, sys; from pathlib import Path; from bandsplit.core.files import Journal\n"
        "journal, ends, fsync = Journal(Path(sys.argv[1])), os.pipe(), os.fsync\n"
        "def fork_and_sync(handle):\n"
        "    if os.fork() == 0:\n"
        "        os.close(ends[1]); os.read(ends[0], 1); os._exit(0)\n"  # lives until the parent has ended
        "    fsync(handle)\n"
        "os.fsync = fork_and_sync\n"
        "journal.append('1')\n"
        "os.fsync = fsync\n"
        "journal.append('2')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(journal.path)], check=True, timeout=100)
    assert values(journal) == [1, 2]

"""Signals stop a command once, never in the middle of what belongs together, and workers never outlive it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bandsplit.core.interrupt import check, collected, held, stopping, watching
from bandsplit.core.processes import worker_pool
from bandsplit.core.unfinished import Unfinished, hidden_folder, swept, temporary_folder, temporary_name
from waiting import wait_until

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])


@pytest.fixture(autouse=True)
def _hang_ups_are_not_ignored() -> Iterator[None]:
    """Give SIGHUP its default, which it lacks where the suite was started with nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def is_stopped(work: Callable[[], None]) -> None:
    with watching(), pytest.raises(KeyboardInterrupt):
        work()


@BOTH
def test_a_signal_raises_once_and_clean_up_runs_undisturbed(number: signal.Signals):
    cleaned = []

    def work() -> None:
        try:
            send(number)
        finally:
            send(signal.SIGTERM)
            cleaned.append(stopping())

    is_stopped(work)
    assert cleaned == [True]
    assert not stopping()


def test_ctrl_c_during_clean_up_raises_again():
    def work() -> None:
        try:
            send(signal.SIGTERM)
        finally:
            with pytest.raises(KeyboardInterrupt):
                send(signal.SIGINT)

    is_stopped(work)


@BOTH
def test_what_belongs_together_is_finished_first(number: signal.Signals):
    steps = []

    def work() -> None:
        with held():
            send(number)
            send(signal.SIGINT)
            steps.append("finished")
        steps.append("never")

    is_stopped(work)
    assert steps == ["finished"]


def test_a_thread_that_holds_signals_does_not_swallow_them():
    inside, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with held():
            inside.set()
            go_on.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(60)
    with watching(), pytest.raises(KeyboardInterrupt):
        send(signal.SIGTERM)
    go_on.set()
    thread.join()


def test_collected_signals_are_for_the_block_and_a_second_ctrl_c_raises():
    with collected() as received:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert received == [signal.SIGTERM] * 2
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    with collected(every=True) as received:
        send(signal.SIGINT)
        send(signal.SIGINT)
        assert received == [signal.SIGINT] * 2


def test_an_exception_that_python_drops_comes_again(capsys: pytest.CaptureFixture[str]):
    class Late:
        def __del__(self) -> None:
            send(signal.SIGTERM)

    def work() -> None:
        Late()
        for _ in range(6000):
            time.sleep(0.01)

    is_stopped(work)
    assert "ignored" not in capsys.readouterr().err


def test_threads_learn_of_a_signal():
    check()
    with watching():
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            check()


def test_handlers_and_nohup_are_left_as_they_were():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with watching():
            send(signal.SIGHUP)
            assert not stopping()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    finally:
        signal.signal(signal.SIGHUP, before)


# --- files and folders -----------------------------------------------------------------------------------------------


def test_a_temporary_file_goes_with_what_made_it(tmp_path: Path):
    file, folder = temporary_name(tmp_path), tmp_path / "folder"
    unfinished = Unfinished(file), Unfinished(folder)
    file.touch()
    (folder / "inner").mkdir(parents=True)
    del unfinished
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_file_goes_when_the_process_ends_with_it(tmp_path: Path):
    code = "import sys\nfrom pathlib import Path\nfrom bandsplit.core.unfinished import Unfinished\n"
    code += f"kept = Unfinished(Path({str(tmp_path / 'file')!r}))\nkept.path.touch()\nsys.exit(5)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 5
    assert list(tmp_path.iterdir()) == []


def test_a_signal_while_a_temporary_folder_is_made_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    make = os.mkdir

    def mkdir(*arguments: object) -> None:
        make(*arguments)  # pyright: ignore[reportArgumentType]
        send(signal.SIGTERM)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with watching(), pytest.raises(KeyboardInterrupt):
        temporary_folder()
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_swept_but_not_what_others_write(tmp_path: Path):
    left = temporary_name(tmp_path)
    left.touch()
    with swept(tmp_path):
        assert not left.exists()
        mine = temporary_name(tmp_path)
        mine.touch()
        with swept(tmp_path):
            assert mine.exists()
    with swept(tmp_path):
        assert not mine.exists()


def test_hidden_folders_of_killed_processes_go_but_not_those_in_use(tmp_path: Path):
    (tmp_path / ".set-0123.part" / "train").mkdir(parents=True)
    (tmp_path / ".settings-0123.part").mkdir()
    with hidden_folder(tmp_path / "set") as first, hidden_folder(tmp_path / "set") as second:
        assert {path.name for path in tmp_path.iterdir()} == {first.name, second.name, ".settings-0123.part"}
        first.rename(tmp_path / "set")
    assert {path.name for path in tmp_path.iterdir()} == {"set", ".settings-0123.part"}


def test_a_hidden_folder_goes_although_a_thread_wrote_on_after_ctrl_c(tmp_path: Path):
    code = "from pathlib import Path\nfrom bandsplit.core.unfinished import hidden_folder\ntry:\n"
    code += f"    with hidden_folder(Path({str(tmp_path / 'set')!r})) as folder: raise KeyboardInterrupt\n"
    code += "except KeyboardInterrupt: (folder / 'late').mkdir(parents=True)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert list(tmp_path.iterdir()) == []


# --- processes -------------------------------------------------------------------------------------------------------


def sleep_and_say(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(600)


def wait_for(path: Path) -> int:
    wait_until(lambda: path.exists() and path.read_text(), str(path))
    return int(path.read_text())


def wait_for_end(process: int) -> None:
    wait_until(lambda: not is_running(process), f"the end of process {process}")


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@BOTH
def test_a_signal_ends_workers_in_the_middle_of_their_work(tmp_path: Path, number: signal.Signals):
    def work() -> None:
        with worker_pool(1) as pool:
            pool.submit(sleep_and_say, tmp_path / "worker")
            worker = wait_for(tmp_path / "worker")
            os.kill(worker, number)  # as a terminal does; it leaves that to its parent
            time.sleep(0.1)
            assert is_running(worker)
            send(number)

    is_stopped(work)
    wait_for_end(wait_for(tmp_path / "worker"))


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path):
    code = "from pathlib import Path\nfrom bandsplit.core.processes import worker_pool\nimport test_interrupt\n"
    code += "if __name__ == '__main__':\n    with worker_pool(1) as pool:\n"
    code += f"        pool.submit(test_interrupt.sleep_and_say, Path({str(tmp_path / 'worker')!r})).result()\n"
    script = tmp_path / "parent.py"
    script.write_text(code)
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    parent = subprocess.Popen([sys.executable, str(script)], env=os.environ | {"PYTHONPATH": paths})
    worker = wait_for(tmp_path / "worker")
    parent.kill()
    parent.wait()
    wait_for_end(worker)

"""Signals at random moments of real commands: nothing half done may remain, neither file, folder nor process.

    python benchmarks/soak.py                            # all commands, in full: about an hour
    python benchmarks/soak.py separate pack --signals 50 --kills 5 --seed 7

A process that has loaded everything forks a child for each try, which runs the command line; a tenth of the tries start
a program of their own. SIGTERM or Ctrl-C comes at a moment drawn over the time of an undisturbed run, sometimes twice.
Then come kills, after which temporary files may lie about, hidden, and the same command must do its work.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import os
import pkgutil
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # else libraries start threads, and a process that has some cannot be forked

from soak_commands import COMMANDS, KILLED, Command

PROGRAMS = 0.1
"""Share of tries in a program of its own."""
AGAIN = 0.15
"""Share of tries with a second signal soon after the first."""
END_S = 60
"""Seconds within which helper processes must have ended: on a busy machine one that still starts takes some."""
HANG_S = 300
TRACES = ("Traceback", "Exception ignored", "resource_tracker")
TEMPORARY = (".bandsplit-", ".part", ".writing-", ".unfinished", ".unpacking")


@dataclass
class Try:
    """What came of a command that was disturbed."""

    code: int | None
    output: str
    began: bool
    """Whether the command line had been reached when the signal came."""
    took_s: float
    wrong: list[str] = field(default_factory=list)


def main() -> None:
    """Run the commands that are asked for, and print a line for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("commands", nargs="*", help=f"of {', '.join(COMMANDS)} (default: all)")
    parser.add_argument("--signals", type=int, help="for each command (default: 500 for separate, 100 for others)")
    parser.add_argument("--kills", type=int, default=20, help=f"for each of {', '.join(KILLED)}")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    load_everything()
    wrong = 0
    for name in options.commands or COMMANDS:
        signals = options.signals if options.signals is not None else 500 if name == "separate" else 100
        for line, count in soak(name, signals, options.kills if name in KILLED else 0, options.seed):
            print(line, flush=True)
            wrong += count
    sys.exit(min(wrong, 1))


def load_everything() -> None:
    """Import all modules, so that a forked child begins at once with what it is for."""
    import bandsplit

    for module in pkgutil.walk_packages(bandsplit.__path__, "bandsplit."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("onnx", "onnxruntime", "lightning_fabric", "rich.progress", "rich.live", "scipy.signal"):
        importlib.import_module(name)
    gc.freeze()


def soak(name: str, signals: int, kills: int, seed: int) -> Iterator[tuple[str, int]]:
    """Disturb a command; yield lines to print, and how much was wrong."""
    draw = random.Random(f"{name} {seed}")
    base = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        command = COMMANDS[name](base)
        spans = {}
        for program in (False, True) if command.programs else (False,):
            done = run(command, base / "quiet", draw, program=program, at_s=None, numbers=())
            spans[program] = done.took_s
            if done.wrong or done.code != 0:
                yield f"{name}: an undisturbed run went wrong: {done.code}, {done.wrong}\n{done.output}", 1
                return
        for what, count in (("signals", signals), ("kills", kills)):
            tally: Counter[str] = Counter()
            failures = []
            for number in range(count):
                program = command.programs and draw.random() < PROGRAMS
                numbers = [signal.SIGKILL] if what == "kills" else draw_signals(draw)
                at_s = draw.uniform(0, 1.02 * spans[program])
                done = run(command, base / f"{what}-{number}", draw, program=program, at_s=at_s, numbers=numbers)
                if done.code == 0:  # how long it takes depends on what else the machine does
                    spans[program] = (spans[program] + done.took_s) / 2
                tally["programs"] += program
                tally["twice"] += len(numbers) > 1
                tally["before" if not done.began else "after" if done.code == 0 else "in it"] += 1
                if done.wrong:
                    when = f"at {at_s:.3f} s of {spans[program]:.3f}{' (program)' * program}, {numbers}"
                    failures.append(f"  {what} {number} {when}: {'; '.join(done.wrong)}")
                    failures += [f"    | {line}" for line in done.output.splitlines()[-12:]]
            if count:
                hits = ", ".join(f"{tally[key]} {key}" for key in ("before", "in it", "after", "twice", "programs"))
                bad = sum(line.startswith(f"  {what}") for line in failures)
                yield "\n".join([f"{name}: {count} {what} ({hits}), {bad} wrong", *failures]), bad
    finally:
        shutil.rmtree(base, ignore_errors=True)


def draw_signals(draw: random.Random) -> list[int]:
    """Draw one signal, or two."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    return [draw.choice(numbers) for _ in range(2 if draw.random() < AGAIN else 1)]


def run(
    command: Command, folder: Path, draw: random.Random, *, program: bool, at_s: float | None, numbers: Sequence[int]
) -> Try:
    """Run a command in a new folder, disturb it, and look at what is left; the folder stays where that is wrong."""
    folder.mkdir()
    (folder / "tmp").mkdir()
    arguments = command.prepare(folder, draw)
    process, began = start(folder, arguments, program=program)
    if not program:
        began.wait()
    start_s = time.monotonic()
    if at_s is not None:
        process.wait(at_s)
        for position, number in enumerate(numbers):
            time.sleep(draw.uniform(0, 0.05) if position else 0)
            process.send(number)
    code = process.wait()
    took_s = time.monotonic() - start_s
    killed = signal.SIGKILL in numbers
    done = Try(code, (folder / "output.txt").read_text(errors="replace"), began.seen(), took_s)
    done.wrong = list(inspect(command, folder, done, process.session, killed=killed, disturbed=at_s is not None))
    if killed and not done.wrong and not command.is_done(folder):
        again, _ = start(folder, arguments, program=False)
        done.wrong = list(inspect_repeat(command, folder, again))
    if not done.wrong:
        shutil.rmtree(folder)
    return done


def inspect(command: Command, folder: Path, done: Try, session: int, *, killed: bool, disturbed: bool) -> Iterator[str]:
    """Say what is wrong after a command."""
    stopped = (-signal.SIGKILL,) if killed else command.stopped
    before = (-signal.SIGTERM, -signal.SIGINT, 1)
    codes = (0, *(stopped if disturbed else ()), *(before if disturbed and not done.began else ()))
    if done.code not in codes:
        yield f"exit code {done.code}, not {' or '.join(map(str, codes))}"
    if done.began and (traces := [trace for trace in TRACES if trace in done.output]):
        yield f"{', '.join(traces)} in its output"
    if processes := left_in(session):
        yield f"processes are left: {processes}"
    left = [name for name in temporary_in(folder) if name not in command.kept]
    if left and not killed:
        yield f"left behind: {', '.join(left)}"
    seen = [name for name in left if not any(part.startswith((".", "tmp")) for part in Path(name).parts)]
    if killed and seen:
        yield f"temporary, but not hidden: {', '.join(seen)}"
    yield from command.problems(folder, done.code == 0)


def inspect_repeat(command: Command, folder: Path, process: Child) -> Iterator[str]:
    """Say what is wrong after the repetition of a command that was killed."""
    code = process.wait()
    if code:
        yield f"the next run ended with {code}: {(folder / 'output.txt').read_text(errors='replace')[-500:]}"
    if left := [name for name in temporary_in(folder) if not name.startswith("tmp/")]:
        yield f"the next run left: {', '.join(left)}"
    yield from command.problems(folder, True)


def temporary_in(folder: Path) -> list[str]:
    """List what looks temporary, other than what the command keeps on purpose."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.parts[0] == "tmp":
            found += [str(name)] * (len(name.parts) > 1 and name.name != ".ses")  # of onnxruntime, which keeps it
        elif any(mark in name.name for mark in TEMPORARY):
            found.append(str(name))
    return found


def left_in(session: int) -> list[str]:
    """Wait for the processes of a session to end; return those that do not, and end them."""
    until = time.monotonic() + END_S
    while True:
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    state, _, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                    if int(its_session) == session and state != "Z":
                        found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:80]
                except (OSError, ValueError):
                    continue
        if not found or time.monotonic() > until:
            for number in found:
                os.kill(number, signal.SIGKILL)
            return [f"{number} {line}" for number, line in found.items()]
        time.sleep(0.02)


# --- processes -------------------------------------------------------------------------------------------------------


class Began:
    """A pipe by which a child says that the command line begins."""

    def __init__(self) -> None:
        self.end, self.write_end = os.pipe()
        self.byte = b""

    def wait(self) -> None:
        """Wait for it."""
        os.close(self.write_end)
        self.write_end = -1
        self.byte = os.read(self.end, 1)

    def seen(self) -> bool:
        """Return whether it came; the child has ended."""
        if self.write_end >= 0:
            self.wait()
        os.close(self.end)
        return bool(self.byte)


class Child:
    """A child process, the first of a session of its own."""

    def __init__(self, number: int) -> None:
        self.session, self.code = number, None

    def send(self, number: int) -> None:
        """Send a signal, unless the child has ended."""
        if self.poll() is None:
            os.kill(self.session, number)

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""
        if self.code is None:
            ended, status = os.waitpid(self.session, os.WNOHANG)
            if ended:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self, least_s: float | None = None) -> int | None:
        """Wait for the end, or until so much time has passed."""
        began = time.monotonic()
        while self.poll() is None:
            passed_s = time.monotonic() - began
            if least_s is not None and passed_s >= least_s:
                break
            if passed_s > HANG_S:
                os.kill(self.session, signal.SIGABRT)
            time.sleep(0.002)
        return self.code


def start(folder: Path, arguments: Sequence[str], *, program: bool) -> tuple[Child, Began]:
    """Start ``bandsplit`` in a folder, in a fork of this process or in a program of its own."""
    began = Began()
    number = os.fork()
    if not number:
        try:
            _become(folder, arguments, began, program)
        finally:
            os._exit(99)
    return Child(number), began


def _become(folder: Path, arguments: Sequence[str], began: Began, program: bool) -> None:
    os.setsid()
    os.chdir(folder)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open("output.txt", "ab") as output:
        for handle in (1, 2):
            os.dup2(output.fileno(), handle)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    source = Path(sys.modules["bandsplit"].__path__[0]).parent  # the same as here, whatever is installed
    os.environ |= {
        "PYTHONPATH": str(source),
        "TMPDIR": str(folder / "tmp"),
        "BANDSPLIT_CACHE": str(folder / "cache"),
        "COLUMNS": "200",
    }
    tempfile.tempdir = None
    sys.argv = ["bandsplit", *arguments]
    if program:
        os.set_inheritable(began.write_end, True)
        code = (
            f"import os, sys, bandsplit.__main__ as m; m.watch(); os.write({began.write_end}, b'b'); sys.exit(m.main())"
        )
        os.execv(sys.executable, [sys.executable, "-c", code, *arguments])
    code = 0
    try:
        module = importlib.import_module("bandsplit.__main__")
        module.watch()
        os.write(began.write_end, b"b")
        module.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 98
    # As an interpreter ends.
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()

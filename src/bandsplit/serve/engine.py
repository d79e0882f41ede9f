"""The process that computes: it keeps a model loaded, and separates one song at a time."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from bandsplit.audio import files as audio
from bandsplit.core.errors import AudioError, BandsplitError, Cancelled
from bandsplit.core.machine import cpu_threads
from bandsplit.core.unfinished import temporary_folder
from bandsplit.separation.forecast import Forecast
from bandsplit.separation.outputs import OutputConfig
from bandsplit.separation.separator import Separator
from bandsplit.serve.disk import check_room, output_bytes
from bandsplit.serve.job import Format
from bandsplit.serve.listening import PIECE_S, write_copies
from bandsplit.serve.timing import MINUTE_S, Price
from bandsplit.serve.wording import name_song, shorten_paths
from bandsplit.tools.loading import load_separator

CHANNELS = 2

_log = logging.getLogger("bandsplit")


class Separation(NamedTuple):
    """Task: separate a song."""

    models: tuple[Path, ...]
    parts: tuple[Path, ...]
    """All their files."""
    song: Path
    name: str
    """Name of the song in messages."""
    out: Path
    """Empty folder for the stems."""
    format: Format
    two_stems: str | None
    keep_free_bytes: int
    """Space that stays free on the disk."""


class Measurement(NamedTuple):
    """Task: measure what a minute of stereo music costs."""

    models: tuple[Path, ...]


class Cancel(NamedTuple):
    """Request to drop the current task; it is ignored without one."""


class Report(NamedTuple):
    """Message: progress of a task."""

    done_s: float
    total_s: float
    stage: str


class Ended(NamedTuple):
    """Message: end of a task."""

    kind: Literal["done", "cancelled", "failed"]
    error: str = ""
    result: Mapping[str, Any] | None = None
    """Fields of `bandsplit.serve.job.Result`."""
    price: Price | None = None
    """Only of tasks that are done."""


Task: TypeAlias = Separation | Measurement


def work(connection: Connection, device: str) -> None:
    """Do the tasks that arrive, one by one, until the other end is closed."""
    engine = Engine(device)

    def progress(done_s: float, total_s: float, stage: str) -> None:
        if connection.poll():
            connection.recv()  # while a task runs, nothing but `Cancel` is sent
            raise Cancelled("cancelled")
        connection.send(Report(done_s, total_s, stage))

    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        if not isinstance(task, Cancel):
            connection.send(engine.do(task, progress))


class Engine:
    """Separator of the latest task, and the tasks done with it."""

    def __init__(self, device: str) -> None:
        """Store the device; the first task loads a model."""
        self._device = device
        self._key: object = None
        self._separator: Separator | None = None

    def do(self, task: Task, progress: Callable[[float, float, str], None]) -> Ended:
        """Do a task; whatever goes wrong becomes a message, so that the next task can be done."""
        try:
            match task:
                case Separation():
                    return self._separate(task, progress)
                case Measurement():
                    return Ended("done", price=self._measure(task))
        except Cancelled:
            return Ended("cancelled")
        except BandsplitError as error:
            return Ended("failed", _public(format(error), task))
        except OSError as error:
            _log.warning("a task failed: %s", error)
            reason = error.strerror or type(error).__name__
            return Ended("failed", f"the stems cannot be stored ({reason})" if isinstance(task, Separation) else reason)
        except Exception as error:
            _log.exception("a task failed")
            self._key = self._separator = None  # after an error such as a full memory, it may be useless
            return Ended("failed", _public(f"{type(error).__name__}: {error}", task))

    def _load(self, models: tuple[Path, ...], targets: tuple[str, ...] | None) -> Separator:
        if self._separator is None or self._key != (models, targets):
            self._key = self._separator = None
            gc.collect()  # two models may not fit into memory
            self._separator = load_separator(models, device=self._device, targets=targets, threads=cpu_threads())
            self._key = (models, targets)
        return self._separator

    def _separate(self, task: Separation, progress: Callable[[float, float, str], None]) -> Ended:
        progress(0, 1, "load")
        separator = self._load(task.models, None if task.two_stems is None else (task.two_stems,))
        output = OutputConfig(filename="{stem}.{ext}", ext=task.format, two_stems=task.two_stems)
        stems = len(output.stems(separator.targets))

        def check(done_s: float, total_s: float, stage: str) -> None:
            if stage == "separate" and not done_s:
                rate_hz, channels = _header(task.song)
                check_room(task.out, output_bytes(round(total_s * rate_hz), channels, stems), task.keep_free_bytes)
            progress(done_s, total_s, stage)

        result = separator.separate_file(task.song, task.out, check, output=output)
        began_s = time.perf_counter()
        rate_hz, gain_db = write_copies(task.out, task.song, list(result.paths.values()), progress)
        copies_s = time.perf_counter() - began_s
        fields = {
            "stems": {stem: path.name for stem, path in result.paths.items()},
            "audio_s": result.audio_s, "wall_s": result.wall_s, "notes": result.notes,
            "listen_hz": rate_hz, "listen_gain_db": gain_db,
        }  # fmt: skip
        minutes = result.audio_s / MINUTE_S
        price = Price(result.wall_s / minutes, copies_s / minutes / (1 + len(result.paths)))
        return Ended("done", result=fields, price=price)

    def _measure(self, task: Measurement) -> Price:
        separator = self._load(task.models, None)
        rate_hz = separator.sample_rate_hz
        plans = separator.plans(MINUTE_S * rate_hz, rate_hz)
        return Price(Forecast(separator).cost(plans, CHANNELS).seconds, _copy_s(rate_hz))


def _header(song: Path) -> tuple[int, int]:
    """Return the sample rate and the number of channels of a song; those of most, if only decoding finds them."""
    try:
        found = audio.info(song)
    except AudioError:
        return 48_000, CHANNELS
    return found.sample_rate_hz, found.channels


def _copy_s(rate_hz: int) -> float:
    """Measure the time that the copy of a minute takes, with one piece of noise."""
    with temporary_folder() as name:
        folder, song = Path(name), Path(name, "song.wav")
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, (CHANNELS, PIECE_S * rate_hz)).astype(np.float32)
        audio.write(song, noise, rate_hz)
        began_s = time.perf_counter()
        write_copies(folder, song, [song])
        return (time.perf_counter() - began_s) * MINUTE_S / (2 * PIECE_S)


def _public(text: str, task: Task) -> str:
    """Name the song as its owner does, and no folder of this machine."""
    if isinstance(task, Separation):
        text = shorten_paths(name_song(text, task.song, task.name), task.parts)
        text = text.replace(f"{task.out}/", "").replace(str(task.out), "the results")
    return text

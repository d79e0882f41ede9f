"""A real `bandsplit serve` in a process of its own, and its clients."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import psutil
import requests
import soundfile

from disks import largest_file
from places import ROOT
from songs import noise
from tiny_models import RATE_HZ
from waiting import wait_until


def wav(signal: np.ndarray, rate_hz: int = RATE_HZ) -> bytes:
    """Return a wav file of ``c samples``."""
    file = io.BytesIO()
    soundfile.write(file, signal.T, rate_hz, format="WAV", subtype="PCM_16")
    return file.getvalue()


def song(seconds: float = 0.5, seed: int = 0) -> bytes:
    """Return a wav file of stereo noise at 8 kHz."""
    return wav(noise(2, round(RATE_HZ * seconds), seed))


class Frozen(psutil.Process):
    """A suspended process."""

    def resume(self) -> None:
        """Let it run again, unless the server, which waits for a moment only, has killed it."""
        with suppress(psutil.NoSuchProcess):
            super().resume()


class Served:
    """A server on a free port of this machine; its folder outlives it."""

    def __init__(
        self,
        folder: Path,
        *options: str | Path,
        largest_bytes: int | None = None,
        constants: Mapping[str, float] | None = None,
    ) -> None:
        """Start it and wait for its address.

        Args:
            folder: folder of jobs.
            options: of the command.
            largest_bytes: size that no file of it can exceed, as on a full disk.
            constants: other values for constants, such as ``dispatcher.CANCEL_S``.
        """
        self.folder, self.log = folder, folder.with_suffix(".log")
        changes = [f"import bandsplit.serve.{name.partition('.')[0]}" for name in constants or {}]
        changes += [f"bandsplit.serve.{name} = {value!r}" for name, value in (constants or {}).items()]
        changed = "\n".join([*changes, "from bandsplit.__main__ import main", "main()"])
        start = ["-c", changed] if constants else ["-m", "bandsplit"]
        words = [sys.executable, *start, "serve", "--folder", folder, "--port", "0", "-d", "cpu", *options]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "BANDSPLIT_CACHE": str(folder.parent / "cache")}
        environment.pop("BANDSPLIT_TOKEN", None)
        limit = nullcontext() if largest_bytes is None else largest_file(largest_bytes)
        with self.log.open("ab") as log, limit:
            self.process = subprocess.Popen(list(map(str, words)), env=environment, stdout=log, stderr=log)
        wait_until(self._listens, "the address")
        self.url = self._lines()[-1].partition("#")[0].rstrip("/")
        self.client = Client(self.url)

    def _lines(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line.startswith("http")]

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        started = len(self._lines()) > self.log.read_text().count("stopped")
        return started and _answers(self._lines()[-1].partition("#")[0])

    def worker(self) -> psutil.Process | None:
        """Return the process that computes, if there is one."""
        children = psutil.Process(self.process.pid).children()
        return next((child for child in children if "--multiprocessing-fork" in child.cmdline()), None)

    def freeze_at_work(self, job: dict[str, Any]) -> Frozen:
        """Suspend the process that computes in the middle of a job of five minutes or more; return it.

        It runs in slices of a few milliseconds until then, so that the middle is not missed on a busy machine.
        """
        found: list[Frozen] = []

        def separates() -> bool:
            with suppress(psutil.NoSuchProcess):  # it was just killed
                worker = self.worker()
                if worker is not None:
                    worker.suspend()
                    now = self.client.job(job["id"])
                    if now["state"] == "running" and now["progress"]["stage"] == "separate":
                        found.append(Frozen(worker.pid))
                        return True
                    worker.resume()
                    assert now["state"] in ("queued", "running"), now
                    time.sleep(0.02)
            return False

        wait_until(separates, "the separation")
        return found[0]

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal; return the exit code once the process that computes has ended, too."""
        worker = self.worker()
        self.process.send_signal(number)
        code = self.process.wait(timeout=120)
        if worker is not None:
            worker.wait(timeout=120)
        return code

    def left(self) -> list[str]:
        """Name what is in the folder, without what every server has."""
        names = [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*")]
        return sorted(name for name in names if name not in ("jobs", "work", "lock", "prices.json"))

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()


class Client:
    """Client of the API."""

    def __init__(self, url: str, **headers: str) -> None:
        self.url, self.session = url, requests.Session()
        self.session.trust_env = False  # no proxy
        self.session.headers.update(headers)

    def ask(self, method: str, address: str, **options: Any) -> requests.Response:
        """Send a request."""
        return self.session.request(method, self.url + address, timeout=120, **options)

    def connect(self) -> socket.socket:
        """Return a bare connection, for what no client sends."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return socket.create_connection((host, int(port)))

    def get(self, address: str) -> Any:
        """Return JSON."""
        answer = self.ask("GET", address)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def upload(self, body: Any, name: str = "song.wav", **wish: str) -> requests.Response:
        """Upload a file, by default for the model `small`."""
        return self.ask("POST", "/jobs", params={"name": name, "model": "small", **wish}, data=body)

    def add(self, body: Any, name: str = "song.wav", **wish: str) -> dict[str, Any]:
        """Upload a song; return its job."""
        answer = self.upload(body, name, **wish)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job."""
        return self.get(f"/jobs/{job_id}")

    def events(self, address: str) -> Iterator[list[dict[str, Any]]]:
        """Yield the data of events."""
        with self.ask("GET", address, stream=True) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

    def follow(self, job: dict[str, Any]) -> dict[str, Any]:
        """Return a job once it has ended."""
        return list(self.events(f"/jobs/{job['id']}/events"))[-1][0]

    def stem(self, job: dict[str, Any], stem: str) -> bytes:
        """Download a stem."""
        answer = self.ask("GET", f"/jobs/{job['id']}/stems/{stem}")
        assert answer.status_code == 200, answer.text
        return answer.content


def _answers(url: str) -> bool:
    with suppress(requests.ConnectionError):
        return Client(url).ask("GET", "").status_code == 200
    return False

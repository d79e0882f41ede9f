"""Catalogues on a real Ray cluster of this machine: actors and drivers that are killed, songs that hang."""

import json
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile

import s3
from bandsplit.audio import files as audio
from bandsplit.separation.ray_workers import persist
from tiny_models import RATE_HZ, write_tiny_model
from waiting import wait_until

pytest.importorskip("ray")
pytest.importorskip("s3fs")
MODEL = "small.safetensors"
DEADLINE_S = 280
_STARTS = 6


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_tiny_model(MODEL)


class Cluster(NamedTuple):
    """A Ray cluster of this machine, and the S3 server that its workers use."""

    address: str
    process: "subprocess.Popen[str]"
    store: s3.S3

    def runner(self, *arguments: str) -> tuple[str, ...]:
        """Return arguments with those that choose this cluster."""
        return (*arguments, "--runner", "ray", "--ray-address", self.address, "--jobs", "2")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch, s3.running(patch) as store, socket.create_server(("", 0)) as free:
        for name, value in {
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }.items():
            patch.setenv(name, value)
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", "2"]
        command += ["--port", str(port), "--node-ip-address", "127.0.0.1", "--include-dashboard", "false"]
        log = tmp_path_factory.mktemp("ray") / "log"

        def start_ray() -> "subprocess.Popen[str]":
            with log.open("w") as file:
                process = subprocess.Popen([*command, "--disable-usage-stats"], stdout=file, stderr=file, text=True)
            wait_until(
                lambda: process.poll() is not None or "Ray runtime started" in log.read_text(),
                "the cluster",
                DEADLINE_S,
            )
            assert process.poll() is None, log.read_text()
            return process

        process = persist(start_ray, _STARTS)
        try:
            yield Cluster(f"127.0.0.1:{port}", process, store)
        finally:
            process.terminate()
            process.wait()


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    """Return the cluster, with empty buckets."""
    running.store.reset()
    running.store.make("music", "out")
    return running


@pytest.fixture
def store(cluster: Cluster) -> s3.S3:
    return cluster.store


def songs(count: int, first: int = 0, samples: int = 2000) -> None:
    Path("in").mkdir(exist_ok=True)
    for number in range(first, first + count):
        noise = np.random.default_rng(number).uniform(-0.3, 0.3, (2, samples + 10 * number))
        audio.write(Path("in", f"{number:03}.wav"), noise.astype(np.float32), RATE_HZ)


def start(*arguments: str, **options: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bandsplit", "separate", *arguments, "-n", MODEL]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **(pipes | options))  # pyright: ignore[reportArgumentType,reportCallIssue]


def finish(process: "subprocess.Popen[str]") -> tuple[int, list[dict], str]:
    out, err = process.communicate(timeout=DEADLINE_S)
    assert "Traceback" not in err, err
    return process.returncode, [json.loads(line) for line in out.splitlines()], " ".join(err.split())


def separate(*arguments: str) -> tuple[int, list[dict], str]:
    return finish(start(*arguments, "--json"))


def stems(content: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in content.items() if name.endswith(".wav")}


def in_folder(folder: str) -> dict[str, bytes]:
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def actors(ancestor: int) -> list[int]:
    """Return the processes of actors that descend from one process."""
    return [number for number, name in descendants(ancestor).items() if name.startswith(b"ray::Actor")]


def descendants(ancestor: int) -> dict[int, bytes]:
    """Return the processes that descend from one, with their command lines."""
    parents, names = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                names[int(folder.name)] = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            parents[int(folder.name)] = int(fields[1])

    def descends(process: int) -> bool:
        while process in parents and process != ancestor:
            process = parents[process]
        return process == ancestor

    return {process: name for process, name in names.items() if descends(process)}


@contextmanager
def silent_server() -> Iterator[str]:
    """Accept connections, and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow
def test_actors_give_the_stems_of_one_process(cluster, store):
    songs(12)
    store.upload(Path("in"), "music")
    assert separate("in", "-o", "plain")[0] == 0
    code, rows, text = separate(*cluster.runner("s3://music", "-o", "s3://out/a"))
    assert code == 0, text
    content = {name.removeprefix("a/"): data for name, data in store.content("out").items()}
    assert stems(content) == stems(in_folder("plain"))
    assert rows[-1]["done"] == 12
    assert sum(name.startswith("done/") for name in content) == 12
    code, rows, _ = separate("s3://music", "-o", "s3://out/a", "--shard", "1/2")  # the records are those of any runner
    assert (code, [row["status"] for row in rows], rows[-1]["skipped"]) == (0, ["summary"], 6)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills_at_random_moments_lose_no_song_and_change_no_bit(cluster, store):
    draw, command = random.Random(0), cluster.runner("s3://music", "-o", "s3://out", "--attempts", "20")
    driver, count = None, 0

    def done() -> int:
        return len(store.names("out", "done/"))

    victims = 2 * [*4 * ["actor"], "driver"]
    while victims:
        if driver is None or driver.poll() is not None:  # it was killed, or a fast machine has done all songs before
            songs(30, first=count, samples=30 * RATE_HZ)
            count += 30
            store.upload(Path("in"), "music")
            driver = start(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        goal, found = done() + draw.randrange(1, 5), []
        while driver.poll() is None and not (done() >= goal and (found := actors(cluster.process.pid))):
            time.sleep(0.01)  # the S3 server is a part of this process
        with suppress(ProcessLookupError):  # it has ended in this moment, since all songs are done
            if driver.poll() is None:
                os.kill(draw.choice(found) if victims[0] == "actor" else driver.pid, signal.SIGKILL)
                if victims.pop(0) == "driver":
                    driver.wait()
    assert 0 < done() < count
    code, rows, text = separate(*command)
    assert code == 0, text
    assert rows[-1]["done"] + rows[-1]["skipped"] == count and not rows[-1]["failures"]
    content = store.content("out")
    assert separate("in", "-o", "plain")[0] == 0
    assert stems(content) == stems(in_folder("plain"))
    assert sum(name.startswith("done/") for name in content) == count
    assert not [name for name in content if name.startswith("failed/")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_broken_huge_and_hanging_songs_among_200_do_not_stop_the_others(cluster, store):
    songs(200)
    Path("in/broken.wav").write_bytes(Path("in/000.wav").read_bytes()[:3000])
    Path("in/text.mp3").write_text("la")
    store.upload(Path("in"), "music")
    minute = np.random.default_rng(0).uniform(-0.3, 0.3, (RATE_HZ * 60, 2))
    with soundfile.SoundFile("huge.wav", "w", RATE_HZ, 2, "PCM_16") as file:
        for _ in range(600):
            file.write(minute)
    with silent_server() as address:
        Path("list.txt").write_text(f"s3://music\n{address}/hangs.wav\nhuge.wav\n")
        code, rows, text = separate(
            *cluster.runner("@list.txt", "-o", "s3://out", "--attempts", "2", "--time-limit", "20")
        )
    assert code == 1, text
    assert rows[-1]["done"] == 200 and rows[-1]["failures"] == {"song": 2, "time": 2}, text
    failed = [json.loads(data) for name, data in store.content("out").items() if name.startswith("failed/")]
    assert sorted((record["input"].rpartition("/")[2], record["reason"]) for record in failed) == [
        ("broken.wav", "song"), ("hangs.wav", "time"), ("huge.wav", "time"), ("text.mp3", "song"),
    ]  # fmt: skip
    assert len(stems(store.content("out"))) == 400


@pytest.mark.slow
def test_ctrl_c_ends_the_cluster_and_the_same_command_continues(tmp_path):
    songs(40)
    process = start("in", "-o", "out", "--runner", "ray", "--jobs", "2")
    wait_until(lambda: process.poll() is not None or list(Path("out").glob("done/*.json")), "the first song")
    process.send_signal(signal.SIGTERM)
    code, _, text = finish(process)
    assert code == 1 and "stopped; finished songs are kept; run the same command again for the others" in text
    assert not actors(process.pid)
    code, rows, text = separate("in", "-o", f"file://{tmp_path}/out")
    assert code == 0 and rows[-1]["skipped"] > 0 and rows[-1]["done"] + rows[-1]["skipped"] == 40, text


@pytest.mark.slow
def test_a_cluster_that_is_killed_ends_the_command_with_one_message():
    songs(4)
    with silent_server() as address:
        process = start("in", f"{address}/hangs.wav", "-o", "out", "--runner", "ray", "--jobs", "2", "--attempts", "20")
        wait_until(
            lambda: process.poll() is not None or len(list(Path("out").glob("done/*"))) == 4, "the songs", DEADLINE_S
        )
        killed = [
            number for number, name in descendants(process.pid).items() if re.search(b"gcs_server|raylet/raylet", name)
        ]
        for number in killed:
            os.kill(number, signal.SIGKILL)
        code, _, text = finish(process)
    assert len(killed) == 2 and code == 1, text
    assert "has ended, or has not answered for 30 s; songs that are done are kept" in text, text
    assert "run the same command again to continue" in text and not list(Path("out").glob("failed/*"))


@pytest.mark.slow
def test_a_cluster_that_asks_for_a_token_is_named_with_the_variable_that_sends_it(cluster, monkeypatch):
    songs(1)
    monkeypatch.delenv("RAY_AUTH_MODE")
    code, rows, text = separate(*cluster.runner("in", "-o", "out"))
    assert (code, rows) == (2, []) and "if it is there and asks for a token, set RAY_AUTH_MODE=token" in text, text
    assert not Path("out").exists()


def test_a_cluster_that_does_not_answer_is_named():
    songs(1)
    code, rows, text = separate("in", "-o", "out", "--runner", "ray", "--ray-address", "127.0.0.1:1")
    assert (code, rows) == (2, []) and "--ray-address 127.0.0.1:1: no Ray cluster answers there" in text, text
    assert not Path("out").exists()

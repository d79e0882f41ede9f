"""Kills at random moments of `bandsplit serve` at work: every song is done in the end, no half stem is offered.

    python benchmarks/soak_serve.py                      # ten kills: about a minute
    python benchmarks/soak_serve.py --kills 50 --seed 7

Each kill is SIGKILL, of the server or of the process that computes, at a moment drawn over the time of an undisturbed
separation. Then the queue must continue, after a new start if it was the server. Before and after each kill everything
that is offered is compared with the stems of an undisturbed server. The process that computes is killed at most
twice for one song: the third time the server gives the song up.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from bandsplit.serve.dispatcher import MOST_DEATHS
from served import Client, Served, song
from tiny_models import write_tiny_model
from waiting import wait_until

SONGS = 3
LENGTH_S = 300


def main() -> None:
    """Kill as often as asked, print a line for each kill, and check the end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Soak(Path(folder), random.Random(options.seed)).run(options.kills)


class Soak:
    """A server that is killed, and the stems that it must offer."""

    def __init__(self, folder: Path, draw: random.Random) -> None:
        """Separate the songs undisturbed."""
        self.draw, self.folder = draw, folder / "killed"
        self.model = write_tiny_model(folder / "small.safetensors", n_features=32, n_blocks=2)
        self.songs = {f"{number}.wav": song(LENGTH_S, number) for number in range(SONGS)}
        self.expected: dict[str, dict[str, bytes]] = {}
        with Served(folder / "undisturbed", "-n", self.model, "--keep-free", "0") as server:
            client = server.client
            for name, body in self.songs.items():
                job = client.follow(client.add(body, name))
                self.job_s = float(job["result"]["wall_s"])
                self.expected[name] = {stem: client.stem(job, stem) for stem in job["result"]["stems"]}

    def run(self, kills: int) -> None:
        """Kill, restart and check."""
        server = self.start()
        for number in range(1, kills + 1):
            if not any(job["state"] in ("queued", "running") for job in server.client.get("/jobs")):
                for name, body in self.songs.items():
                    server.client.add(body, name)
            job = self.wait_for_work(server)
            wait_s = self.draw.uniform(0, self.job_s)
            time.sleep(wait_s)
            done = self.check(server.client)
            job = server.client.job(job["id"])
            worker = server.worker()
            if self.draw.random() < 0.5 and worker is not None and job["deaths"] < MOST_DEATHS - 1:
                victim = "worker"
                worker.send_signal(signal.SIGKILL)
            else:
                victim = "server"
                server.process.kill()
                server.process.wait()
                server = self.start()
            moment = job["progress"]["stage"] if job["progress"] else job["state"]
            print(f"kill {number}: {victim}, {wait_s:.1f} s into {job['name']} ({moment}); "
                  f"{done} done before, {self.check(server.client)} after", flush=True)  # fmt: skip
        with server:
            client = server.client
            for job in client.get("/jobs"):
                assert client.follow(job)["state"] == "done", client.job(job["id"])
            done = self.check(client)
            wait_until(lambda: not any(path.startswith("work/") for path in server.left()), "an empty work/")
        print(f"{kills} kills: {done} of {done} songs done, all stems equal to those of an undisturbed server")

    def start(self) -> Served:
        """Start the server in the folder of the one before; at once it must offer no half stem."""
        server = Served(self.folder, "-n", self.model, "--keep-free", "0")
        self.check(server.client)
        return server

    def wait_for_work(self, server: Served) -> dict[str, Any]:
        """Return the job that runs, once there is one and its model is loaded."""
        found: list[dict[str, Any]] = []

        def works() -> bool:
            found[:] = [job for job in server.client.get("/jobs") if job["state"] == "running"]
            return bool(found) and found[0]["progress"]["stage"] != "load"

        wait_until(works, "a job that runs")
        return found[0]

    def check(self, client: Client) -> int:
        """Check that jobs that are done have their stems, and others none; return the number of those done."""
        done = 0
        for job in client.get("/jobs"):
            assert job["state"] in ("queued", "running", "done"), job
            for stem, content in self.expected[job["name"]].items():
                answer = client.ask("GET", f"/jobs/{job['id']}/stems/{stem}")
                assert answer.status_code == 404 or answer.content == content, (job, stem)
                assert job["state"] != "done" or answer.status_code == 200, (job, stem)
            done += job["state"] == "done"
        return done


if __name__ == "__main__":
    main()

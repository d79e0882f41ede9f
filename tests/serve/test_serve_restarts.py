"""Kills, signals and full disks: the queue survives, a job starts again, and no half stem is ever offered."""

import re
import signal
from pathlib import Path

import psutil
import pytest

from bandsplit.serve.job import Wish
from bandsplit.serve.jobs import Jobs
from disks import small_disk
from served import Served, song
from tiny_models import write_tiny_model
from waiting import wait_until

LONG_S = 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "served"


def stored(folder: Path) -> int:
    """Return the size of all unfinished files."""
    return sum(path.stat().st_size for path in (folder / "work").rglob("*") if path.is_file())


def test_a_job_whose_process_is_killed_starts_again(folder: Path, model: Path):
    with Served(folder, "-n", model, "--keep-free", "0") as server:
        client = server.client
        undisturbed = client.follow(client.add(song(LONG_S)))
        job = client.add(song(LONG_S))
        server.freeze_at_work(job).kill()
        done = client.follow(job)
        assert (done["state"], done["deaths"]) == ("done", 1)
        for stem in ("vocals", "bass"):
            assert client.stem(done, stem) == client.stem(undisturbed, stem)
        assert not any(path.startswith("work/") for path in server.left())


def test_a_process_that_does_not_stop_at_a_cancelled_or_deleted_job_is_replaced(folder: Path, model: Path):
    with Served(folder, "-n", model, "--keep-free", "0", constants={"dispatcher.CANCEL_S": 0.5}) as server:
        client = server.client
        for method, address, status in (("POST", "/jobs/{}/cancel", 200), ("DELETE", "/jobs/{}", 204)):
            job, other = client.add(song(LONG_S)), client.add(song())
            frozen = server.freeze_at_work(job)
            assert client.ask(method, address.format(job["id"])).status_code == status
            wait_until(lambda other=other: client.job(other["id"])["state"] == "done", "the next song")
            assert client.job(other["id"])["deaths"] == 0
            assert not frozen.is_running()
        assert [job["state"] for job in client.get("/jobs")] == ["cancelled", "done", "done"]
        assert not any(path.startswith("work/") for path in server.left())


@pytest.mark.slow
def test_a_job_at_which_the_process_dies_three_times_fails_and_the_next_runs(folder: Path, model: Path):
    with Served(folder, "-n", model, "--keep-free", "0") as server:
        client = server.client
        job, other = client.add(song(LONG_S)), client.add(song())
        for deaths in range(3):
            wait_until(lambda deaths=deaths: client.job(job["id"])["deaths"] == deaths, "the death")
            server.freeze_at_work(job).kill()
        failed = client.follow(job)
        assert failed["error"].startswith("the process that separates was killed 3 times at this song; the memory")
        assert client.ask("GET", f"/jobs/{job['id']}/stems/vocals").status_code == 404
        assert client.follow(other)["state"] == "done"


def test_a_server_that_is_killed_or_stopped_continues(folder: Path, model: Path):
    options = ("-n", model, "--keep-free", "0")
    server = Served(folder, *options)
    job, other = server.client.add(song(LONG_S)), server.client.add(song(1, seed=1))
    worker = server.freeze_at_work(job)
    server.process.kill()
    server.process.wait()
    assert any(path.startswith("work/") for path in server.left())  # of the half stems
    assert not (folder / "jobs" / job["id"] / "result").exists()
    worker.resume()
    worker.wait(timeout=120)  # it ends with the server

    server = Served(folder, *options)
    worker = server.freeze_at_work(job)  # again from the start
    assert server.client.job(other["id"])["position"] == 1
    worker.resume()
    assert server.stop(signal.SIGTERM) == 0
    assert "stopped; songs that wait are separated after the next start" in server.log.read_text()

    with Served(folder, *options) as server:
        client = server.client
        done = client.follow(job)
        assert (done["state"], done["deaths"]) == ("done", 0)
        assert client.follow(other)["state"] == "done"
        again = client.follow(client.add(song(LONG_S)))
        for stem in ("vocals", "bass"):
            assert client.stem(done, stem) == client.stem(again, stem)
        assert [job["number"] for job in client.get("/jobs")] == [1, 2, 3]
        assert not any(path.startswith("work/") for path in server.left())
        assert server.stop() == 0
        prices = (folder / "prices.json").read_text()

    with Served(folder, *options) as server:
        assert server.client.get("/models")[0]["measured"]  # by an earlier start
        assert (folder / "prices.json").read_text() == prices


def test_a_song_whose_model_is_no_longer_offered_fails_with_the_reason(tmp_path: Path, folder: Path):
    jobs = Jobs(folder)
    with jobs.scratch() as work:
        (work / "song.wav").write_bytes(song())
        job = jobs.add(work / "song.wav", "song.wav", Wish(model="small"), 0.5)
    jobs.update(job.id, state="running")  # as a server leaves it that is killed
    jobs.close()
    write_tiny_model(tmp_path / "other.safetensors", card={"name": "other"})
    with Served(folder, "-n", tmp_path / "other.safetensors", "--keep-free", "0") as server:
        failed = server.client.follow({"id": job.id})
        assert (failed["state"], failed["error"]) == (
            "failed", "model 'small' is no longer offered; upload the song again and choose another",
        )  # fmt: skip
        assert server.client.follow(server.client.add(song(), model="other"))["state"] == "done"


def test_a_server_that_ends_takes_its_process_along(folder: Path, model: Path):
    server = Served(folder, "-n", model)
    wait_until(lambda: server.client.get("/models")[0]["measured"], "the price")
    worker = server.worker()
    assert worker is not None
    server.process.kill()
    server.process.wait()
    assert worker.wait(timeout=120) is None and not psutil.pid_exists(worker.pid)


def test_a_disk_that_fills_up_leaves_the_rest_in_order(folder: Path, model: Path):
    limit = 200_000
    with Served(folder, "-n", model, "--keep-free", "0", largest_bytes=limit) as server:
        client = server.client
        small = client.follow(client.add(song(1)))
        before = server.left()
        answer = client.upload(song(limit / 32_000 + 1))
        assert answer.status_code == 507
        assert answer.json()["detail"] == "the upload cannot be stored (File too large); delete results"
        assert server.left() == before
        job = client.follow(client.add(song(4)))  # half the limit; its stems have floats
        assert job["state"] == "failed" and "cannot be written as WAV" in job["error"]
        assert "(File too large)" in job["error"] and str(folder) not in job["error"]
        assert client.ask("GET", f"/jobs/{job['id']}/zip").status_code == 404
        assert not any(path.startswith("work/") for path in server.left())
        assert client.follow(client.add(song(1)))["state"] == "done"
        assert len(client.stem(small, "bass")) > 64_000


def test_a_picture_that_does_not_fit_is_a_full_disk(folder: Path, model: Path):
    with Served(folder, "-n", model, "--keep-free", "0", largest_bytes=12_000) as server:
        job = server.client.follow(server.client.add(song(0.1)))  # its stems have 6.4 kB each, its pictures more
        assert (job["state"], job["error"]) == ("failed", "the stems cannot be stored (File too large)")
        assert not any(path.startswith("work/") for path in server.left())
        assert "Traceback" not in server.log.read_text()


def test_a_model_that_was_removed_is_named_without_its_folder(tmp_path: Path, folder: Path):
    write_tiny_model(tmp_path / "small.safetensors")
    (tmp_path / "members").mkdir()
    write_tiny_model(tmp_path / "members" / "a.safetensors")
    (tmp_path / "both.yaml").write_text("members:\n- {model: members/a.safetensors}\n- {model: small.safetensors}\n")
    with Served(folder, "-n", tmp_path / "small.safetensors", "-n", tmp_path / "both.yaml",
                "--keep-free", "0") as server:  # fmt: skip
        client = server.client
        wait_until(lambda: all(model["measured"] for model in client.get("/models")), "the prices")
        for path in ("small.safetensors", "members/a.safetensors"):
            (tmp_path / path).unlink()
        jobs = [client.follow(client.add(song(), model=name, two_stems="bass")) for name in ("small", "both")]
        assert jobs[0]["error"].startswith("small.safetensors: no such model file")
        assert jobs[1]["error"].startswith("both.yaml: members: number 1 (members/a.safetensors): ")
        assert all(job["state"] == "failed" and str(tmp_path) not in job["error"] for job in jobs)


def test_uploads_and_stems_leave_free_what_must_stay_free(tmp_path: Path, folder: Path, model: Path):
    """The disk has 24 MB, of which 10 must stay free."""
    with small_disk(folder, 24), Served(folder, "-n", model, "--keep-free", "0.01") as server:
        client = server.client
        refusal = (
            r"the disk of the server has [\d.]+ MB free{} and 10\.0 MB must stay free \(--keep-free\); delete results"
        )
        endless = client.upload(bytes(100_000) for _ in range(200))  # without a length
        assert endless.status_code == 507 and re.fullmatch(refusal.format(""), endless.json()["detail"])
        assert server.left() == []

        head = b"POST /jobs?name=a.wav&model=small HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000001\r\n\r\n"
        with client.connect() as one, client.connect() as other:  # each would fit alone
            sent = 0
            for connection, start in ((one, head), (other, head), (one, b""), (other, b"")):
                connection.sendall(start + bytes(4_000_000))
                sent += 4_000_000
                if sent < 16_000_000:
                    wait_until(lambda sent=sent: stored(folder) > sent - 100_000, "the upload")
            assert other.makefile("rb").readline().split()[1] == b"507"
        wait_until(lambda: server.left() == [], "the removal of the uploads")

        job = client.follow(client.add(song(60)))
        assert job["state"] == "failed"
        assert re.fullmatch(refusal.format(r", this needs up to 13\.4 MB,"), job["error"])
        assert client.follow(client.add(song(10)))["state"] == "done"


def test_uploads_leave_some_of_the_disk_free(folder: Path, model: Path):
    with Served(folder, "-n", model, "--keep-free", "1e9") as server:
        answer = server.client.upload(song())
        assert answer.status_code == 507
        assert "1000000000.0 GB must stay free (--keep-free); delete results" in answer.json()["detail"]
        assert server.left() == []

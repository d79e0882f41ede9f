"""The REST API of a real served: from the upload to the stems, and everything that may be wrong with a request."""

import io
import json
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from command_line import run_command
from served import Client, Served, song
from tiny_models import RATE_HZ
from waiting import wait_until

LENGTH_S = 21


def test_a_song_becomes_what_separate_makes_of_it(
    client: Client, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    body = song(LENGTH_S)
    (tmp_path / "song.wav").write_bytes(body)
    assert run_command(capsys, "separate", tmp_path / "song.wav", "-n", model, "-o", tmp_path, "-d", "cpu").code == 0
    made = {stem: (tmp_path / "song" / f"{stem}.wav").read_bytes() for stem in ("vocals", "bass")}

    job = client.add(body, "My Song.wav")
    assert job["state"] in ("queued", "running") and job["name"] == "My Song.wav" and job["about_s"] == LENGTH_S
    done = client.follow(job)
    assert done["state"] == "done" and done["result"]["audio_s"] == LENGTH_S
    assert {stem: client.stem(done, stem) for stem in done["result"]["stems"]} == made
    stem = client.ask("GET", f"/jobs/{job['id']}/stems/bass")
    assert stem.headers["content-disposition"] == "attachment; filename*=utf-8''My%20Song%20-%20bass.wav"
    archive = client.ask("GET", f"/jobs/{job['id']}/zip")
    assert archive.headers["content-disposition"] == "attachment; filename*=utf-8''My%20Song.zip"
    with zipfile.ZipFile(io.BytesIO(archive.content)) as files:
        assert files.testzip() is None
        assert {name: files.read(name) for name in files.namelist()} == {
            f"My Song/{name}.wav": content for name, content in made.items()
        }


def test_the_price_of_a_model_is_that_of_the_last_song_of_a_minute_or_more(client: Client):
    wait_until(lambda: client.get("/models")[0]["measured"], "the price")
    result = client.follow(client.add(song(90), "long.wav"))["result"]
    expected = result["wall_s"] * 60 / 90
    wait_until(lambda: client.get("/models")[0]["seconds_per_minute"] == pytest.approx(expected), "the new price")


def test_pieces_for_the_player_join_to_the_signals(client: Client):
    body = song(LENGTH_S)
    job = client.follow(client.add(body))
    for signal, content in enumerate([body, client.stem(job, "vocals"), client.stem(job, "bass")]):
        expected, _ = soundfile.read(io.BytesIO(content))
        pieces = []
        for piece in range(3):
            answer = client.ask("GET", f"/jobs/{job['id']}/listen/{signal}/{piece}.flac")
            assert answer.headers["content-type"] == "audio/flac"
            samples, rate_hz = soundfile.read(io.BytesIO(answer.content))
            assert rate_hz == job["result"]["listen_hz"] == RATE_HZ
            pieces.append(samples)
        assert [len(piece) for piece in pieces] == [10 * RATE_HZ, 10 * RATE_HZ, RATE_HZ]
        gain = 10 ** (job["result"]["listen_gain_db"] / 20)
        assert np.abs(np.concatenate(pieces) - gain * expected).max() < 2**-15
        picture = client.ask("GET", f"/jobs/{job['id']}/listen/{signal}.svg")
        assert picture.headers["content-type"] == "image/svg+xml" and picture.text.startswith("<svg")
    for address in (
        "3/0.flac",
        "0/3.flac",
        "-1/0.flac",
        "3.svg",
        "0/-1.flac",
        f"0/{'9' * 300}.flac",
        f"{'9' * 300}.svg",
    ):
        assert client.ask("GET", f"/jobs/{job['id']}/listen/{address}").status_code == 404
    page = client.ask("GET", f"/jobs/{job['id']}/player").text
    assert page.count('class="track"') == 3 and f'data-listen="/jobs/{job["id"]}/listen"' in page


def test_heads_are_those_of_what_get_returns(client: Client):
    job = client.follow(client.add(song()))
    base = f"/jobs/{job['id']}"
    results = (f"{base}/stems/bass", f"{base}/zip", f"{base}/listen/0/0.flac", f"{base}/player", f"{base}/stems/drums")
    for address in ("/", "/docs", "/static/serve.js", "/openapi.json", "/about", base, *results):
        head, answer = (client.ask(method, address) for method in ("HEAD", "GET"))
        assert head.status_code == answer.status_code, address
        assert head.content == b"" and len(answer.content) > 0
        names = {"content-type", "content-length", "content-disposition", "cache-control"}
        assert {name: head.headers.get(name) for name in names} == {name: answer.headers.get(name) for name in names}
    assert client.ask("HEAD", f"/jobs/{'0' * 32}/zip").status_code == 404
    for address in (f"{base}/events", "/jobs/events"):  # they need not end
        refused = client.ask("HEAD", address)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET")


def test_two_stems_and_other_formats_are_made(client: Client):
    body = song(1)
    job = client.follow(client.add(body, two_stems="vocals", format="flac"))
    assert job["result"]["stems"] == {"vocals": "vocals.flac", "no_vocals": "no_vocals.flac"}
    mixture, _ = soundfile.read(io.BytesIO(body))
    stems = [soundfile.read(io.BytesIO(client.stem(job, stem)))[0] for stem in job["result"]["stems"]]
    gain = np.vdot(sum(stems), mixture) / np.vdot(mixture, mixture)  # of both, so that neither clips
    assert np.abs(sum(stems) - gain * mixture).max() < 1e-5


def test_the_models_have_all_that_helps_to_choose(client: Client, served: Served, model: Path):
    wait_until(lambda: client.get("/models")[0]["measured"], "the price")
    (facts,) = client.get("/models")
    price_s = facts.pop("seconds_per_minute")
    assert price_s > 0
    assert facts == {
        "id": "small", "about": "trained with bandsplit", "targets": ["vocals", "bass"], "sample_rate_hz": RATE_HZ,
        "scores": [], "licence": "CC0", "training_data": "none", "bytes": model.stat().st_size, "measured": True,
    }  # fmt: skip
    ((separate_s, listen_s),) = json.loads((served.folder / "prices.json").read_text()).values()
    assert separate_s == price_s and listen_s > 0


def test_a_file_that_is_not_audio_is_refused_and_leaves_nothing(client: Client, served: Served):
    before = served.left()
    answer = client.upload(b"Dear diary", "diary.txt")
    assert answer.status_code == 415
    assert answer.json()["detail"].startswith("diary.txt: is not audio that can be read")
    assert client.upload(b"", "empty.wav").json()["detail"].startswith("empty.wav: is empty (0 bytes)")
    assert client.upload(song(1)[:-4000], "cut.wav").json()["detail"].startswith("cut.wav: is truncated")
    assert served.left() == before
    failed = client.follow(client.add(b"Dear\0diary", "diary.m4a"))  # a format that only decoding can judge
    assert failed["state"] == "failed" and failed["error"].startswith("diary.m4a: is not audio that can be read")
    assert str(served.folder) not in failed["error"]
    assert client.ask("GET", f"/jobs/{failed['id']}/zip").status_code == 404


@pytest.mark.parametrize(
    ("wish", "detail"),
    [
        ({"model": "other"}, "model: 'other' is not offered here; legal: small"),
        ({"two_stems": "drums"}, "two_stems: 'drums' is not estimated by small; legal: vocals, bass"),
        ({"format": "aac"}, "format: Input should be 'wav', 'flac' or 'mp3'"),
    ],
)
def test_an_illegal_wish_is_explained(client: Client, wish: dict[str, str], detail: str):
    answer = client.upload(song(), **wish)
    assert (answer.status_code, answer.json()) == (422, {"detail": detail})


def test_names_of_files_are_never_paths(client: Client, served: Served):
    name = '../../x/\x1b[31m<b>"name"\n\N{RIGHT-TO-LEFT OVERRIDE}.WAV'
    job = client.follow(client.add(song(), name))
    assert job["state"] == "done"
    assert job["name"] == r"""\x1b[31m<b>"name"\n\u202e.WAV"""
    assert {path.split("/")[0] for path in served.left()} == {"jobs"}
    assert (served.folder / "jobs" / job["id"] / "song.wav").is_file()
    page = client.ask("GET", f"/jobs/{job['id']}/player").text
    assert "<b>" not in page and "&lt;b&gt;" in page
    archive = client.ask("GET", f"/jobs/{job['id']}/zip").content
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        assert files.namelist() == ["_x1b[31m_b__name__n_u202e/vocals.wav", "_x1b[31m_b__name__n_u202e/bass.wav"]
    long = client.follow(client.add(song(), "x" * 3000 + ".wav"))
    assert long["name"] == "x" * 190 + ".wav"
    assert client.ask("GET", f"/jobs/{long['id']}/stems/bass").status_code == 200
    assert client.upload(song(), "").status_code == 201


def test_only_results_of_known_jobs_are_served(client: Client):
    job = client.follow(client.add(song()))
    base = f"/jobs/{job['id']}"
    addresses = [
        f"/jobs/{'0' * 32}/zip", "/jobs/../zip", "/jobs/%2e%2e", f"{base}/stems/..%2Fjob.json", f"{base}/stems/drums",
        f"{base}/stems/vocals.wav", f"{base}/listen/..%2F..%2Fjob.svg", "/static/..%2Findex.html", "/static/jobs.py",
    ]  # fmt: skip
    for address in addresses:
        with client.connect() as connection:
            connection.sendall(f"GET {address} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            status = connection.makefile("rb").readline().split()[1]
        assert status in (b"404", b"422"), address
    assert client.ask("GET", f"{base}/stems/drums").json() == {
        "detail": "'drums' is not a stem of this job; legal: vocals, bass"
    }


def test_a_client_that_goes_away_in_an_upload_leaves_nothing(client: Client, served: Served):
    before, jobs = served.left(), client.get("/jobs")
    body = song(5)
    with client.connect() as connection:
        head = f"POST /jobs?name=a.wav&model=small HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[: len(body) // 2])
        wait_until(lambda: served.left() != before, "the beginning of the upload")
    wait_until(lambda: served.left() == before, "the removal of the upload")
    assert client.get("/jobs") == jobs


def test_200_megabytes_are_the_limit_unless_another_is_set(client: Client, served: Served):
    before = served.left()
    with client.connect() as connection:
        head = "POST /jobs?name=a.wav&model=small HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n"
        connection.sendall(head.format(200_000_001).encode())
        answer = connection.makefile("rb").read().decode()
    assert answer.startswith("HTTP/1.1 413 ")
    assert "the upload is larger than 200 MB, the limit of this server (--max-upload)" in answer
    assert served.left() == before


def test_two_clients_at_once_share_the_queue(client: Client, served: Served):
    others = [Client(served.url) for _ in range(2)]
    seen: list[list[dict[str, Any]]] = []
    events = client.events("/jobs/events")
    next(events)
    jobs: list[dict[str, Any]] = []

    def work(other: Client, seed: int) -> None:
        jobs.append(other.follow(other.add(song(3, seed), f"{seed}.wav")))

    threads = [threading.Thread(target=work, args=(other, seed)) for seed, other in enumerate(others)]
    for thread in threads:
        thread.start()
    ids: set[str] = set()
    while len(ids) < 2:
        seen.append(next(events))
        ids |= {job["id"] for job in seen[-1] if job["name"] in ("0.wav", "1.wav") and job["state"] == "done"}
    for thread in threads:
        thread.join()
    assert {job["state"] for job in jobs} == {"done"} and {job["id"] for job in jobs} == ids
    assert client.stem(jobs[0], "bass") != client.stem(jobs[1], "bass")
    assert all(sum(job["state"] == "running" for job in event) <= 1 for event in seen)


def test_jobs_are_cancelled_and_deleted_in_every_state(client: Client, served: Served):
    running = client.add(song(300), "running.wav")
    waiting = [client.add(song(1), f"waits {number}.wav") for number in range(3)]
    worker = served.freeze_at_work(running)
    try:
        queue = {job["name"]: job["position"] for job in client.get("/jobs") if job["state"] == "queued"}
        assert queue == {"waits 0.wav": 1, "waits 1.wav": 2, "waits 2.wav": 3}
        assert client.ask("GET", f"/jobs/{running['id']}/stems/vocals").json() == {
            "detail": "the job is running; it has stems once it is done"
        }
        assert client.ask("POST", f"/jobs/{waiting[0]['id']}/cancel").json()["state"] == "cancelled"
        assert client.ask("DELETE", f"/jobs/{waiting[1]['id']}").status_code == 204
        assert client.ask("POST", f"/jobs/{running['id']}/cancel").json()["state"] == "cancelled"
    finally:
        worker.resume()
    assert client.follow(waiting[2])["state"] == "done"
    assert client.job(running["id"])["state"] == client.job(waiting[0]["id"])["state"] == "cancelled"
    assert client.ask("POST", f"/jobs/{waiting[2]['id']}/cancel").json()["state"] == "done"
    for job in (running, waiting[0], waiting[2]):
        assert client.ask("DELETE", f"/jobs/{job['id']}").status_code == 204
    for job in (running, *waiting):
        answer = client.ask("GET", f"/jobs/{job['id']}")
        assert (answer.status_code, answer.json()["detail"].split(";")[0]) == (
            404, "this job does not exist, or was deleted",
        )  # fmt: skip
        assert not any(job["id"] in path for path in served.left())
    assert not any(path.startswith("work/") for path in served.left())


def test_a_job_is_deleted_while_it_runs(client: Client, served: Served):
    job = client.add(song(300))
    served.freeze_at_work(job).resume()
    assert client.ask("DELETE", f"/jobs/{job['id']}").status_code == 204
    assert client.follow(client.add(song()))["state"] == "done"
    wait_until(lambda: not any(path.startswith("work/") for path in served.left()), "the removal of half stems")
    assert not any(job["id"] in path for path in served.left())


def test_progress_and_time_left_are_sent_as_events(client: Client):
    states = [event[0] for event in client.events(f"/jobs/{client.add(song(60))['id']}/events")]
    shares = [job["progress"]["share"] for job in states if job["state"] == "running"]
    assert shares == sorted(shares) and all(0 <= share <= 1 for share in shares)
    assert states[-1]["state"] == "done" and states[-1]["progress"] is None
    left = [job["left_s"] for job in states if job["left_s"] is not None]
    assert all(seconds >= 0 for seconds in left)


def test_the_time_left_of_songs_that_wait_adds_up(client: Client, served: Served):
    wait_until(lambda: client.get("/models")[0]["measured"], "the price")
    running = client.add(song(300))
    waiting = [client.add(song(seconds)) for seconds in (60, 30)]
    waiting.append(client.add(song(60), two_stems="vocals"))
    worker = served.freeze_at_work(running)
    try:
        ((separate_s, listen_s),) = json.loads((served.folder / "prices.json").read_text()).values()
        running, *waiting = [client.job(job["id"]) for job in (running, *waiting)]
    finally:
        worker.resume()
    assert (
        running["left_s"] == running["progress"]["left_s"] > 14 * listen_s
    )  # 15 minutes of copies are still to be made
    left = [job["left_s"] for job in (running, *waiting)]
    price_s = separate_s + 3 * listen_s  # of a song and two stems
    assert np.diff(left) == pytest.approx([price_s, price_s / 2, price_s])
    for job in (running, *waiting):
        client.ask("DELETE", f"/jobs/{job['id']}")


def test_every_route_is_documented(client: Client):
    api = client.get("/openapi.json")
    assert {"/jobs", "/jobs/events", "/jobs/{job_id}", "/jobs/{job_id}/cancel", "/models"} <= api["paths"].keys()
    for path, methods in api["paths"].items():
        for method, facts in methods.items():
            assert facts["description"].endswith("."), (method, path)
            assert "HTTPValidationError" not in json.dumps(facts)
            assert facts["security"] == [{"HTTPBearer": []}] and {"401", "403"} <= facts["responses"].keys()
    scheme = api["components"]["securitySchemes"]["HTTPBearer"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert "description" in api["components"]["schemas"]["JobView"]["properties"]["left_s"]
    assert "/static/docs.js" in client.ask("GET", "/docs").text


def test_time_is_in_seconds_since_1970(client: Client):
    job = client.follow(client.add(song()))
    assert abs(job["created_at"] - time.time()) < 3600 and job["ended_at"] >= job["created_at"]

"""Uploads that are too large, stop in the middle, or are not what they seem."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from served import Served, song
from waiting import wait_until

HEAD = "POST /jobs?name=a.wav&model=small HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n"
TOO_LARGE = "the upload is larger than 1 MB, the limit of this server (--max-upload)"


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Served]:
    """A server that takes 1 MB."""
    folder = tmp_path_factory.mktemp("limited") / "served"
    with Served(folder, "-n", model, "--keep-free", "0", "--max-upload", "1") as server:
        yield server


def in_blocks(body: bytes) -> Iterator[bytes]:
    """Yield a body as a client does that does not know its length."""
    for at in range(0, len(body), 10_000):
        yield body[at : at + 10_000]


def test_the_limit_holds_for_what_is_sent_and_for_what_is_stated(limited: Served):
    largest = song(1_000_000 / 32_000)[:1_000_000]
    for body in (largest + b"x", song(60)):
        for sent in (body, in_blocks(body)):
            answer = limited.client.upload(sent)
            assert (answer.status_code, answer.json()) == (413, {"detail": TOO_LARGE})
            assert limited.left() == []
    for sent in (song(31), in_blocks(song(31))):
        job = limited.client.follow(limited.client.add(sent))
        assert (job["state"], job["bytes"]) == ("done", len(song(31)))
        limited.client.ask("DELETE", f"/jobs/{job['id']}")


def test_an_upload_that_stops_without_a_word_is_removed(tmp_path: Path, model: Path):
    constants = {"uploads.SILENCE_S": 0.5}
    with Served(tmp_path / "served", "-n", model, "--keep-free", "0", constants=constants) as server:
        with server.client.connect() as connection:
            connection.sendall(HEAD.format(100_000).encode() + bytes(50_000))
            wait_until(lambda: server.left() != [], "the beginning of the upload")
            answer = connection.makefile("rb").read().decode()  # the connection stays open at this end
            assert server.left() == []
        assert answer.startswith("HTTP/1.1 408 ")
        assert "nothing of the upload arrived for 0.5 s; send it again" in answer
        assert server.client.get("/jobs") == []


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("my song.wav", "ffmpeg -i 'my song.wav' 'my song-converted.wav'"),
        ("SONG.FLAC", "ffmpeg -i SONG.FLAC SONG.wav"),
        ("song.mp3", "ffmpeg -i song.mp3 song.wav"),
        ("song", "ffmpeg -i song song.wav"),
        ("song.m4a", "ffmpeg -i song.m4a song.wav"),
        ("diary.txt", "ffmpeg -i diary.txt diary.wav"),
    ],
)
def test_text_is_refused_whatever_its_name(limited: Served, name: str, command: str):
    answer = limited.client.upload("Liebes Tagebuch für Ängste, ".encode() * 200, name)
    assert answer.status_code == 415
    detail = answer.json()["detail"]
    assert detail.startswith(f"{name}: is not audio that can be read") and detail.endswith(command)
    assert limited.left() == []


@pytest.mark.parametrize("name", ["song.MP3", "song.3gp", "song", "song.txt"])
def test_a_song_is_taken_whatever_its_suffix_says(limited: Served, tmp_path: Path, name: str):
    pytest.importorskip("av")
    from encoded import encode

    noise = np.random.default_rng(0).normal(0, 0.1, (2, 48000)).astype(np.float32)
    body = encode(tmp_path / "a.m4a", noise, "aac").read_bytes()
    job = limited.client.follow(limited.client.add(body, name))
    assert job["state"] == "done" and "decoded with PyAV" in job["result"]["notes"], job
    limited.client.ask("DELETE", f"/jobs/{job['id']}")


def test_a_damaged_song_is_named_as_its_owner_does(limited: Served):
    answer = limited.client.upload(song(1)[:-4000], "my song.wav")
    assert answer.status_code == 415
    assert answer.json()["detail"].endswith("with: ffmpeg -i 'my song.wav' 'my song-repaired.wav'")
    job = limited.client.follow(limited.client.add(b"Dear\0diary", "my song.m4a"))
    assert "ffmpeg -i 'my song.m4a' 'my song.wav'" in job["error"]
    limited.client.ask("DELETE", f"/jobs/{job['id']}")


def test_a_form_is_refused_with_the_way_to_send_a_file(limited: Served):
    for params in ({"name": "a.wav", "model": "small"}, {"model": "small"}, {}):
        answer = limited.client.ask("POST", "/jobs", params=params, files={"file": ("a.wav", song(), "audio/wav")})
        assert answer.status_code == 415
        assert answer.json()["detail"].startswith(
            "the body must be the file itself, not a form: send it with `curl -X POST -T song.mp3 ADDRESS`"
        )
        assert limited.left() == []
    headers = {"Content-Type": "application/x-www-form-urlencoded"}  # as curl --data-binary says, but it is the file
    answer = limited.client.ask(
        "POST", "/jobs", params={"name": "a.wav", "model": "small"}, data=song(), headers=headers
    )
    job = limited.client.follow(answer.json())
    assert job["state"] == "done"
    limited.client.ask("DELETE", f"/jobs/{job['id']}")

"""Catalogues: songs and stems by URI, a record of each song, resume, and stores that fail."""

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import s3
from bandsplit.audio import files as audio
from command_line import run_command
from disks import Disk
from tiny_models import RATE_HZ, write_tiny_model
from waiting import wait_until

s3fs = pytest.importorskip("s3fs")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore", "ignore::DeprecationWarning:aiobotocore")
MODEL = "small.safetensors"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    torch.set_num_threads(1)
    write_tiny_model(MODEL)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[s3.S3]:
    with s3.running(monkeypatch) as store:
        store.make("music", "out")
        yield store


def songs(count: int) -> None:
    for number in range(count):
        path = Path(f"in/{'deep/' * (number % 2)}{number}.wav")
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).uniform(-0.3, 0.3, (2, 2000 + 100 * number))
        audio.write(path, noise.astype(np.float32), RATE_HZ)


def separate(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, list[dict], str]:
    ended = run_command(capsys, "separate", *arguments, "-n", MODEL, "--json")
    return ended.code, [json.loads(line) for line in ended.out.splitlines()], " ".join(ended.err.split())


def stems(content: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in content.items() if name.endswith(".wav")}


def in_folder(folder: str) -> dict[str, bytes]:
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def statuses(rows: list[dict]) -> list[str]:
    return [row["status"] for row in rows]


def test_a_catalogue_in_a_folder_has_the_stems_of_a_manifest_and_a_record_of_each_song(capsys, tmp_path):
    songs(3)
    Path("in/bad.wav").write_text("la")
    assert separate(capsys, "in", "-o", "plain")[0] == 1
    code, rows, text = separate(capsys, "in", "-o", f"file://{tmp_path}/out", "--attempts", "2")
    assert code == 1 and statuses(rows) == ["done"] * 3 + ["failed", "summary"], text
    assert stems(in_folder("out")) == stems(in_folder("plain"))
    *done, failed = [
        json.loads(path.read_text()) for path in (*Path("out/done").iterdir(), *Path("out/failed").iterdir())
    ]
    assert sorted(record["input"] for record in done) == sorted(
        str(tmp_path / f"in/{name}") for name in ("0.wav", "2.wav", "deep/1.wav")
    )
    assert (failed["input"], failed["reason"]) == (str(tmp_path / "in/bad.wav"), "song")
    assert text.count("another attempt follows") == 1
    assert "3 song(s) done, 0 had been done before, 1 failed" in text
    assert rows[-1]["failures"] == {"song": 1} and rows[-1]["kwh_estimated"] > 0
    assert rows[-1]["audio_h"] == pytest.approx(6300 / RATE_HZ / 3600, abs=1e-4)
    (inputs,) = Path("out/inputs").iterdir()
    listed = [json.loads(line)["input"] for line in inputs.read_text().splitlines()]
    assert listed == sorted(listed) and len(listed) == 4


def test_resume_does_what_is_missing_and_forgives_what_is_repaired(capsys, tmp_path):
    songs(2)
    Path("in/bad.wav").write_text("la")
    out = f"file://{tmp_path}/out"
    separate(capsys, "in", "-o", out, "--attempts", "1")
    record = next(Path("out/done").iterdir())
    stem = Path("out") / json.loads(record.read_text())["outputs"]["bass"]
    before = stem.read_bytes()
    record.unlink()  # as if the process had been killed before the commit
    stem.write_bytes(b"half")
    Path("in/bad.wav").unlink()
    audio.write("in/bad.wav", np.full((2, 900), 0.1, np.float32), RATE_HZ)
    code, rows, text = separate(capsys, "in", "-o", out)
    assert (code, statuses(rows)) == (0, ["done", "done", "summary"]), text
    assert rows[-1]["skipped"] == 1 and stem.read_bytes() == before
    assert len(list(Path("out/done").iterdir())) == 3
    # The failure is that of a file with another key, so its record stays as a fact about that file.
    assert statuses(separate(capsys, "in", "-o", out)[1]) == ["summary"]
    assert statuses(separate(capsys, "in", "-o", out, "--force")[1]) == ["done"] * 3 + ["summary"]
    assert statuses(separate(capsys, "in", "-o", out, "--chunk", "5")[1]) == ["done"] * 3 + ["summary"]


def test_songs_and_stems_in_buckets_are_those_of_files(capsys, store):
    songs(4)
    Path("in/notes.txt").write_text("la")
    store.upload(Path("in"), "music")
    separate(capsys, "in", "-o", "plain")
    code, rows, text = separate(capsys, "s3://music", "-o", "s3://out/here", "--jobs", "2")
    assert (code, statuses(rows)) == (0, ["done"] * 4 + ["summary"]), text
    content = {name.removeprefix("here/"): data for name, data in store.content("out").items()}
    assert stems(content) == stems(in_folder("plain"))
    assert sorted(json.loads(data)["input"] for name, data in content.items() if name.startswith("done/")) == [
        "s3://music/0.wav", "s3://music/2.wav", "s3://music/deep/1.wav", "s3://music/deep/3.wav",
    ]  # fmt: skip
    assert "s3://music/0.wav -> s3://out/here/0 (" in text
    assert statuses(separate(capsys, "s3://music", "-o", "s3://out/here")[1]) == ["summary"]
    assert separate(capsys, "s3://music/*.wav", "-o", "local")[0] == 0
    assert stems(in_folder("local")) == {
        name: data for name, data in stems(in_folder("plain")).items() if "deep" not in name
    }


def test_shards_share_a_list_in_a_bucket(capsys, store):
    songs(4)
    store.upload(Path("in"), "music")
    lines = "\n".join(["s3://music/0.wav", "s3://music/deep/1.wav", "s3://music/2.wav", "s3://music/missing.wav"])
    store.client.put_object(Bucket="music", Key="list.txt", Body=lines.encode())
    found = []
    for shard in ("1/2", "2/2"):
        _, rows, _ = separate(capsys, "@s3://music/list.txt", "-o", "s3://out", "--shard", shard, "--attempts", "1")
        found += [row.get("input") for row in rows[:-1]]
    assert sorted(found) == sorted(lines.splitlines())
    content = store.content("out")
    assert len([name for name in content if name.startswith("done/")]) == 3
    (failed,) = (json.loads(data) for name, data in content.items() if name.startswith("failed/"))
    assert (failed["input"], failed["reason"]) == ("s3://music/missing.wav", "fetch")
    assert len([name for name in content if name.startswith("inputs/")]) == 1
    store.upload(Path("in/deep"), "music")
    store.client.copy_object(Bucket="music", Key="missing.wav", CopySource="music/3.wav")
    assert separate(capsys, "@s3://music/list.txt", "-o", "s3://out")[0] == 0


def test_a_damaged_song_of_a_bucket_is_named_by_its_uri(capsys, store):
    Path("in").mkdir()
    Path("in/bad.wav").write_text("la")
    store.upload(Path("in"), "music")
    code, rows, text = separate(capsys, "s3://music", "-o", "s3://out", "--attempts", "1")
    assert (code, statuses(rows)) == (1, ["failed", "summary"])
    assert "failed: s3://music/bad.wav: is not audio that can be read" in text and "/tmp" not in rows[0]["error"]


def test_a_bucket_that_vanishes_stops_the_command_and_a_new_one_continues(capsys, store):
    songs(30)
    store.upload(Path("in"), "music")

    def vanish() -> None:
        wait_until(lambda: any(name.startswith("done/") for name in store.content("out")), "the first record")
        store.remove("out")

    thread = threading.Thread(target=vanish)
    thread.start()
    code, rows, text = separate(capsys, "s3://music", "-o", "s3://out", "--time-limit", "60")
    thread.join()
    assert code == 1 and "s3://out/" in text and "does not exist, or its folder or bucket does not" in text
    assert "run the same command again to continue" in text and "failed" in statuses(rows)
    store.make("out")
    assert separate(capsys, "s3://music", "-o", "s3://out")[0] == 0
    assert len(stems(store.content("out"))) == 60


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("nosuch://bucket/out", "nosuch://bucket/out: nosuch:// is not a known scheme; legal: s3://, gs://, file://"),
        ("s3://missing/out", "s3://missing/out/inputs/"),
    ],
)
def test_a_store_that_does_not_exist_is_reported_before_the_work(capsys, store, out: str, message: str):
    songs(1)
    code, rows, text = separate(capsys, "in", "-o", out)
    assert (code != 0, rows) == (True, []) and message in text, text


def test_a_scheme_whose_package_is_missing_names_the_extra(capsys, monkeypatch):
    songs(1)
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as where it is not installed
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    code, _, text = separate(capsys, "in", "-o", "s3://out")
    assert code == 2 and "s3://out: no package for s3:// is installed; pip install 'bandsplit[remote]'" in text


def test_missing_credentials_are_named_with_where_they_come_from(capsys, store, monkeypatch):
    songs(1)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "nowhere")
    s3fs.S3FileSystem.clear_instance_cache()
    code, rows, text = separate(capsys, "in", "-o", "s3://out")
    assert (code, rows) == (1, []) and "NoCredentialsError" in text and "or AWS_ACCESS_KEY_ID and" in text


def test_a_song_that_takes_too_long_fails_with_that_reason(capsys, tmp_path):
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (2, RATE_HZ * 900)).astype(np.float32)
    audio.write("long.wav", noise, RATE_HZ)
    out = ["-o", f"file://{tmp_path}/out"]
    code, rows, text = separate(capsys, "long.wav", *out, "--time-limit", "0.1", "--attempts", "2")
    assert (code, rows[-1]["failures"]) == (1, {"time": 1}), text
    assert "long.wav: took longer than the time limit; raise it with --time-limit" in text
    assert not stems(in_folder("out")) and len(list(Path("out/failed").iterdir())) == 1
    assert separate(capsys, "long.wav", *out, "--duration", "1")[0] == 0
    assert separate(capsys, "long.wav", *out)[0] == 0
    assert not list(Path("out/failed").iterdir())  # forgiven


def test_a_disk_that_fills_stops_the_command(capsys, tmp_path):
    songs(3)
    disk = Disk(tmp_path / "disk", "full")
    if not disk._mounted:
        pytest.skip("no small disk can be mounted here")
    try:
        assert separate(capsys, "in/0.wav", "-o", f"file://{disk.folder}")[0] == 0
        with disk.broken(0):
            code, rows, text = separate(capsys, "in", "-o", f"file://{disk.folder}")
        assert code == 1 and "No space left on device" in text and len(rows) <= 1, text
        assert separate(capsys, "in", "-o", f"file://{disk.folder}")[0] == 0
    finally:
        disk.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ray-address", "host:1"], "--ray-address host:1: is for --runner ray"),
        (["s3://music", "--dry-run"], "--dry-run: opens the songs, which must be local files"),
    ],
)
def test_options_that_do_not_go_together_are_refused(capsys, store, options: list[str], message: str):
    songs(1)
    store.upload(Path("in"), "music")
    code, _, text = separate(capsys, "in", *options)
    assert code == 2 and message in text, text

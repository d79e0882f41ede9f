"""Songs and stems of a catalogue by URIs of any kind: odd names, signed addresses, equal names, folders in folders."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_cli_catalogues import MODEL, RATE_HZ, in_folder, separate, songs, statuses, stems

import s3
from bandsplit.audio import files as audio
from bandsplit.separation.songs import find_songs
from disks import Disk
from tiny_models import write_tiny_model
from webserver import Server, refuse, serve

pytest.importorskip("s3fs")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore", "ignore::DeprecationWarning:aiobotocore")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    write_tiny_model(MODEL)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[s3.S3]:
    with s3.running(monkeypatch) as store:
        store.make("music", "out")
        yield store


def put(bucket: s3.S3, *names: str) -> None:
    songs(1)
    for name in names:
        bucket.client.upload_file("in/0.wav", "music", name)


def test_a_catalogue_inside_the_folder_of_the_songs_continues(capsys, tmp_path):
    songs(2)
    out = f"file://{tmp_path}/in/out"
    assert separate(capsys, "in", "-o", out)[0] == 0
    Path("in/out/done").joinpath(next(Path("in/out/done").iterdir()).name).unlink()
    code, rows, text = separate(capsys, "in", "-o", out)
    assert (code, rows[-1]["skipped"], statuses(rows)) == (0, 1, ["done", "summary"]), text


def test_stems_below_a_bucket_of_songs_are_no_songs_whatever_the_scheme_is_called(bucket):
    put(bucket, "a.wav", "stems/a/vocals.wav")
    for given, out in (("s3://music", "s3a://music/stems/"), ("s3a://music", "s3://music/stems")):
        assert [song.name for song in find_songs([given], out)] == ["s3://music/a.wav"]
    assert len(find_songs(["s3://music"], "gs://music/stems")) == len(find_songs(["s3://music"], "music/stems")) == 2
    assert len(find_songs(["s3://music/a.wav", "s3a://music/a.wav"], "out")) == 1


def test_names_with_the_signs_of_patterns_are_names(capsys, bucket):
    put(bucket, "Live [2020].wav", "Album [2001]/1.wav", "Album [2001]/cd?/2.wav", "b.wav")
    Path("list.txt").write_text("s3://music/Live [2020].wav\ns3://music/b.wav\n")
    code, rows, text = separate(capsys, "@list.txt", "s3://music/Album [2001]", "-o", "s3://out")
    assert (code, rows[-1]["done"]) == (0, 4), text
    assert {name.rpartition("/")[0] for name in stems(bucket.content("out"))} == {
        "Live [2020]", "b", "1", "cd?/2",
    }  # fmt: skip
    assert [song.name for song in find_songs(["s3://music/[a-c].wav"], "out")] == ["s3://music/b.wav"]
    code, _, text = separate(capsys, "s3://music/[x-z].wav", "-o", "s3://out")
    assert code == 2 and "s3://music/[x-z].wav: no audio files were found" in text


def test_a_signed_address_is_a_song_whose_secret_is_kept(capsys, server: Server, tmp_path):
    songs(1)
    server.pages["/some/a.wav?AWSAccessKeyId=secret&x=*"] = [serve(Path("in/0.wav").read_bytes())]
    server.pages["/some/bad.wav?AWSAccessKeyId=secret"] = [refuse(403)]
    addresses = [f"{server.url}{name}" for name in server.pages]
    out = ["-o", f"file://{tmp_path}/out", "--attempts", "2"]
    code, rows, text = separate(capsys, *addresses, *out)
    assert (code, statuses(rows)) == (1, ["done", "failed", "summary"]), text
    assert f"{server.url}/some/a.wav -> {tmp_path}/out/a (" in text and rows[-1]["failures"] == {"fetch": 1}
    assert rows[0]["input"] == f"{server.url}/some/a.wav" and set(stems(in_folder("out"))) == set(
        rows[0]["outputs"].values()
    )
    kept = [json.dumps(rows), text, *(data.decode() for name, data in in_folder("out").items() if "json" in name)]
    assert len(kept) == 5 and not [part for part in kept if "secret" in part or "AWSAccess" in part]


def test_queries_that_choose_songs_are_distinguished_in_records(capsys, server: Server, tmp_path):
    songs(2)
    for number, name in enumerate(("in/0.wav", "in/deep/1.wav")):
        server.pages[f"/get?id={number}"] = [serve(Path(name).read_bytes())]
    both, out = [f"{server.url}{name}" for name in server.pages], ["-o", f"file://{tmp_path}/out"]
    code, _, text = separate(capsys, *both, *out)
    assert code == 2 and f"{server.url}/get and {server.url}/get: the stems of both would be called" in text
    for address in both:
        assert statuses(separate(capsys, address, *out)[1]) == ["done", "summary"]
    assert statuses(separate(capsys, both[0], *out)[1]) == ["summary"]


def test_songs_of_one_name_get_folders(capsys, bucket):
    put(bucket, "a/song.wav", "b/song.wav")
    lines = ["s3://music/a/song.wav", "s3://music/b/song.wav"]
    code, rows, text = separate(capsys, *lines, "-o", "s3://out/here")
    assert (code, rows) == (2, [])
    assert "the stems of both would be called s3://out/here/song/vocals.wav; choose another --filename" in text
    assert "'{folder}/{track}/{stem}.{ext}'" in text
    code, rows, text = separate(capsys, *lines, "-o", "s3://out/here", "--filename", "{folder}/{track}/{stem}.{ext}")
    assert code == 0, text
    assert {name.rpartition("/")[0] for name in stems(bucket.content("out"))} == {"here/a/song", "here/b/song"}


def test_a_stem_that_would_replace_a_song_of_a_bucket_is_refused(capsys, bucket):
    put(bucket, "a.wav", "a/vocals.wav")
    code, rows, text = separate(capsys, "s3://music/a.wav", "s3a://music/a/vocals.wav", "-o", "s3://music")
    assert (code, rows) == (2, []) and "s3://music/a/vocals.wav: is a song and would become a stem of" in text, text


def test_a_machine_without_room_for_a_song_or_its_stems_fails_that_song_alone(bucket, tmp_path):
    put(bucket, "small.wav")
    long = audio.read("in/0.wav")[0].repeat(1500, axis=1)
    audio.write("huge.wav", long, RATE_HZ)  # its stems have no room
    audio.write("twice.wav", long.repeat(8, axis=1), RATE_HZ)  # nor has this one
    bucket.client.upload_file("huge.wav", "music", "huge.wav")
    bucket.client.upload_file("twice.wav", "music", "twice.wav")
    disk = Disk(tmp_path / "disk", "full")
    if not disk._mounted:
        pytest.skip("no small disk can be mounted here")
    try:
        command = [sys.executable, "-m", "bandsplit", "separate", "s3://music", "-o", "s3://out", "-n", MODEL, "--json"]
        ended = subprocess.run(  # a process of its own: the S3 server of this one needs the temporary folder, too
            [*command, "--attempts", "1"], env=os.environ | {"TMPDIR": str(disk.folder)}, capture_output=True, text=True
        )
    finally:
        disk.close()
    rows, text = [json.loads(line) for line in ended.stdout.splitlines()], " ".join(ended.stderr.split())
    assert (ended.returncode, rows[-1]["done"], rows[-1]["failures"]) == (1, 1, {"room": 2}), text
    assert "s3://music/twice.wav: cannot be copied to" in text and "set TMPDIR to a folder on another disk" in text
    assert "s3://music/huge.wav: its stems wait in the temporary folder of the machine" in text
    failed = [json.loads(data) for name, data in bucket.content("out").items() if name.startswith("failed/")]
    assert [record["reason"] for record in failed] == ["room", "room"]

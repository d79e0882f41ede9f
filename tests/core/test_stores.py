"""Stores: URIs as they are printed, patterns and names that look like them, and disks without room for a copy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import s3
from bandsplit.core.errors import NoRoomError, StoreError
from bandsplit.core.stores import canonical, facts_of, fetch_file, is_pattern, shown, shown_in
from disks import Disk
from webserver import Server, refuse, serve

pytest.importorskip("s3fs")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore", "ignore::DeprecationWarning:aiobotocore")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[s3.S3]:
    with s3.running(monkeypatch) as store:
        store.make("music")
        yield store


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://host/a b.wav?Key=secret", "https://host/a b.wav"),
        ("HTTP://me:secret@host:80/a?b=/x@y#secret", "HTTP://host:80/a"),
        ("https://host/a@b.wav", "https://host/a@b.wav"),
        ("https://host?secret", "https://host"),
        ("s3://music/what?.wav", "s3://music/what?.wav"),
    ],
)
def test_what_may_be_secret_in_an_address_is_not_shown(uri: str, expected: str):
    assert shown(uri) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("403, url='http://h/Don't a b.wav?Key=secret')", "403, url='http://h/Don't a b.wav"),
        ("from http://me:secret@h/a to https://h/b?secret", "from http://h/a to https://h/b"),
        ("http://h/a?secret 'x' secret\nsecond line", "http://h/a\nsecond line"),
        ("s3://music/what? is that", "s3://music/what? is that"),
    ],
)
def test_what_may_be_secret_in_addresses_of_a_text_is_not_shown(text: str, expected: str):
    assert shown_in(text) == expected


def test_schemes_with_two_names_are_one():
    assert canonical("s3a://music/A.wav") == canonical("S3://music/A.wav") == "s3://music/A.wav"
    assert canonical("gcs://music") == "gs://music" != canonical("s3://music")
    assert canonical("s3") == "s3"  # a folder


def test_a_name_that_exists_is_no_pattern_whatever_its_signs(bucket: s3.S3):
    bucket.client.put_object(Bucket="music", Key="Live [2020].wav", Body=b"la")
    bucket.client.put_object(Bucket="music", Key="Album [2001]/1.wav", Body=b"la")
    assert not is_pattern("s3://music/Live [2020].wav") and not is_pattern("s3://music/Album [2001]")
    assert (
        is_pattern("s3://music/Live [2021].wav") and is_pattern("s3://music/*.wav") and is_pattern("s3://music/?.wav")
    )


def test_names_without_signs_and_queries_cost_no_question():
    for uri in ("s3://nowhere/a.wav", "http://127.0.0.1:1/a.wav?sign=[*]"):
        assert not is_pattern(uri)


@pytest.mark.parametrize("status", [403, 500])
def test_a_secret_is_not_in_the_message_of_a_server_that_refuses(server: Server, status: int):
    server.pages["/a.wav?Key=secret"] = [refuse(status)]
    with pytest.raises(StoreError) as caught:
        fetch_file(f"{server.url}/a.wav?Key=secret", Path())
    assert f"{server.url}/a.wav: failed (" in str(caught.value) and str(status) in str(caught.value)
    assert "secret" not in str(caught.value)
    with pytest.raises(StoreError) as caught:
        facts_of(f"{server.url}/none.wav?Key=secret")
    assert f"{server.url}/none.wav: does not exist" in str(caught.value) and "secret" not in str(caught.value)


def test_a_copy_has_the_name_of_the_file_without_the_query(server: Server, tmp_path: Path):
    server.pages["/some/a.wav?Key=secret"] = [serve(b"la")]
    assert fetch_file(f"{server.url}/some/a.wav?Key=secret", tmp_path) == tmp_path / "a.wav"


def test_a_disk_without_room_for_a_copy_is_blamed(bucket: s3.S3, server: Server, tmp_path: Path):
    bucket.client.put_object(Bucket="music", Key="song.wav", Body=bytes(1 << 20))
    server.pages["/other.wav"] = [serve(bytes(1 << 20))]
    disk = Disk(tmp_path / "disk", "full")
    try:
        for uri in ("s3://music/song.wav", f"{server.url}/other.wav"):
            with disk.broken(0), pytest.raises(NoRoomError, match="set TMPDIR to a folder on another disk"):
                fetch_file(uri, disk.folder)
            assert fetch_file(uri, disk.folder).stat().st_size == 1 << 20
    finally:
        disk.close()

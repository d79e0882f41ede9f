"""An S3 server on the loopback address, and what is in its buckets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests


class S3:
    """A running server with a client of its own."""

    def __init__(self, url: str) -> None:
        """Connect."""
        import boto3

        self.url = url
        self.client = boto3.client("s3", endpoint_url=url)

    def reset(self) -> None:
        """Remove everything, also from other servers of this process: they share it."""
        requests.post(f"{self.url}/moto-api/reset", timeout=60).raise_for_status()

    def make(self, *buckets: str) -> None:
        """Make buckets."""
        for bucket in buckets:
            self.client.create_bucket(Bucket=bucket)

    def upload(self, folder: Path, bucket: str) -> None:
        """Copy all files of a folder to a bucket."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.client.upload_file(str(path), bucket, path.relative_to(folder).as_posix())

    def names(self, bucket: str, start: str = "") -> list[str]:
        """List the objects of a bucket whose names start like this."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def content(self, bucket: str) -> dict[str, bytes]:
        """Read all objects of a bucket."""
        names = self.names(bucket)
        return {name: self.client.get_object(Bucket=bucket, Key=name)["Body"].read() for name in names}

    def remove(self, bucket: str) -> None:
        """Remove a bucket with all that is in it, while others may still write."""
        for _ in range(1000):
            for name in self.content(bucket):
                self.client.delete_object(Bucket=bucket, Key=name)
            try:
                self.client.delete_bucket(Bucket=bucket)
            except self.client.exceptions.ClientError:
                continue  # it is not empty
            return
        raise AssertionError(f"{bucket} is never empty")


@contextmanager
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """Run a server, and let this process and its children use it."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()  # they remember the server of an earlier test
    try:
        store = S3(url)
        store.reset()
        yield store
    finally:
        server.stop()

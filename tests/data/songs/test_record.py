"""The md5 of a Zenodo record, from a server that stands for doi.org and zenodo.org."""

import json
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from bandsplit.data.songs.download import MARKER
from downloads import Here, contents
from webserver import Behaviour, damaged, refuse, serve

RECORD = "/api/records/3338373"


@pytest.fixture
def zenodo(here: Here, monkeypatch: pytest.MonkeyPatch) -> Here:
    """Let the server stand for doi.org and zenodo.org: what is sent there arrives here, and only that."""
    send = HTTPAdapter.send

    def reroute(self: Any, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        address = str(request.url)
        host, _, path = address.removeprefix("https://").partition("/")
        assert host in ("doi.org", "zenodo.org") or address.startswith(here.server.url), address
        if not address.startswith(here.server.url):
            request = request.copy()
            request.url = f"{here.server.url}/{path}"
        answer = send(self, request, **options)
        answer.url = address
        return answer

    monkeypatch.setattr(HTTPAdapter, "send", reroute)
    page = "https://zenodo.org/records/3338373"
    here.server.pages["/10.5281/zenodo.3338373"] = [lambda handler: handler.head(302, 0, Location=page)]
    here.server.pages["/records/3338373"] = [serve(b"<html>the record's page</html>")]
    here.server.pages["/records/3338373/files/tiny.zip"] = [serve(here.archive.body)]
    here.server.pages[RECORD] = [serve(record({"key": "tiny.zip", "checksum": f"md5:{here.archive.md5}"}))]
    return here


def record(*files: dict[str, str]) -> bytes:
    return json.dumps({"id": 3338373, "files": list(files)}).encode()


def test_without_a_mirror_archive_and_md5_come_from_zenodo(zenodo: Here, members: dict[str, bytes]):
    folder = zenodo.download(mirror=None, md5=None).folder
    assert contents(folder) == members
    marker = json.loads((folder / MARKER).read_text())
    assert marker["source"] == "https://zenodo.org/records/3338373/files/tiny.zip"
    assert marker["md5"] == zenodo.archive.md5 and zenodo.seen[0] == ("record", 0, 0)


def test_the_archive_of_a_mirror_is_checked_with_the_md5_of_zenodo(zenodo: Here):
    zenodo.mirror_does(serve(damaged(zenodo.archive.body)))
    assert f"not {zenodo.archive.md5}: it was damaged in transit" in zenodo.error(md5=None)
    zenodo.mirror_does(serve(zenodo.archive.body))
    assert zenodo.download(md5=None).new
    assert "/records/3338373/files/tiny.zip" not in [path for path, _ in zenodo.server.asked]


def test_the_later_form_of_zenodos_answer_is_understood(zenodo: Here):
    zenodo.server.pages[RECORD] = [serve(record({"filename": "tiny.zip", "checksum": zenodo.archive.md5}))]
    assert zenodo.download(md5=None, mirror=None).new


def test_a_given_md5_makes_the_record_unnecessary(zenodo: Here):
    assert zenodo.download(mirror=None).new
    assert RECORD not in [path for path, _ in zenodo.server.asked]


@pytest.mark.parametrize(
    ("page", "behaviour", "why"),
    [
        ("/10.5281/zenodo.3338373", refuse(404), "the server answers 404 Not Found"),
        ("/10.5281/zenodo.3338373", refuse(503), "the server answers 503 Service Unavailable"),
        (RECORD, serve(b"<html>come back later</html>"), "unexpected answer"),
        (RECORD, serve(b'{"status": 429, "message": "too many requests"}'), "unexpected answer, KeyError('files')"),
        (RECORD, serve(record({"key": "other.zip", "checksum": "md5:0"})), "unexpected answer, KeyError('tiny.zip')"),
        (RECORD, serve(record({"key": "tiny.zip", "checksum": "sha256:0"})), "sha256 instead of md5"),
    ],
)
def test_a_record_that_cannot_be_read_is_named_with_the_way_round_it(
    zenodo: Here, page: str, behaviour: Behaviour, why: str
):
    zenodo.server.pages[page] = [behaviour]
    message = zenodo.error(md5=None)
    assert message.startswith("https://doi.org/10.5281/zenodo.3338373: the md5 of tiny.zip cannot be read (")
    assert why in message and message.endswith("try again later, or give the md5 with --md5")
    assert zenodo.names == []


def test_a_record_that_is_busy_once_is_asked_again(zenodo: Here):
    redirect = zenodo.server.pages["/10.5281/zenodo.3338373"][0]
    zenodo.server.pages["/10.5281/zenodo.3338373"] = [refuse(503), redirect]
    assert zenodo.download(mirror=None, md5=None).new

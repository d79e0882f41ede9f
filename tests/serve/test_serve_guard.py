"""Who may ask: tokens, origins, names of the machine; and what a browser may do with the answers."""

import ipaddress
import re
import signal
import socket
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from served import Client, Served, song

TOKEN = "correct-horse-battery-staple"
OPEN = ("/", "/docs", "/openapi.json", "/static/serve.js", "/static/player.js", "/static/common.css")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("guarded") / "served", "-n", model, "--host", "0.0.0.0", "--token", TOKEN,
                "--keep-free", "0") as server:  # fmt: skip
        yield server
        assert server.stop(signal.SIGTERM) == 0


def test_without_the_token_only_the_empty_page_is_served(guarded: Served):
    client = guarded.client
    for address in OPEN:
        assert client.ask("GET", address).status_code == 200, address
    for method, address in (
        ("GET", "/about"), ("GET", "/models"), ("GET", "/jobs"), ("GET", "/jobs/events"), ("POST", "/session"),
        ("POST", "/jobs?name=a&model=small"), ("DELETE", f"/jobs/{'0' * 32}"), ("GET", "/nothing"),
    ):  # fmt: skip
        for headers in ({}, {"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Authorization": f"Basic {TOKEN}"}):
            answer = client.ask(method, address, headers=headers)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["detail"].startswith("the token is missing or wrong; send it as `Authorization")
    assert client.upload(song()).status_code == 401
    assert guarded.left() == []


def test_the_address_that_is_printed_can_be_opened(guarded: Served):
    addresses = {found.address for network in psutil.net_if_addrs().values() for found in network}
    host = urlsplit(guarded.url).hostname or ""
    # Without a network it is that of the machine alone.
    assert host in addresses or ipaddress.ip_address(host).is_loopback
    assert f"{guarded.url}/#token={TOKEN}" in guarded.log.read_text().splitlines()
    for name in (host, "music.example"):  # the token is enough, whatever the name
        answer = guarded.client.ask("GET", "/jobs", headers={"Host": name, "Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200


def test_the_address_of_all_networks_of_version_6_is_printed_as_one_of_them(tmp_path: Path, model: Path):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with Served(tmp_path / "served", "-n", model, "--host", "::", "--token", TOKEN) as server:
        host = urlsplit(server.url).hostname
        assert host not in (None, "::") and ":" in host  # and it answers


def test_with_the_token_or_its_cookie_everything_is_served(guarded: Served):
    client = Client(guarded.url, Authorization=f"Bearer {TOKEN}")
    job = client.follow(client.add(song()))
    answer = client.ask("POST", "/session")
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 204 and TOKEN not in cookie
    assert re.search(r"^bandsplit-\d+=[0-9a-f]{64}; HttpOnly; Path=/; SameSite=strict$", cookie)
    browser = Client(guarded.url, Cookie=cookie.partition(";")[0])
    assert browser.stem(job, "bass") == client.stem(job, "bass")
    assert Client(guarded.url, Cookie=cookie.partition(";")[0][:-1]).ask("GET", "/jobs").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "https://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
    ],
)  # fmt: skip
def test_pages_elsewhere_change_nothing(served: Served, headers: dict[str, str]):
    client = served.client
    job = client.follow(client.add(song()))
    before = client.get("/jobs")
    for method, address in (("POST", "/jobs?name=a.wav&model=small"), ("DELETE", f"/jobs/{job['id']}")):
        answer = client.ask(method, address, headers=headers, data=song())
        assert answer.status_code == 403 and answer.json()["detail"].startswith("Origin: changes are accepted only")
    assert client.get("/jobs") == before
    assert "access-control-allow-origin" not in client.ask("GET", "/jobs", headers=headers).headers
    own = client.ask("DELETE", f"/jobs/{job['id']}", headers={"Origin": served.url, "Sec-Fetch-Site": "same-origin"})
    assert own.status_code == 204


def test_without_a_token_other_names_than_this_machines_are_refused(served: Served):
    port = served.url.rpartition(":")[2]
    for name in (f"evil.example:{port}", "evil.example", "127.0.0.1.evil.example", "localhost.", ""):
        answer = served.client.ask("GET", "/jobs", headers={"Host": name})
        assert answer.status_code in (400, 403), name
        assert "access-control-allow-origin" not in answer.headers
    answer = served.client.ask("GET", "/", headers={"Host": "evil.example"})
    assert answer.json()["detail"] == (
        "Host: 'evil.example' is not a name of this server; legal: 127.0.0.1, [::1], localhost; others need --token"
    )
    for name in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "LOCALHOST"):
        assert served.client.ask("GET", "/jobs", headers={"Host": name}).status_code == 200


def test_every_answer_forbids_what_a_page_elsewhere_could_do_with_it(served: Served):
    for address in (*OPEN, "/jobs", "/nothing", "/models"):
        headers = served.client.ask("GET", address).headers
        assert "default-src 'none'" in headers["content-security-policy"], address
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] in ("no-store", "no-cache")


def test_the_page_names_no_address_elsewhere():
    for package in ("bandsplit.serve", "bandsplit.reports.player"):
        for part in ("static", "templates"):
            for file in (files(package) / part).iterdir():
                assert "://" not in file.read_text(encoding="utf-8"), file

"""A page that stays open, in several tabs and while the server stops and starts, in a real browser."""

import json
import os
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

if os.name != "posix":
    pytest.skip("the browser is driven through inherited pipes", allow_module_level=True)

from browser import BROWSER, Browser
from served import Served, song
from served_page import FOCUS, NAMES, SHOWN, STATES, TOKEN, UPLOADS, click
from tiny_models import write_tiny_model
from waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: apt-get install chromium)"),
]

PRICES = "[...document.querySelectorAll('.price')].map((price) => price.textContent)"


class Proxy(BaseHTTPRequestHandler):
    """A proxy in front of a server that is not there."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_error(503)


class Again:
    """A server that starts again and again at one address, with one folder."""

    def __init__(self, folder: Path, *options: str | Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        self.port = int(port)
        self.folder = folder
        self.options: tuple[str | Path, ...] = ("--keep-free", "0", "--port", port, *options)
        self.now = Served(folder, *self.options)

    def start(self, *options: str | Path) -> Served:
        """Start it, with further options."""
        self.now = Served(self.folder, *self.options, *options)
        return self.now


@pytest.fixture
def again(tmp_path: Path, model: Path) -> Iterator[Again]:
    server = Again(tmp_path / "served", "-n", model)
    yield server
    with server.now:
        pass


@pytest.fixture
def browser(again: Again, tmp_path: Path) -> Iterator[Browser]:
    (tmp_path / "browser").mkdir()
    with Browser(tmp_path / "browser", "--hide-scrollbars") as browser:
        browser.look(1200)
        browser.open(f"{again.now.url}/")
        browser.wait(SHOWN)
        yield browser


def log_in(browser: Browser) -> None:
    browser.run(f"document.querySelector('#token').value = {json.dumps(TOKEN)}")
    browser.click("#login button")
    browser.wait(SHOWN)


def test_prices_of_fast_machines_are_distinguished(again: Again, browser: Browser, tmp_path: Path):
    wait_until(lambda: again.now.client.get("/models")[0]["measured"], "the price")
    measured = json.dumps(again.now.client.get("/models")[0]["seconds_per_minute"])
    again.now.stop()
    kept = (again.folder / "prices.json").read_text()
    assert kept.count(measured) == 1
    for seconds, text in ((0.4826, "0.48 s"), (1.44, "1.4 s"), (9.96, "10 s"), (75.2, "75 s")):
        (again.folder / "prices.json").write_text(kept.replace(measured, json.dumps(seconds)))
        again.start()
        browser.wait(PRICES, lambda shown, text=text: shown == [f"{text} per minute of music"])
        again.now.stop()
    again.start("-n", write_tiny_model(tmp_path / "other.safetensors", seed=1))  # and the open page shows new models
    browser.wait(PRICES, lambda shown: len(shown) == 2)


def test_an_open_page_shows_another_model_of_the_same_name(again: Again, browser: Browser, model: Path):
    stems = "[...document.querySelectorAll('#stems option')].map((option) => option.value)"
    chosen = "document.querySelector('.models input:checked').parentElement.innerText"
    browser.run("document.querySelector('.models input').focus()")
    browser.run("window.shown = document.querySelector('.models label')")
    for targets, is_same in ((("vocals", "bass"), True), (("drums", "other"), False)):
        again.now.stop()
        browser.wait("!document.querySelector('#offline').hidden")
        folder = again.folder.with_name(targets[0])
        folder.mkdir()
        again.options = (*again.options[:-1], write_tiny_model(folder / model.name, *targets))
        again.start()
        browser.wait("document.querySelector('#offline').hidden")
        assert browser.run(stems) == ["", *targets]
        assert ", ".join(targets) in browser.run(chosen)
        assert browser.run("window.shown.contains(document.activeElement)") == is_same  # only if needed is it replaced
    assert browser.run("document.querySelectorAll('.models label').length") == 1


def test_hidden_tabs_leave_their_connections_to_the_one_that_is_seen(again: Again, browser: Browser):
    again.now.client.add(song(), "first.wav")
    browser.wait(NAMES, bool)
    others = [browser.tab(f"{again.now.url}/", f"{NAMES}.length === 1") for _ in range(5)]
    assert browser.run("document.hidden")
    browser.run("window.answered = false; fetch('/about').then(() => { window.answered = true; }); 0")
    browser.wait("window.answered")
    again.now.client.add(song(), "while it was hidden.wav")
    others.append(browser.tab(f"{again.now.url}/", f"{STATES}.join() === 'done,done'"))
    assert browser.run(NAMES) == ["first.wav"]
    for tab in others:
        browser.call("Target.closeTarget", targetId=tab)
    browser.call("Page.bringToFront")
    browser.wait(NAMES, lambda names: names == ["while it was hidden.wav", "first.wav"])
    browser.wait(STATES, lambda states: states == ["done", "done"])
    assert browser.problems == []


def test_uploads_outlast_a_restart_of_the_server(again: Again, browser: Browser, tmp_path: Path):
    browser.run("document.querySelector('#format').value = 'flac'")
    again.now.stop()
    browser.wait("!document.querySelector('#offline').hidden")
    for name in ("1.wav", "2.wav"):
        (tmp_path / name).write_bytes(song())
    browser.drop(".drop", tmp_path / "1.wav", tmp_path / "2.wav")
    text = "The server does not answer; the upload begins again when it does"
    browser.wait(UPLOADS, lambda texts: len(texts) == 2 and text in texts[0] and "Waiting to be uploaded" in texts[1])
    browser.click("h1")  # browsers ask only those who used a page
    browser.call("Page.reload")
    wait_until(lambda: browser.call("Page.getNavigationHistory") and browser.questions, "the question")
    assert browser.questions == ["beforeunload"]
    browser.call("Page.handleJavaScriptDialog", accept=False)
    again.start()
    browser.wait(STATES, lambda states: states == ["done", "done"])
    browser.wait(UPLOADS, lambda texts: texts == [])
    assert browser.run("document.querySelector('#offline').hidden")
    assert browser.run("document.querySelector('#format').value") == "flac"
    assert [job["format"] for job in again.now.client.get("/jobs")] == ["flac", "flac"]


def test_uploads_outlast_a_restart_behind_a_proxy(again: Again, browser: Browser, tmp_path: Path):
    (tmp_path / "1.wav").write_bytes(song())
    again.now.stop()
    with ThreadingHTTPServer(("127.0.0.1", again.port), Proxy) as proxy:
        Thread(target=proxy.serve_forever).start()
        browser.drop(".drop", tmp_path / "1.wav")
        browser.wait(UPLOADS, lambda texts: "the upload begins again" in texts[0])
        proxy.shutdown()
    again.start()
    browser.wait(STATES, lambda states: states == ["done"])
    browser.wait(UPLOADS, lambda texts: texts == [])


def test_uploads_wait_for_a_token_that_is_new(again: Again, browser: Browser, tmp_path: Path):
    for name in ("1.wav", "2.wav"):
        (tmp_path / name).write_bytes(song())
    again.now.stop()
    browser.wait("!document.querySelector('#offline').hidden")
    browser.drop(".drop", tmp_path / "1.wav", tmp_path / "2.wav")
    again.start("--token", TOKEN)
    browser.wait(FOCUS, lambda focus: focus == "token")
    refused = "performance.getEntriesByType('resource').filter((request) => request.responseStatus === 401).length"
    before = browser.run(refused)
    browser.wait(refused, lambda number: number > before)  # the uploads tried again
    assert browser.run("document.querySelectorAll('#uploads .error').length") == 0
    log_in(browser)
    browser.wait(NAMES, lambda names: names == ["2.wav", "1.wav"])
    browser.wait(UPLOADS, lambda texts: texts == [])


def test_an_upload_asks_for_a_token_that_the_browser_forgot(again: Again, browser: Browser, tmp_path: Path):
    (tmp_path / "1.wav").write_bytes(song())
    again.now.stop()
    again.start("--token", TOKEN)
    browser.wait(FOCUS, lambda focus: focus == "token")
    log_in(browser)
    browser.call("Network.clearBrowserCookies")
    browser.drop(".drop", tmp_path / "1.wav")
    browser.wait(FOCUS, lambda focus: focus == "token")
    log_in(browser)
    browser.wait(NAMES, lambda names: names == ["1.wav"])


def test_what_cannot_be_done_is_shown_at_the_song(again: Again, browser: Browser):
    again.now.client.follow(again.now.client.add(song()))
    browser.wait(STATES, lambda states: states == ["done"])
    again.now.stop()
    error = (
        "document.querySelector('#list .error').checkVisibility() && document.querySelector('#list .error').innerText"
    )
    click(browser, "song.wav", "Listen")
    browser.wait(error, lambda text: text == "the server does not answer")
    assert browser.run("document.querySelector('.listen').ariaExpanded") == "false"
    again.start()
    browser.wait("document.querySelector('#offline').hidden")
    click(browser, "song.wav", "Listen")
    browser.wait("Boolean(document.querySelector('.song')?.player)")
    assert browser.run("document.querySelector('.listen').ariaExpanded") == "true"
    assert browser.run("document.querySelector('#list .error').hidden")


def test_an_open_page_asks_for_a_token_that_is_new(again: Again, browser: Browser):
    again.now.client.follow(again.now.client.add(song()))
    browser.wait(STATES, lambda states: states == ["done"])
    browser.run("window.same = true")
    again.now.stop()
    again.start("--token", TOKEN)
    browser.wait(FOCUS, lambda focus: focus == "token")
    assert not browser.run(SHOWN)
    log_in(browser)
    browser.wait(STATES, lambda states: states == ["done"])
    assert browser.run("window.same")  # it was not loaded again

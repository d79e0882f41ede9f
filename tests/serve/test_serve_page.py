"""The page in a real browser, against a real server."""

import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

if os.name != "posix":
    pytest.skip("the browser is driven through inherited pipes", allow_module_level=True)

from bandsplit.separation.songs import SUFFIXES
from browser import BROWSER, Browser
from served import Client, Served, song
from served_page import (
    ASK_AGAIN_MS,
    COLOURS,
    FACTS,
    FOCUS,
    NAMES,
    NEWS,
    OUTSIDE,
    SHOWN,
    STATES,
    TOKEN,
    UPLOADS,
    click,
    tab_to,
)
from tiny_models import RATE_HZ
from waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: apt-get install chromium)"),
]

PLAYER = "document.querySelector('.song').player"
# Each start of a source: when in samples, from where in samples, and samples. The first one stops the clock of the
# audio, so that a slow machine has the next piece in time, too.
RECORD_STARTS = """(() => {
  const start = AudioBufferSourceNode.prototype.start;
  window.starts = [];
  AudioBufferSourceNode.prototype.start = function (when, offset) {
    const rate = this.context.sampleRate;
    if (!starts.length) this.context.suspend();
    window.starts.push([when * rate, offset * rate, this.buffer.length]);
    return start.call(this, when, offset);
  };
})()"""
# Level of what is played, in dB below full scale, at the pitch of the song.
HEARD = """(async () => {
  const {master} = document.querySelector(".song").player, {context} = master;
  const analyser = new AnalyserNode(context, {fftSize: 2048, smoothingTimeConstant: 0});
  master.connect(analyser);
  await new Promise((done) => setTimeout(done, 350));
  const levels = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(levels);
  master.disconnect(analyser);
  return Math.max(-200, levels[Math.round(800 * 2048 / context.sampleRate)]);
})()"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("page")
    with Served(folder / "served", "-n", model, "--keep-free", "0", "--token", TOKEN, "--max-upload", "10") as server:
        server.client = Client(server.url, Authorization=f"Bearer {TOKEN}")
        yield server


@pytest.fixture(scope="module")
def browser(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser"), "--hide-scrollbars") as browser:
        browser.look(1200)
        browser.open(f"{served.url}/#token={TOKEN}")
        browser.wait(SHOWN)
        browser.run(RECORD_STARTS)
        browser.run(f"{ASK_AGAIN_MS} = 3_600_000")  # however busy the machine is
        yield browser
        # Of the request without a token, of the large file, and of the text file.
        expected = ("status of 401", "status of 413", "status of 415")
        problems = [
            problem for problem in browser.problems if not any(code in json.dumps(problem) for code in expected)
        ]
        assert problems == []
        assert all(request.startswith((f"{served.url}/", "data:", "about:")) for request in browser.requests)


def delete_all(browser: Browser, served: Served) -> None:
    for job in served.client.get("/jobs"):
        served.client.ask("DELETE", f"/jobs/{job['id']}")
    browser.wait(NAMES, lambda names: names == [])


def test_songs_are_dropped_played_downloaded_and_deleted(browser: Browser, served: Served, tmp_path: Path):
    time_s = np.arange(21 * RATE_HZ) / RATE_HZ
    soundfile.write(tmp_path / "tone <b>.wav", 0.2 * np.sin(2 * np.pi * 800 * time_s), RATE_HZ)
    (tmp_path / "diary.txt").write_text("Dear diary")
    (tmp_path / "large.wav").write_bytes(bytes(11_000_000))
    browser.drop(".drop", *(tmp_path / name for name in ("tone <b>.wav", "diary.txt", "large.wav")))
    browser.wait(STATES, lambda states: states == ["done"])
    assert browser.run(NAMES) == ["tone <b>.wav"]
    refused = browser.wait(UPLOADS, lambda texts: len(texts) == 2 and "is not audio" in "".join(texts))
    assert any("diary.txt" in text and "is not audio that can be read" in text for text in refused)
    assert any("The file is 11 MB; at most 10 MB can be uploaded" in text for text in refused)
    assert browser.run("location.href") == f"{served.url}/"  # neither a token nor a file
    for name in ("diary.txt", "large.wav"):
        click(browser, name, "Remove")
    assert browser.run(UPLOADS) == []

    click(browser, "tone <b>.wav", "Listen")
    browser.wait("Boolean(document.querySelector('.song')?.player)")
    browser.click(".song .track:nth-child(1) .solo")  # the mixture
    browser.click(".song .pictures", at=9.5 / 21)
    browser.click(".song .play")
    starts = browser.wait("starts", lambda starts: len(starts) == 6)
    browser.run(f"{PLAYER}.master.context.resume()")
    assert browser.wait(HEARD, lambda level: level > -30) < 0
    browser.wait(f"{PLAYER}.position > 10.2")
    browser.click(".song .track:nth-child(1) .solo")
    for track in (2, 3):
        browser.click(f".song .track:nth-child({track}) .mute")
    browser.wait(HEARD, lambda level: level < -80)  # the mixture is muted at first
    assert browser.run("document.querySelector('.song .play .word').textContent") == "Pause"
    browser.click(".song .play")
    first, second = starts[:3], starts[3:6]
    assert first[0] == first[1] == first[2] and second[0] == second[1] == second[2]  # all signals on one sample
    (began, offset, samples), (follows, zero, _) = first[0], second[0]
    assert samples == 10 * RATE_HZ and zero == 0
    assert follows - began == pytest.approx(samples - offset, abs=1e-3)  # no gap and no overlap

    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "downloads"))
    for link, file in (("All stems (zip)", "tone _b_.zip"), ("bass", "tone _b_ - bass.wav")):
        click(browser, "tone <b>.wav", link)
        wait_until(lambda file=file: (tmp_path / "downloads" / file).exists(), file)
    (job,) = served.client.get("/jobs")
    bass = served.client.stem(job, "bass")
    assert (tmp_path / "downloads" / "tone _b_ - bass.wav").read_bytes() == bass
    with zipfile.ZipFile(tmp_path / "downloads" / "tone _b_.zip") as archive:
        assert archive.read("tone _b_/bass.wav") == bass
    click(browser, "tone <b>.wav", "Delete")
    assert len(served.client.get("/jobs")) == 1
    browser.click(".song .play")
    browser.run(f"window.player = {PLAYER}; 0")
    browser.wait("player.sources.size")
    click(browser, "tone <b>.wav", "Really delete?")
    browser.wait(NAMES, lambda names: names == [])
    assert browser.run("[player.running, player.sources.size]") == [False, 0]  # it no longer plays


def test_the_queue_is_shown_and_songs_are_cancelled(browser: Browser, served: Served, tmp_path: Path):
    other = served.client  # another client's songs are in the same queue
    running = other.add(song(300), "long.wav")
    worker = served.freeze_at_work(running)
    try:
        (tmp_path / "mine.wav").write_bytes(song())
        browser.drop(".drop", tmp_path / "mine.wav")
        browser.wait(NAMES, lambda names: names == ["mine.wav", "long.wav"])
        facts = browser.wait(FACTS, lambda facts: "Separating, " in facts[1])
        assert facts[0].startswith("Number 1 in the queue")
        assert browser.run("document.querySelectorAll('#list progress:not([hidden])').length") == 1
        click(browser, "mine.wav", "Cancel")
        browser.wait(STATES, lambda states: states == ["cancelled", "running"])
        click(browser, "long.wav", "Cancel")
        browser.wait(STATES, lambda states: states == ["cancelled", "cancelled"])
        assert browser.wait(NEWS) == "long.wav: Cancelled"
    finally:
        worker.resume()
    delete_all(browser, served)


def test_of_folders_the_songs_are_uploaded(browser: Browser, served: Served, tmp_path: Path):
    for place in (
        "album/10.wav",
        "album/9.WAV",
        "album/disc 2/1.wma",
        "album/film.mkv",
        "album/._9.wav",
        "album/cover.jpg",
        "art/1.png",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(song())
    (tmp_path / "single.wav").write_bytes(song())
    assert browser.run("document.querySelector('#songs').accept").split(",") == ["audio/*", *sorted(SUFFIXES)]
    browser.drop(".drop", tmp_path / "single.wav", tmp_path / "album", tmp_path / "art")
    browser.wait(STATES, lambda states: states == ["done"] * 5)
    assert browser.run(NAMES) == ["film.mkv", "1.wma", "10.wav", "9.WAV", "single.wav"]
    browser.wait(UPLOADS, lambda texts: texts == ["art\n\nThis folder has no songs\n\nRemove"])
    click(browser, "art", "Remove")
    delete_all(browser, served)


def test_a_refusal_in_the_middle_of_an_upload_is_shown(browser: Browser, served: Served, tmp_path: Path):
    with (tmp_path / "large.wav").open("wb") as file:
        file.truncate(60_000_000)
    browser.run("Object.defineProperty(File.prototype, 'size', {get: () => 1, configurable: true}); 0")
    browser.drop(".drop", tmp_path / "large.wav")
    reason = "the upload is larger than 10 MB, the limit of this server (--max-upload)"
    browser.wait(UPLOADS, lambda texts: texts == [f"large.wav\n\n{reason}\n\nRemove"])
    assert browser.run(NEWS) == f"large.wav: {reason}"
    browser.run("delete File.prototype.size")
    browser.run("document.querySelector('#uploads button').focus()")
    browser.press("Enter", "\r")
    assert browser.run(UPLOADS) == []
    assert browser.run(FOCUS) == "songs"


def test_songs_are_cancelled_and_deleted_by_keyboard(browser: Browser, served: Served):
    for name in ("first.wav", "second.wav"):
        served.client.follow(served.client.add(song(), name))
    worker = served.freeze_at_work(served.client.add(song(300), "long.wav"))
    try:
        browser.wait(STATES, lambda states: states == ["running", "done", "done"])
        browser.run("document.querySelector('#songs').focus()")
        tab_to(browser, "Cancel long.wav")
        browser.press("Enter", "\r")
        browser.wait(NEWS, lambda news: news == "long.wav: Cancelled")
        assert browser.run(FOCUS) == "Delete long.wav"
    finally:
        worker.resume()
    browser.press("Enter", "\r")
    assert browser.run(NEWS) == "Really delete long.wav?"
    assert browser.run(FOCUS) == "Really delete long.wav?"
    browser.press(" ", " ")
    browser.wait(NAMES, lambda names: names == ["second.wav", "first.wav"])
    assert browser.run(NEWS) == "long.wav: Deleted"
    assert browser.run(FOCUS) == "second.wav"
    for name, then in (("second.wav", "first.wav"), ("first.wav", "jobs")):
        tab_to(browser, f"Delete {name}")
        browser.press("Enter", "\r")
        browser.press("Enter", "\r")
        browser.wait(FOCUS, lambda focus, then=then: focus == then)
    assert browser.run(NAMES) == []


def test_the_first_press_of_delete_is_forgotten(browser: Browser, served: Served):
    served.client.follow(served.client.add(song(), "mine.wav"))
    browser.wait(STATES, lambda states: states == ["done"])
    usual_ms = browser.run(ASK_AGAIN_MS)
    browser.run(f"{ASK_AGAIN_MS} = 1")
    click(browser, "mine.wav", "Delete")
    assert browser.run(NEWS) == "Really delete mine.wav?"
    text = "document.querySelector('#list .actions button:last-child').textContent"
    browser.wait(text, lambda word: word == "Delete")
    browser.run(f"{ASK_AGAIN_MS} = {usual_ms}")
    click(browser, "mine.wav", "Delete")
    assert browser.run(text) == "Really delete?"
    assert browser.run(NAMES) == ["mine.wav"]
    delete_all(browser, served)


def test_a_double_click_deletes_nothing(browser: Browser, served: Served):
    job = served.client.follow(served.client.add(song(), "mine.wav"))
    browser.wait(STATES, lambda states: states == ["done"])
    button, address = "#list .actions button:last-child", f"{served.url}/jobs/{job['id']}"
    browser.click(button)
    browser.click(button, count=2)
    assert browser.run(f"document.querySelector('{button}').textContent") == "Really delete?"
    assert address not in browser.requests
    browser.click(button)
    browser.wait(NAMES, lambda names: names == [])
    assert address in browser.requests


def test_the_page_is_legible_in_the_dark_and_on_a_phone(browser: Browser, served: Served, tmp_path: Path):
    name = f"{'long name ' * 9}{'x' * 60}.wav"
    served.client.follow(served.client.add(song(1), name))
    browser.wait(STATES, lambda states: states == ["done"])
    (tmp_path / "diary.txt").write_text("Dear diary")
    browser.drop(".drop", tmp_path / "diary.txt")
    browser.wait(UPLOADS, lambda texts: "is not audio" in "".join(texts))
    browser.run("document.querySelector('.models input').focus()")
    for reached in ("stems", "format", "songs", "Remove", f"Listen to {name}", f"All stems (zip) of {name}"):
        browser.press("Tab")
        assert browser.run(FOCUS) == reached
    browser.run("document.querySelector('.listen').focus()")
    browser.press("Enter", "\r")
    browser.wait("Boolean(document.querySelector('.song')?.player)")
    browser.click(".song .track:nth-child(1) .solo")
    # All that can be seen at some time.
    browser.run("for (const part of document.querySelectorAll('#offline, #login, #none')) part.hidden = false")
    click(browser, name, "Delete")
    for width, dark in ((360, True), (360, False), (1200, True), (1200, False)):
        browser.look(width, dark=dark)
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run(OUTSIDE) == []
        page, contrasts = browser.run(COLOURS)
        assert page < 0.02 if dark else page > 0.9
        assert {text: contrast for text, contrast in contrasts if contrast < 4.5} == {}
        expected = {
            "Songs into stems, on this machine.",
            "Drop songs or folders here",
            "Continue",
            "Listen",
            "Solo",
            "Remove",
            name,
        }
        assert expected < {text for text, _ in contrasts}
        browser.screenshot(tmp_path / f"{width}-{dark}.png")
    browser.run("for (const part of document.querySelectorAll('#offline, #login, #none')) part.hidden = true")
    click(browser, "diary.txt", "Remove")
    delete_all(browser, served)


def test_without_the_token_the_page_asks_for_it(browser: Browser, served: Served):
    browser.call("Network.clearBrowserCookies")
    browser.open(f"{served.url}/")
    browser.wait("!document.querySelector('#login').hidden")
    assert browser.run("document.querySelector('main').hidden")
    for token, state in (
        ("wrong", "!document.querySelector('#wrong').hidden"),
        (TOKEN, SHOWN),
    ):
        browser.run(f"document.querySelector('#token').value = {json.dumps(token)}")
        browser.click("#login button")
        browser.wait(state)


def test_the_documentation_shows_every_route(browser: Browser, served: Served):
    browser.open(f"{served.url}/docs")
    routes = sum(len(methods) for methods in served.client.get("/openapi.json")["paths"].values())
    browser.wait(f"document.querySelectorAll('#routes .route').length === {routes}")

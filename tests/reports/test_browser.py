"""The report in a real browser: what is heard is measured in its audio graph."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

if os.name != "posix":
    pytest.skip("the browser is driven through inherited pipes", allow_module_level=True)

from bandsplit.core.table import TextTable
from bandsplit.evaluation.results import Score
from bandsplit.reports.page import Report, SongAudio, write_report
from browser import BROWSER, Browser

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: apt-get install chromium)")

RATE_HZ, LENGTH_S = 44100, 20
PITCH_HZ = {"vocals": 800, "bass": 200}
ESTIMATE_HZ = {"vocals": 1600, "bass": 400}
# Peaks in the spectrum of what is played now, in Hz; -1 dB of a full tone of 0.2 is about -20 dB.
HEARD = """(async () => {
  const {master} = document.querySelector(".song").player, {context} = master;
  const analyser = new AnalyserNode(context, {fftSize: 4096, smoothingTimeConstant: 0});
  master.connect(analyser);
  await new Promise((done) => setTimeout(done, 350));
  const levels = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(levels);
  master.disconnect(analyser);
  const bin = context.sampleRate / 4096;
  return [200, 400, 800, 1600].filter((hz) => levels[Math.round(hz / bin)] > -50);
})()"""
POSITION = "document.querySelector('.song').player.position"


def _score(track: str, value: float | None) -> Score:
    return Score(
        system="net",
        data="toys",
        split="test",
        track=track,
        target="vocals",
        metric="usdr_db",
        value=value,
        mixture="sum",
        inference="whole",
        scored_with=("vocals",),
        version="1",
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    time_s = np.arange(RATE_HZ * LENGTH_S) / RATE_HZ

    def write(name: str, signal: np.ndarray) -> Path:
        soundfile.write(folder / f"{name}.wav", signal, RATE_HZ)
        return folder / f"{name}.wav"

    tones = {hz: 0.2 * np.sin(2 * np.pi * hz * time_s) for hz in (200, 400, 800, 1600)}
    references = {stem: write(stem, tones[hz]) for stem, hz in PITCH_HZ.items()}
    estimates = {stem: write(f"{stem} estimate", tones[hz]) for stem, hz in ESTIMATE_HZ.items()}
    # The opposite of a reference: both at once are silent if, and only if, they are in step.
    song = SongAudio("A", write("mixture", -tones[800]), references, {"net": estimates})
    scores = [_score("A", 2.0), _score("B", -10.5), _score("C", None), _score("D", 9.0)]
    table = TextTable("T", ("system", *"abcdefghijklmnop"), (("net", *(["123.45"] * 16)),))
    return write_report(folder / "report", Report("Tones", tables=(table,), scores=scores, songs=(song,)))


@pytest.fixture
def browser(page: Path, tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path) as browser:
        browser.look(1200)
        browser.open(page)
        yield browser
        assert browser.problems == []
        assert all(request.startswith(("file:", "data:")) for request in browser.requests)


def test_play_solo_mute_seek_and_exchange_do_what_they_say(browser: Browser) -> None:
    browser.click(".play")
    browser.wait(f"{POSITION} > 0.2")
    assert browser.run(HEARD) == [400, 1600]  # the estimates; the mixture is muted at first
    browser.click(".track:nth-child(3) .solo")
    assert browser.run("document.querySelector('.track:nth-child(3) .solo').getAttribute('aria-pressed')") == "true"
    assert browser.run(HEARD) == [400]
    before = browser.run(POSITION)
    browser.click(".track:nth-child(3) .versions label:nth-of-type(2)")
    assert browser.run(HEARD) == [200]
    assert before < browser.run(POSITION) < LENGTH_S
    browser.click(".track:nth-child(3) .solo")
    browser.click(".track:nth-child(2) .mute")
    assert browser.run(HEARD) == [200]
    browser.click(".track:nth-child(2) .pictures", at=0.75)
    assert 0.74 * LENGTH_S < browser.run(POSITION) < 0.9 * LENGTH_S
    browser.click(".play")
    stopped = browser.run(POSITION)
    assert browser.run("document.querySelector('.play .word').textContent") == "Play"
    assert browser.run(f"new Promise((done) => setTimeout(() => done({POSITION}), 200))") == stopped
    assert browser.run("document.querySelector('.now').textContent") == f"0:{stopped:04.1f}"


def test_signals_are_in_step_to_the_sample(browser: Browser) -> None:
    browser.click(".play")
    browser.wait(f"{POSITION} > 0.2")
    browser.click("[data-all=reference]")
    browser.click(".track:nth-child(1) .mute")
    assert browser.run(HEARD) == [200]  # 800 Hz of the vocals and of the mixture cancel
    browser.click(".track:nth-child(2) .mute")
    assert browser.run(HEARD) == [200, 800]


def test_scores_are_sorted_by_mouse_and_keyboard_and_filtered(browser: Browser) -> None:
    order = (
        "[...document.querySelectorAll('.scores tbody tr:not([hidden]) th')].map((cell) => cell.textContent).join('')"
    )
    assert browser.run(order) == "ABCD"
    browser.click(".scores th:nth-child(4) button")
    assert browser.run(order) == "DABC"
    browser.run("document.querySelector('.scores th:nth-child(4) button').focus()")
    browser.press("Enter", "\r")
    assert browser.run(order) == "BADC"  # C has no value and stays last
    assert browser.run("document.querySelector('.scores th:nth-child(4)').ariaSort") == "ascending"


@pytest.mark.parametrize("width", [400, 1600])
def test_the_page_fits_the_window(browser: Browser, width: int, tmp_path: Path) -> None:
    browser.look(width, dark=width == 400)
    assert browser.run("document.documentElement.scrollWidth") <= width
    browser.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000

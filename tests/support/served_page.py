"""The page of `bandsplit serve` in a browser: what tests read in it and press."""

import json

from browser import Browser

TOKEN = "correct-horse-battery-staple"
NAMES = "[...document.querySelectorAll('#list h3')].map((name) => name.textContent)"
STATES = "[...document.querySelectorAll('#list .job')].map((job) => job.dataset.state)"
FACTS = "[...document.querySelectorAll('#list .job')].map((job) => job.querySelector('.facts').textContent)"
UPLOADS = "[...document.querySelectorAll('#uploads .job')].map((job) => job.innerText)"
NEWS = "document.querySelector('#news').textContent"
FOCUS = "(({ariaLabel, id, textContent}) => ariaLabel || id || textContent)(document.activeElement)"
ASK_AGAIN_MS = "document.querySelector('#list').dataset.askAgainMs"
"""Time after which "Really delete?" is forgotten."""
SHOWN = "!document.querySelector('main').hidden"


def click(browser: Browser, name: str, text: str) -> None:
    """Press a button or link of a job."""
    browser.run(f"""(() => {{
      const jobs = [...document.querySelectorAll(".job")];
      const job = jobs.find((found) => found.querySelector("h3").textContent === {json.dumps(name)});
      [...job.querySelectorAll("button, a")].find((button) => button.textContent === {json.dumps(text)}).click();
    }})()""")


def tab_to(browser: Browser, name: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(60):
        browser.press("Tab")
        if browser.run(FOCUS) == name:
            return
    raise AssertionError(f"Tab does not lead to {name!r}")


COLOURS = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => parts(colour).slice(0, 3).map((level) => level / 255)
    .map((level) => (level <= 0.04045 ? level / 12.92 : ((level + 0.055) / 1.055) ** 2.4))
    .reduce((sum, level, place) => sum + level * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (element) => {
    const { backgroundColor } = getComputedStyle(element);
    return parts(backgroundColor)[3] === 0 ? behind(element.parentElement) : backgroundColor;
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.data.trim();
    const element = texts.currentNode.parentElement.closest("select") ?? texts.currentNode.parentElement;
    if (!text || element.closest(".unseen, noscript, script") || !element.checkVisibility()) continue;
    const [one, other] = [getComputedStyle(element).color, behind(element)].map(luminance).sort((a, b) => b - a);
    found.push([text, (one + 0.05) / (other + 0.05)]);
  }
  return [luminance(getComputedStyle(document.body).backgroundColor), found];
})()"""
"""Luminance of the page, 0 to 1, and each text that is seen with its contrast, as WCAG 2 defines them."""
OUTSIDE = """[...document.querySelectorAll("main :is(button, a, select, input, h3, p)")]
  .filter((element) => element.checkVisibility())
  .filter((element) => {
    const {left, right} = element.getBoundingClientRect();
    return left < 0 || right > innerWidth;
  }).map((element) => element.outerHTML)"""
"""Texts and controls that are cut off at the sides."""

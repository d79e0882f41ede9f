"""The page of `bandsplit serve` in a browser: what tests read in it and press."""

import json

from browser import Browser

TOKEN = "correct-horse-battery-staple"
NAMES = "[...document.querySelectorAll('#list h3')].map((name) => name.textContent)"
STATES = "[...document.querySelectorAll('#list .job')].map((job) => job.dataset.state)"
FACTS = "[...document.querySelectorAll('#list .job')].map((job) => job.querySelector('.facts').textContent)"
UPLOADS = "[...document.querySelectorAll('#uploads .job')].map((job) => job.innerText)"
NEWS = "document.querySelector('#news').textContent"
SHOWN = "!document.querySelector('main').hidden"


def click(browser: Browser, name: str, text: str) -> None:
    """Press a button or link of a job."""
    browser.run(f"""(() => {{
      const jobs = [...document.querySelectorAll(".job")];
      const job = jobs.find((found) => found.querySelector("h3").textContent === {json.dumps(name)});
      [...job.querySelectorAll("button, a")].find((button) => button.textContent === {json.dumps(text)}).click();
    }})()""")

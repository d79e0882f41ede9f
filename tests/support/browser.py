"""A headless Chromium, driven through its pipe in the DevTools protocol: no driver, no port and no library needed."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from waiting import wait_until

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# Chromium reads commands from file descriptor 3 and writes answers to 4.
_LAUNCHER = "import os, sys; os.dup2({read}, 3); os.dup2({write}, 4); os.execv(sys.argv[1], sys.argv[1:])"


class Browser:
    """One page; collects what goes wrong in it, and what it asks for."""

    def __init__(self, profile: Path, *flags: str) -> None:
        """Start it; ``profile`` is a folder for its files, ``flags`` are added to those that tests need."""
        assert BROWSER
        read, commands = os.pipe()
        answers, write = os.pipe()
        # Numbers that neither 3 nor 4 can hide behind.
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (read, write)]
        self.profile, self.problems, self.requests, self.number = profile, [], [], 0
        self.questions: list[str] = []  # kinds of dialogs that the browser showed
        # Tests may run as root and without a sound card.
        needed = ["--headless", "--no-sandbox", "--disable-audio-output", "--autoplay-policy=no-user-gesture-required"]
        quiet = ["--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage"]
        self.log = (profile / "stderr").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCHER.format(read=high[0], write=high[1]), BROWSER, *needed, *quiet, *flags,
             "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"],
            pass_fds=high, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log,
        )  # fmt: skip
        for end in (read, write, *high):
            os.close(end)
        self.commands, self.answers = os.fdopen(commands, "wb"), os.fdopen(answers, "rb")
        self.session: str | None = None
        page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session = None
        self.call("Browser.close")
        self.process.wait()
        self.log.close()
        self.commands.close()
        self.answers.close()

    def call(self, method: str, **params: Any) -> Any:
        """Send a command and wait for its result, noting the events before it."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.commands.write(json.dumps(message).encode() + b"\0")
        self.commands.flush()
        while True:
            answer = self._receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        received = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            assert byte, "Chromium ended: " + (self.profile / "stderr").read_text(errors="replace")[-2000:]
            received += byte
        return json.loads(received)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event["method"]:
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Network.loadingFailed" if not params.get("canceled"):  # by the page, or as its answer has no body
                self.problems.append(params)
            case "Page.javascriptDialogOpening":
                self.questions.append(params["type"])
            case "Runtime.exceptionThrown":
                self.problems.append(params)
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning"):
                self.problems.append(params)
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.problems.append(params)

    def open(self, page: Path | str) -> None:
        """Load a file or an address, and all that it needs."""
        address = page if isinstance(page, str) else page.as_uri()
        self.call("Page.navigate", url=address)
        self.wait(f"document.readyState === 'complete' && location.href === {json.dumps(address.partition('#')[0])}")

    def tab(self, address: str, until: str) -> str:
        """Open a page in a new tab, which hides the others; return its id once an expression in it is true."""
        page, found = self.session, self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=found, flatten=True)["sessionId"]
        self.open(address)
        self.wait(until)
        self.session = page
        return found

    def run(self, script: str) -> Any:
        """Value of an expression; promises are waited for."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, (script, result["exceptionDetails"])
        return result["result"].get("value")

    def wait(self, script: str, until: Callable[[Any], bool] = bool) -> Any:
        """Value of an expression once it is as wanted."""
        values: list[Any] = []

        def arrived() -> bool:
            values[:] = [self.run(script)]
            return until(values[0])

        wait_until(arrived, script)
        return values[0]

    def click(self, selector: str, at: float = 0.5, count: int = 1) -> None:
        """Press the mouse on an element, at a share of its width; ``count`` 2 is the second press of a double click."""
        place = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            f"e.scrollIntoView({{block: 'center', behavior: 'instant'}}); const b = e.getBoundingClientRect(); "
            f"return [b.left + b.width * {at}, b.top + b.height / 2]; }})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=count)

    def drop(self, selector: str, *files: Path) -> None:
        """Drag files from elsewhere onto an element, once what was just shown is painted; earlier ones can get lost."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        place = self.run(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect(); "
            f"return [b.left + b.width / 2, b.top + b.height / 2]; }})()"
        )
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=place[0], y=place[1], data=data)

    def press(self, key: str, text: str = "") -> None:
        """Press a key where the focus is."""
        code = {"Enter": 13, "Tab": 9, "ArrowRight": 39, "ArrowDown": 40, " ": 32}[key]
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, text=text if kind == "keyDown" else "",
                      windowsVirtualKeyCode=code)  # fmt: skip

    def look(self, width: int, dark: bool = False, scale: float = 1) -> None:
        """Set the width of the window and the colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=scale, mobile=False)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        # Lazy pictures far below are not there before somebody scrolls.
        self.run("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
        self.wait("[...document.images].every(image => image.complete)")
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

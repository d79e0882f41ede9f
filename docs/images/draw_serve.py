"""Draw the page of the server here, with the model of `make demo`: ``.venv/bin/python docs/images/draw_serve.py``."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from bandsplit.data.synth.songs import synthesise_song

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "support"))

from browser import Browser  # noqa: E402
from served import Served, wav  # noqa: E402

DURATION_S, RATE_HZ, SEED = 30.0, 44100, 3
WAITING = ("Paper Boats.wav", "Harbour Lights.wav", "Long Way Up.wav")
PLAYER = "document.querySelector('.song').player"


def draw(browser: Browser, name: str, height: int | None = None) -> None:
    """Write the page, or its last ``height`` pixels, with few colours."""
    path = Path(__file__).parent / name
    browser.screenshot(path)
    with Image.open(path) as picture:
        top = 0 if height is None else picture.height - height
        part = picture.convert("RGB").crop((0, top, picture.width, picture.height))
    part.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def main(demo: Path, folder: Path) -> None:
    """Separate a song, play it, let others wait, and draw the page wide and narrow."""
    model = next(demo.glob("runs/demo/*/*/best.safetensors"), None)
    if model is None:
        sys.exit(f"{demo}: has no trained model; run `make demo` first, or name the folder of another demo")
    (folder / "demo.safetensors").write_bytes(model.read_bytes())
    song = np.sum(list(synthesise_song(SEED, DURATION_S, RATE_HZ).values()), axis=0)
    with (
        Served(folder / "served", "-n", folder / "demo.safetensors", "--keep-free", "0") as served,
        Browser(folder, "--hide-scrollbars") as browser,
    ):
        browser.look(840)
        browser.open(f"{served.url}/")
        browser.wait("document.querySelector('.models').innerText.includes('per minute')")
        served.client.follow(served.client.add(wav(song, RATE_HZ), "Night Train.wav", model="demo"))
        first, *_ = [served.client.add(wav(np.tile(song, 20), RATE_HZ), name, model="demo") for name in WAITING]
        worker = served.freeze_at_work(first)
        (folder / "notes.txt").write_text("Call the drummer")
        browser.drop(".drop", folder / "notes.txt")
        browser.wait("document.querySelector('#uploads').innerText.includes('is not audio')")
        browser.run("[...document.querySelectorAll('.job button')].find((b) => b.textContent === 'Listen').click()")
        browser.wait(f"Boolean({PLAYER.replace('.player', '?.player')})")
        browser.click(".song .track:nth-child(2) .solo")
        browser.click(".song .pictures", at=0.45)
        browser.click(".song .play")
        browser.wait(f"{PLAYER}.position > {DURATION_S / 2}")
        draw(browser, "serve.png")
        browser.look(380, dark=True)
        draw(browser, "serve-phone.png", 1420)
        worker.resume()


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "demo", Path(name))

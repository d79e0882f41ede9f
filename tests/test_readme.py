"""The README is a screen long, and every line of Python that it and the first pages show runs."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bandsplit
from bandsplit.models.files import save_model
from bandsplit.models.importing import import_checkpoint
from places import ROOT
from songs import STEMS
from stand_ins import furnish

README = (ROOT / "README.md").read_text(encoding="utf-8")


def python_of(page: str) -> str:
    """Return the one Python example of a page."""
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    return example


def test_the_readme_is_short_and_its_first_screen_has_a_sentence_a_picture_commands_python_and_three_doors():
    lines = README.splitlines()
    assert len(lines) <= 80
    screen = "\n".join(lines[:28])
    order = [
        "# bandsplit",
        "Separate songs",
        "![Spectrograms",
        "```sh\npip install",
        "bandsplit separate",
        "```python",
        "I make music",
    ]
    places = [screen.index(part) for part in order]
    assert places == sorted(places)
    assert screen.count("\nbandsplit ") == 2
    assert "| I make music | I train models | I reproduce the paper |" in screen
    assert {"make demo", "make test"} == {*re.findall(r"^make \w+", README, re.MULTILINE)}


def test_the_demo_takes_as_long_as_make_says():
    (promised,) = re.findall(r"^make demo .*: (.*)$", README, re.MULTILINE)
    (listed,) = re.findall(r"^demo: .*## .*: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert promised == listed and re.search(r"\bminutes\b", promised)


def test_its_picture_is_small():
    assert (ROOT / "docs" / "images" / "stems.png").stat().st_size < 150_000


@pytest.mark.parametrize("page", ["README.md", "docs/start.md"])
def test_the_first_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    furnish(tmp_path, monkeypatch)
    names: dict[str, Any] = {}
    exec(python_of(page), names)
    stems = names["stems"] if "stems" in names else names["result"].paths
    assert sorted(stems) == sorted(STEMS) and all(path.exists() for path in stems.values())


def test_the_python_of_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    furnish(tmp_path, monkeypatch)
    save_model(Path("bass.safetensors"), *import_checkpoint(Path("bass.ckpt")))
    example = python_of("docs/tour.md")
    # Not only modules that some test before this one has loaded.
    assert set(re.findall(r"bandsplit\.(\w+)[.(]", example)) <= set(bandsplit.__all__)
    random = np.random.default_rng(0)
    audio = random.normal(0, 0.1, (2, 50000)).astype(np.float32)
    references, estimates = random.normal(0, 0.1, (2, 1, 2, 50000))
    import torch

    target, estimate = torch.randn(2, 1, 1, 2, 5000)
    names = {"audio": audio, "references": references, "estimates": estimates, "target": target, "estimate": estimate}
    exec(example, names)
    stems = names["stems"]
    assert isinstance(stems, dict)
    assert stems["bass"].shape == audio.shape

"""Every command and every line of Python on the page of all commands runs."""

import dataclasses
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

import bandsplit
import public_tfc_tdf
from bandsplit.cli import main as cli
from bandsplit.models.bags import BAG_FILE, Bag, write_bag
from bandsplit.models.files import save_model
from bandsplit.models.importing import import_checkpoint
from bandsplit.models.pretrained.registry import MARKER
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.recipes.recipe import apply_changes
from matrices import multiply_small_everywhere
from places import CHECKPOINT, ROOT
from songs import noise_stems, write_song

TOUR = (ROOT / "docs" / "tour.md").read_text()
# One step on half a second.
ONE_STEP = [
    "--set", "training.examples_per_epoch=2", "--set", "training.global_batch=2", "--set", "training.max_epochs=1",
    "--set", "training.excerpt_s=0.5", "--set", "training.mixing.activity=null",  # songs are shorter than its segments
]  # fmt: skip
SMALL = {"model.n_features": 8, "model.n_blocks": 1, "model.mask.hidden_factor": 1}
"""What `base` becomes: the page's commands run as they stand, on a network of the same kind."""
SHORTER = {
    "train": ONE_STEP,
    "plan": ONE_STEP,
    "bench train": ["demo", "--steps", "1"],
    "bench separate": ["--recipe", "demo", "--rounds", "1", "--chunk", "0.5", "--runtime", "plain,torch"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page takes for granted: a checkpoint, two models, a bag that was fetched, a song, a data set."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(CHECKPOINT, tmp_path / "bass.ckpt")
    torch.save(public_tfc_tdf.weights(), tmp_path / "mdx23c.ckpt")
    (tmp_path / "mdx23c.yaml").write_text(yaml.safe_dump(public_tfc_tdf.DOCUMENT))
    soundfile.write("song.mp3", np.random.default_rng(0).normal(0, 0.1, (44100, 2)), 44100)
    for number, split in enumerate(("train", "valid", "test")):
        write_song(tmp_path / "musdb18hq" / split / "Song", noise_stems(number, 44100), 44100)
    (tmp_path / "musdb18hq" / "valid" / "Song").rename(tmp_path / "musdb18hq" / "valid" / "Song V")
    (tmp_path / "musdb18hq" / "test" / "Song").rename(tmp_path / "musdb18hq" / "test" / "Song T")
    write_song(tmp_path / "other-tool" / "Song T", noise_stems(2, 44100), 44100)
    monkeypatch.setenv("BANDSPLIT_CACHE", str(tmp_path / "cache"))
    cache_bag(tmp_path / "cache" / "models" / "htdemucs_ft")
    save_two(tmp_path)
    return tmp_path


def save_two(folder: Path) -> None:
    for name in ("a", "b"):
        save_model(folder / f"{name}.safetensors", *import_checkpoint(CHECKPOINT))


def cache_bag(folder: Path) -> None:
    """Fill the folder of a registered bag in the cache: two models of the bass."""
    folder.mkdir(parents=True)
    save_two(folder)
    write_bag(folder / BAG_FILE, Bag.parse({"members": [{"model": "a.safetensors"}, {"model": "b.safetensors"}]}))
    files = [{"file": path.name, "bytes": path.stat().st_size} for path in sorted(folder.iterdir())]
    (folder / MARKER).write_text(json.dumps({"files": files, "bag": BAG_FILE}))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the recipe that the page trains a small one."""
    base = RECIPES["base"]
    settings = apply_changes(base.settings, SMALL)
    monkeypatch.setitem(RECIPES, "base", dataclasses.replace(base, settings=settings))


def commands() -> list[list[str]]:
    lines = re.findall(r"^bandsplit (.*)$", TOUR, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_every_command_runs_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch):
    named = {command[0] for command in commands()}
    assert named == {
        *(
            "models",
            "separate",
            "data",
            "plan",
            "train",
            "runs",
            "energy",
            "bench",
            "export",
            "evaluate",
            "doctor",
            "study",
        )
    }
    monkeypatch.setattr("bandsplit.training.plan.TRIAL_S", 1.0)
    multiply_small_everywhere(monkeypatch)
    for command in commands():
        arguments = [str(match) for word in command for match in (sorted(folder.glob(word)) if "*" in word else [word])]
        shorter = next((more for start, more in SHORTER.items() if " ".join(command).startswith(start)), [])
        monkeypatch.setattr(sys, "argv", ["bandsplit", *arguments, *shorter])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code, command
    assert soundfile.info("separated/song/bass.wav").frames == soundfile.info("song.mp3").frames
    assert (folder / "results" / "musdb18hq-test.jsonl").exists()


def test_the_python_example_runs(folder: Path, monkeypatch: pytest.MonkeyPatch):
    save_model("bass.safetensors", *import_checkpoint("bass.ckpt"))
    (example,) = re.findall(r"```python\n(.*?)```", TOUR, re.DOTALL)
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

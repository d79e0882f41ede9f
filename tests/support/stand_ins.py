"""What the pages take for granted, small: songs, data sets, checkpoints, models, models that were fetched, runs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

import public_tfc_tdf
from bandsplit.models.bags import BAG_FILE, Bag, write_bag
from bandsplit.models.card import ModelCard
from bandsplit.models.files import save_model
from bandsplit.models.importing import import_checkpoint
from bandsplit.models.network import build_model
from bandsplit.models.pretrained.registry import MARKER
from bandsplit.recipes.catalogue import find_recipe
from places import CHECKPOINT
from run_folders import curve_db, write_run
from songs import STEMS, noise_stems, write_dataset, write_song
from tiny_models import write_tiny_model


def furnish(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``folder`` the current one, with everything that the pages name in it."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("BANDSPLIT_CACHE", str(folder / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    shutil.copy(CHECKPOINT, "bass.ckpt")
    for name in ("mdx23c", "model"):
        torch.save(public_tfc_tdf.weights(), f"{name}.ckpt")
        Path(f"{name}.yaml").write_text(yaml.safe_dump(public_tfc_tdf.DOCUMENT))
    for name in ("a", "b"):
        save_model(Path(f"{name}.safetensors"), *import_checkpoint(CHECKPOINT))
    for name in ("vocals", "bass"):
        write_tiny_model(f"{name}.safetensors", name)
    for name in ("model", "second", "run1", "run2", "run3"):
        write_tiny_model(f"{name}.safetensors", *STEMS)
    put_in_cache(folder / "cache" / "models" / "simo-bsrnn-opt", "model")
    put_in_cache(folder / "cache" / "models" / "htdemucs_ft", "a", "b")
    write_songs()
    write_sets(folder)


def write_songs() -> None:
    """Write songs of a second, long enough for all commands."""
    for name in ("song.mp3", "SONG.mp3", "album/one.wav", "album/two.flac", "live/concert.flac", "bonus.wav"):
        Path(name).parent.mkdir(exist_ok=True)
        soundfile.write(name, np.random.default_rng(0).normal(0, 0.1, (44100, 2)), 44100)
    Path("more.txt").write_text("bonus.wav\n")


def write_sets(folder: Path) -> None:
    """Write data sets, and the stems of other tools for them."""
    for number, (split, name) in enumerate((("train", "Song"), ("valid", "Song V"), ("test", "Song T"))):
        write_song(folder / "musdb18hq" / split / name, noise_stems(number, 44100), 44100)
        flute, harp, *_ = noise_stems(number, 44100).values()
        write_song(folder / "duets" / split / name, {"flute": flute, "harp": harp}, 22050)
    for place in ("other-tool", "umx", "out/htdemucs", "out"):
        write_song(folder / place / "Song T", noise_stems(2, 44100), 44100)


def write_small_songs() -> None:
    """Write the data set of the pages that score tiny models, and stems of another tool for it."""
    write_dataset(Path("songs"), samples=9000)
    shutil.rmtree("other-tool")
    write_song(Path("other-tool/Song 3"), noise_stems(3, 9000))


def write_runs() -> None:
    """Write runs as `train` leaves them."""
    for seed in (1, 2):
        write_run(Path("runs"), curve_db(seed, 12), seed=seed)
    write_run(Path("runs"), curve_db(3, 9), recipe="large")


def write_first_model() -> None:
    """Write a model of the recipe ``demo``, with random weights."""
    config = find_recipe("demo").run_config().model
    torch.manual_seed(0)
    card = ModelCard(name="demo", training_data="none", licence="CC0")
    save_model(Path("first.safetensors"), build_model(config).eval(), card)


def put_in_cache(folder: Path, *names: str) -> None:
    """Fill the folder of a registered model in the cache: a model, or a bag of several."""
    folder.mkdir(parents=True)
    for name in names:
        write_tiny_model(folder / f"{name}.safetensors", *STEMS, seed=ord(name[0]))
    if len(names) > 1:
        write_bag(folder / BAG_FILE, Bag.parse({"members": [{"model": f"{name}.safetensors"} for name in names]}))
    files = [{"file": path.name, "bytes": path.stat().st_size} for path in sorted(folder.iterdir())]
    (folder / MARKER).write_text(json.dumps({"files": files, **({"bag": BAG_FILE} if len(names) > 1 else {})}))

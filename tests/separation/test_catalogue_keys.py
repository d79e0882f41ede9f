"""Keys of the records of a catalogue: the same in every process that separates in the same way."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bandsplit.audio import files as audio
from bandsplit.core.stores import Store
from bandsplit.separation.batch import Batch
from bandsplit.separation.outputs import OutputConfig
from bandsplit.separation.ray_workers import BatchRecipe
from bandsplit.separation.separator import Separator
from bandsplit.separation.songs import find_songs
from tiny_models import RATE_HZ, write_tiny_model

PART = {"start_s": 0.0, "duration_s": None}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    audio.write("song.wav", np.full((2, 900), 0.1, np.float32), RATE_HZ)
    for folder, target in (("a", "bass"), ("b", "drums")):
        Path(folder).mkdir()
        write_tiny_model(Path(folder, "m.safetensors"), target)
    shutil.copy("a/m.safetensors", "plain.safetensors")


def driver(models: Sequence[Path]) -> Batch:
    return Batch(Separator(list(models), device="cpu"), Store("out"), OutputConfig(), **PART)


@pytest.mark.parametrize("names", [["a/m.safetensors", "b/m.safetensors"], ["plain.safetensors", "b/m.safetensors"]])
def test_an_actor_records_what_its_driver_looks_for_in_any_folder(names: list[str], tmp_path: Path, monkeypatch):
    models = [Path(name) for name in names]
    (song,) = (song.absolute() for song in find_songs(["song.wav"], "out"))
    actor = BatchRecipe.of(models, {"device": "cpu"}, "out", OutputConfig(), PART).open()
    actor.separate(song)
    assert driver(models).is_done(song)
    assert not driver(models[:1]).is_done(song)
    shutil.copytree("out", "a/out")
    monkeypatch.chdir("a")
    assert driver([Path("..", name) for name in names]).is_done(song)


def test_models_of_other_content_or_order_are_others_though_their_names_are_equal():
    (song,) = (song.absolute() for song in find_songs(["song.wav"], "out"))
    models = [Path("a/m.safetensors"), Path("b/m.safetensors")]
    driver(models).separate(song)
    assert not driver(models[::-1]).is_done(song)
    write_tiny_model(models[1], "drums", seed=9)
    assert not driver(models).is_done(song)


def test_files_of_models_with_names_of_their_own_are_recorded_by_these():
    (song,) = (song.absolute() for song in find_songs(["song.wav"], "out"))
    record = driver([Path("plain.safetensors"), Path("b/m.safetensors")]).describe(song, "planned")
    assert record["models"].keys() == {"plain.safetensors", "m.safetensors"}


def test_a_driver_needs_neither_the_weights_in_memory_nor_the_device_of_its_workers():
    (song,) = (song.absolute() for song in find_songs(["song.wav"], "out"))
    models = [Path("a/m.safetensors"), Path("b/m.safetensors")]
    driver(models).separate(song)
    described = Separator(list(models), device="cuda:99", load=False)
    assert described._networks == {} and Batch(described, Store("out"), OutputConfig(), **PART).is_done(song)
    late, soon = (Separator(models[0], device="cpu", load=load) for load in (False, True))
    mixture = np.random.default_rng(0).uniform(-0.3, 0.3, (2, 900)).astype(np.float32)
    assert np.array_equal(late.separate(mixture, RATE_HZ)["bass"], soon.separate(mixture, RATE_HZ)["bass"])

"""Which models are known, and which one a name, or no name, means."""

import os
import re
from pathlib import Path

import pytest

from bandsplit.core.errors import ModelFileError
from bandsplit.core.targets import TARGETS
from bandsplit.models.pretrained import registry
from bandsplit.models.pretrained.registry import Entry, cached_files, entries, find_entry, find_models, models_folder
from bandsplit.recipes.catalogue import RECIPES
from checkpoints import Store
from places import CHECKPOINT

BASS = {"bass.ckpt": CHECKPOINT.read_bytes()}


def test_the_authors_models_are_known_the_best_first():
    assert [entry.name for entry in entries()] == ["simo-bsrnn-opt", "bsrnn-opt", "bsrnn-large"]
    assert [entry.average_db for entry in entries()] == [9.79, 9.07, 7.42]


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_every_entry_says_what_a_user_must_know(entry: Entry):
    assert entry.targets == TARGETS and entry.recipe in RECIPES
    parameters_m = RECIPES[entry.recipe].parameters_m
    assert parameters_m is not None and entry.kept_bytes == pytest.approx(4e6 * parameters_m, rel=0.02)
    assert entry.md5 is None or re.fullmatch("[0-9a-f]{32}", entry.md5)
    assert entry.url == f"https://zenodo.org/records/{entry.doi.rpartition('.')[2]}/files"
    notice = entry.notice()
    assert "GB to download" in notice and "as published (authors' repository" in notice
    assert "licence:  not stated by its authors; MUSDB18-HQ is for non-commercial use" in notice


@pytest.mark.parametrize(
    ("typed", "name"),
    [("bsrnn-opt", "bsrnn-opt"), ("obsrnn", "bsrnn-opt"), ("oBSRNN-SIMO", "simo-bsrnn-opt")],
)
def test_a_model_is_found_by_name_and_alias(typed: str, name: str):
    assert find_entry(typed).name == name


def test_an_unknown_name_is_told_the_nearest_and_all():
    with pytest.raises(ModelFileError, match=r"^obsrn: is not a file, .* did you mean 'obsrnn'\? legal: the path "):
        find_models("obsrn")


def test_the_cache_is_the_users_unless_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("BANDSPLIT_CACHE", raising=False)
    assert models_folder().parts[-2:] == ("bandsplit", "models") or os.name == "nt"
    monkeypatch.setenv("BANDSPLIT_CACHE", str(tmp_path / "here"))
    assert models_folder() == tmp_path / "here" / "models"


# --- names -> files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_itself(tmp_path: Path, kind: type):
    (tmp_path / "x.safetensors").touch()
    assert find_models(kind(tmp_path / "x.safetensors")) == [tmp_path / "x.safetensors"]
    assert find_models(kind("missing.safetensors")) == [Path("missing.safetensors")]  # loading it names it


def test_a_folder_means_its_model_files_in_the_order_of_the_targets(tmp_path: Path):
    for name in ("zither", "drums", "vocals"):
        (tmp_path / f"{name}.safetensors").touch()
    assert [path.stem for path in find_models(tmp_path)] == ["vocals", "drums", "zither"]


def test_a_folder_without_models_is_refused(tmp_path: Path):
    with pytest.raises(
        ModelFileError, match="is not a file, a folder with model files or the name of a registered model"
    ):
        find_models(tmp_path)


def test_a_folder_called_like_a_model_does_not_hide_it(store: Store, tmp_path: Path):
    store.has(BASS)
    files = store.install()
    store.patch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert find_models("tiny") == files


def test_a_name_means_the_cached_files(store: Store):
    store.has(BASS)
    with pytest.raises(ModelFileError, match=r"tiny: is not in the cache .* fetch it first .* models fetch tiny$"):
        find_models("otiny")
    files = store.install()
    assert find_models("otiny") == find_models(Path("tiny")) == files == cached_files(store.entry)


def test_a_name_that_is_not_cached_is_offered(store: Store):
    store.has(BASS)
    offered: list[str] = []
    with pytest.raises(ModelFileError, match="is not in the cache"):
        find_models("tiny", lambda entry: offered.append(entry.name))
    assert offered == ["tiny"]
    assert find_models("tiny", lambda entry: store.install()) == cached_files(store.entry) != []


# --- no name ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(store: Store) -> Store:
    """A registry of two models, of which the worse is cached."""
    store.has(BASS)
    store.install()
    better = store.entry.model_copy(update={"name": "better", "recipe": "simo-optimised"})
    store.patch.setattr(registry, "entries", lambda: (better, store.entry))
    return store


def test_without_a_name_the_best_in_the_cache_is_used_and_told(two: Store):
    said: list[str] = []
    assert find_models(say=said.append) == cached_files(two.entry)
    assert said == [
        "model: tiny, the best in the cache (9.07 dB cSDR on average on MUSDB18-HQ, as published; licence: not stated)"
    ]


def test_with_an_empty_cache_the_best_is_offered_then_used(store: Store):
    store.has(BASS)
    said: list[str] = []
    assert find_models((), lambda entry: store.install(), said.append) == cached_files(store.entry) != []
    assert said[0].startswith("model: tiny, the best in the cache")


def test_without_any_the_newest_of_the_demo_is_used_and_called_a_toy(store: Store, tmp_path: Path):
    store.has(BASS)
    store.patch.chdir(tmp_path)
    for age, seed in enumerate(("seed-0-a", "seed-1-b")):
        path = tmp_path / "demo" / "runs" / "demo" / "vocals" / seed / "best.safetensors"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    said: list[str] = []
    assert find_models((), lambda entry: None, said.append) == [Path("demo/runs/demo/vocals/seed-0-a/best.safetensors")]
    assert "on real music it is a toy; better: bandsplit models fetch tiny" in said[0]


def test_without_any_model_the_error_tells_the_ways_to_one(store: Store, tmp_path: Path):
    store.has(BASS)
    store.patch.chdir(tmp_path)
    with pytest.raises(ModelFileError) as caught:
        find_models()
    assert "-n with a model file or a registered name" in str(caught.value)
    assert "bandsplit models fetch tiny" in str(caught.value) and "bandsplit demo" in str(caught.value)

"""Which models are known, and which one a name, or no name, means."""

import os
import re
import shutil
from pathlib import Path

import pytest

from bandsplit.core.errors import ModelFileError
from bandsplit.core.targets import TARGETS
from bandsplit.models.pretrained import registry
from bandsplit.models.pretrained.entries import BagOfFiles, Entry, RemoteFile, Scores, SingleCheckpoint, ZipArchive
from bandsplit.models.pretrained.registry import cached_files, entries, find_entry, find_models, models_folder
from bandsplit.recipes.catalogue import RECIPES
from checkpoints import Store
from places import CHECKPOINT

OTHERS = [("uSDR", "MUSDB18-HQ test"), ("cSDR", "Multisong")]
BASS = {"bass.ckpt": CHECKPOINT.read_bytes()}


ARCHIVES = [entry for entry in entries() if isinstance(entry.source, ZipArchive)]
CHECKPOINTS = [entry for entry in entries() if isinstance(entry.source, SingleCheckpoint)]
BAGS = [entry for entry in entries() if isinstance(entry.source, BagOfFiles)]
PUBLIC = re.compile(r"https://(github\.com|huggingface\.co|dl\.fbaipublicfiles\.com|zenodo\.org)/")


def test_the_best_of_the_comparable_models_come_first():
    assert {entry.name: entry.average_db for entry in entries()[:6]} == {
        "simo-bsrnn-opt": 9.79, "bsrnn-opt": 9.07, "htdemucs_ft": 9.0, "mdx": 7.68, "kuielab-mdx-net": 7.5,
        "bsrnn-large": 7.42,
    }  # fmt: skip
    assert sorted(values := [entry.average_db or 0 for entry in entries()], reverse=True) == values
    assert {entry.average_db for entry in entries()[6:]} == {None}
    assert all(entry.scores[0].comparable for entry in entries()[:6])
    assert [entry.name for entry in entries() if entry.saw_test_songs] == ["mdx_extra"]


@pytest.mark.parametrize("entry", ARCHIVES, ids=lambda entry: entry.name)
def test_every_archive_says_what_a_user_must_know(entry: Entry):
    source = entry.source
    assert isinstance(source, ZipArchive) and entry.recipe in RECIPES and entry.targets == TARGETS
    parameters_m = RECIPES[entry.recipe].parameters_m
    assert parameters_m is not None and entry.kept_bytes == pytest.approx(4e6 * parameters_m, rel=0.02)
    assert source.md5 is None or re.fullmatch("[0-9a-f]{32}", source.md5)
    assert source.url == f"https://zenodo.org/records/{source.doi.rpartition('.')[2]}/files"
    notice = entry.notice()
    assert "GB to download" in notice and "as published (authors' repository" in notice
    assert "licence:  not stated by its authors; MUSDB18-HQ is for non-commercial use" in notice


@pytest.mark.parametrize("entry", CHECKPOINTS, ids=lambda entry: entry.name)
def test_every_checkpoint_says_what_a_user_must_know(entry: Entry):
    source = entry.source
    assert isinstance(source, SingleCheckpoint) and entry.recipe is None
    assert entry.kept_bytes == pytest.approx(source.bytes, rel=0.01 if source.sha256 else 0.1)
    assert ("digest:   first 8 digits of the sha256" in entry.notice()) == (len(source.sha256 or "") == 8)
    assert ("digest:   none is known" in entry.notice()) == (entry.lack == "md5") == (source.sha256 is None)
    assert source.config is None or re.fullmatch("[0-9a-f]{64}", source.config.sha256)
    assert (source.config is None) or (source.document is None)
    assert (entry.lack == "config") == (entry.targets == ())
    for address in (source.url, source.page, *([source.config.url] if source.config else [])):
        assert PUBLIC.match(address)
    if source.document is not None and "training" in source.document:
        wanted = source.document["training"]["target_instrument"]
        assert entry.targets == ((wanted,) if wanted else tuple(source.document["training"]["instruments"]))
    notice = entry.notice()
    assert f"family:   {entry.family}" in notice and "B to download" in notice
    assert "licence:  not stated" in notice or "licence:  MIT, on the model card" in notice
    assert "MUSDB18-HQ" in notice


@pytest.mark.parametrize("entry", [*CHECKPOINTS, *BAGS], ids=lambda entry: entry.name)
def test_a_file_with_digits_in_its_name_is_registered_with_them(entry: Entry):
    """Publishers of packages name files by the first digits of their sha256."""
    files = entry.source.files if isinstance(entry.source, BagOfFiles) else [entry.source]
    for file in files:
        assert isinstance(file, RemoteFile)
        if file.file.endswith(".th"):
            assert file.sha256 and file.sha256.startswith(re.split(r"[-.]", file.file)[1])


@pytest.mark.parametrize("entry", BAGS, ids=lambda entry: entry.name)
def test_every_bag_is_complete_and_says_what_a_user_must_know(entry: Entry):
    source = entry.source
    assert isinstance(source, BagOfFiles) and entry.recipe is None and entry.lack is None
    assert entry.kept_bytes == pytest.approx(source.bytes, rel=0.01)
    assert all(PUBLIC.match(address) for address in (source.page, *(file.url for file in source.files)))
    members = [member.model for bag in source.bags.values() for member in bag.members]
    assert sorted([*members, "bag.yaml"]) == sorted([*source.models, *source.bags])
    assert {file.into for file in source.files} <= {*members}
    weighted = [member.weights for member in source.bags["bag.yaml"].members]
    assert None in weighted or {target for its in weighted for target in its or ()} == set(entry.targets)
    for bag in source.bags.values():
        for member in bag.members:
            assert f"{member.model}: " in entry.notice()
    assert ("first 8 digits of the sha256" in entry.notice()) == any(file.vague for file in source.files)
    assert all(file.sha256 for file in source.files)


def test_scores_on_the_songs_of_the_training_are_marked():
    seen = CHECKPOINTS[0].model_copy(update={"saw_test_songs": True})
    assert "(with the MUSDB18-HQ test songs: its scores on them mean nothing)" in seen.notice()


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
        "model: tiny, the best in the cache (9.07 dB cSDR on average on MUSDB18-HQ test, as published; "
        "licence: not stated)"
    ]


def test_a_score_that_cannot_be_compared_never_makes_a_model_the_best(store: Store):
    """More decibels of another metric, or on other songs, mean nothing."""
    store.has(BASS)
    store.install()
    values = {"bass": 99.0, "average": 99.0}
    scores = [Scores(metric=metric, data=data, values_db=values, source="x") for metric, data in OTHERS]
    others = [
        store.entry.model_copy(update={"name": f"other-{n}", "recipe": None, "published": score})
        for n, score in enumerate([*((one,) for one in scores), ()])
    ]
    for other in others:
        shutil.copytree(registry.folder_of(store.entry), registry.folder_of(other))
    said: list[str] = []
    store.patch.setattr(registry, "entries", lambda: (store.entry, *others))
    assert find_models(say=said.append) == cached_files(store.entry) and said[0].startswith("model: tiny, the best")
    shutil.rmtree(registry.folder_of(store.entry))
    with pytest.raises(ModelFileError, match=r"no model was named, .* \(other-0, .*\) cannot be compared; name one"):
        find_models()
    shutil.rmtree(registry.folder_of(others[0]))
    shutil.rmtree(registry.folder_of(others[2]))
    assert find_models(say=said.append) == cached_files(others[1])
    assert said[1] == (
        "model: other-1, the only one in the cache (99.0 dB cSDR on average on Multisong, as published, not "
        "comparable; licence: not stated)"
    )


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

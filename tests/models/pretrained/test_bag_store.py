"""Published bags: several files become one model in the cache, complete or absent."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock

import dummy_family
from bag_entries import FIRST, SECOND, bag_entry, file_of, filters, has, lists_two, mixer
from bandsplit.core.errors import ModelFileError
from bandsplit.models.bags import read_bag
from bandsplit.models.card import read_card
from bandsplit.models.families import FAMILIES
from bandsplit.models.pretrained import store as model_store
from bandsplit.models.pretrained.registry import MARKER, all_files, cached_files, find_models, model_files
from bandsplit.tools.loading import load_separator
from checkpoints import Store
from command_line import run_command
from downloads import HASTY
from webserver import cut, damaged

FOUR = ["bass", "drums", "other", "vocals"]


@pytest.fixture(autouse=True)
def dummy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "dummy", dummy_family.FAMILY)


def names_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_files_are_fetched_and_imported_and_the_bag_is_the_model(store: Store):
    lists_two(store, saw_test_songs=True)
    seen: list[tuple[str, int, int]] = []
    (file,) = store.install(progress=lambda *news: seen.append(news))
    assert file == store.cache / "models" / "tiny" / "bag.yaml" and store.names == ["tiny"]
    assert names_of(file.parent) == ["a.safetensors", "b.safetensors", "bag.yaml", MARKER]
    assert [path.name for path in model_files(store.entry)] == ["a.safetensors", "b.safetensors"]
    bag = read_bag(file)
    assert bag.name == "tiny" and [member.model for member in bag.members] == ["a.safetensors", "b.safetensors"]
    assert [member.weights for member in bag.members] == [{"vocals": 1.0}, None]
    config, card = read_card(file.with_name("b.safetensors"))
    sha256 = hashlib.sha256(SECOND).hexdigest()
    assert config.targets == ("bass",) and (card.name, card.source_sha256) == ("tiny-b", sha256)
    assert card.source == f"two.ckpt (sha256 {sha256}) of https://weights.invalid/about" and card.scores == {}
    assert card.saw_test_songs is True
    downloads = [(done, total) for stage, done, total in seen if stage == "download"]
    assert {total for _, total in downloads} == {len(FIRST) + len(SECOND)} == {downloads[-1][0]}
    assert [done for done, _ in downloads] == sorted(done for done, _ in downloads)


def test_a_fetched_bag_separates_with_its_weights_by_its_name(store: Store, tmp_path: Path):
    lists_two(store)
    store.install()
    model_store.copy_model(store.entry, tmp_path)
    mixture = np.random.default_rng(0).normal(0, 0.1, (2, 4000)).astype(np.float32)
    for names in ("tiny", tmp_path / "tiny"):
        found = load_separator(names, device="cpu").separate(mixture, 8000)
        for target, gain in (("vocals", 0.5), ("bass", 0.25)):  # the first model's bass has no weight
            np.testing.assert_allclose(found[target], gain * mixture, atol=1e-6)


def test_a_cached_bag_is_used_without_asking_anyone(store: Store):
    lists_two(store)
    files = store.install()
    store.server.asked.clear()
    store.patch.setenv("BANDSPLIT_OFFLINE", "1")
    assert store.install() == files == find_models("tiny") == cached_files(store.entry) and store.server.asked == []


def test_a_mixer_goes_into_its_bag_which_may_be_inside_another(store: Store):
    matrix = torch.arange(80.0).reshape(8, 10)
    bodies = {f"{name}.onnx": filters(name) for name in FOUR} | {"mixer.ckpt": mixer(matrix), "all.th": filters(*FOUR)}
    files = [file_of(f"{name}.onnx", bodies[f"{name}.onnx"], f"{name}.safetensors", [name]) for name in FOUR]
    files.append(file_of("mixer.ckpt", bodies["mixer.ckpt"], "mixed.yaml"))
    files.append(file_of("all.th", bodies["all.th"], "all.safetensors", FOUR))
    inside = {"members": [{"model": f"{name}.safetensors"} for name in FOUR]}
    outside = {"members": [{"model": "mixed.yaml", "weights": {"bass": 0.5}}, {"model": "all.safetensors"}]}
    store.lists(bag_entry(files, {"bag.yaml": outside, "mixed.yaml": inside}, targets=FOUR))
    has(store, bodies)
    (file,) = store.install()
    assert read_bag(file).mixer is None and len(model_files(store.entry)) == 5
    mixed = read_bag(file.with_name("mixed.yaml"))
    assert mixed.mixer is not None and mixed.name == "mixed"
    assert torch.equal(torch.tensor(mixed.mixer.matrix), matrix) and mixed.mixer.targets == tuple(FOUR)


# --- what goes wrong on the way --------------------------------------------------------------------------------------


def test_a_download_that_breaks_in_the_second_file_continues_there(store: Store):
    lists_two(store)
    store.server.pages["/models/two.ckpt"] = [cut(SECOND)]
    assert "run the same command again to continue from there" in store.error(patience=HASTY)
    downloads = store.cache / "models" / "tiny.downloads"
    assert names_of(downloads) == ["one.ckpt", "two.ckpt.part"]
    arrived_bytes = (downloads / "two.ckpt.part").stat().st_size
    has(store, {"two.ckpt": SECOND})
    store.server.asked.clear()
    seen: list[tuple[str, int, int]] = []
    assert store.install(progress=lambda *news: seen.append(news)) and store.names == ["tiny"]
    assert store.server.asked == [("/models/two.ckpt", f"bytes={arrived_bytes}-")] and arrived_bytes > 0
    assert next(done for stage, done, _ in seen if stage == "download") > len(FIRST) + arrived_bytes


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ({"sha256": "0123abcd"}, "not 0123abcd... (its first 8 digits): it was damaged in transit or is another file"),
        ({"sha256": 8 * "0123abcd"}, f"not {8 * '0123abcd'}: it was damaged in transit or is another file"),
    ],
)
def test_a_file_of_another_digest_is_removed_and_none_is_a_model(store: Store, second: dict[str, Any], expected: str):
    lists_two(store, second)
    message = store.error()
    assert f"has sha256 {hashlib.sha256(SECOND).hexdigest()}, {expected}" in message
    assert message.endswith("or a folder with local copies of one.ckpt, two.ckpt with --archive")
    assert names_of(store.cache / "models" / "tiny.downloads") == ["one.ckpt"]


def test_a_size_is_a_limit_of_a_twentieth_more_where_it_is_rounded(store: Store):
    lists_two(store, {"bytes": len(SECOND) - 1})
    assert "two.ckpt: is another file: it has 0.2 MB or more" in store.error()
    lists_two(store, {"bytes": len(SECOND) - 1, "exact": False})
    assert store.install()


def test_a_file_of_other_targets_is_no_member(store: Store):
    lists_two(store, targets=["vocals", "drums"])
    assert "one.ckpt: is a model of bass, which tiny does not have; remove it (bandsplit models rem" in store.error()
    lists_two(store, targets=["vocals", "bass", "drums"])
    assert "tiny: is not tiny: it needs vocals, bass, drums, and has vocals, bass; remove it " in store.error()


@pytest.mark.parametrize("harm", ["a.safetensors", "bag.yaml"])
def test_a_cached_bag_with_a_damaged_file_is_no_model_and_is_fetched_again(store: Store, harm: str):
    lists_two(store)
    (file,) = store.install()
    broken = file.with_name(harm)
    broken.write_bytes(broken.read_bytes()[:-1])
    assert cached_files(store.entry) == all_files(store.entry) == []
    assert store.install() == [file] == cached_files(store.entry)


# --- offline, copies -------------------------------------------------------------------------------------------------


def test_copies_in_a_folder_need_no_network_and_are_checked_and_kept(store: Store, tmp_path: Path):
    lists_two(store)
    store.patch.setenv("BANDSPLIT_OFFLINE", "1")
    assert store.error() == (
        "tiny: is not in the cache, and BANDSPLIT_OFFLINE forbids downloads; unset it, or copy one.ckpt, two.ckpt to a "
        "folder on this machine and give that with --archive"
    )
    folder = tmp_path / "by hand"
    folder.mkdir()
    (folder / "one.ckpt").write_bytes(FIRST)
    assert store.error(archive=folder) == (
        f"{folder / 'two.ckpt'}: no such file; name a folder with two.ckpt of https://weights.invalid/about"
    )
    (folder / "two.ckpt").write_bytes(damaged(SECOND))
    assert store.error(archive=folder).startswith(f"{folder / 'two.ckpt'}: its sha256 is ")
    (folder / "two.ckpt").write_bytes(SECOND)
    assert store.install(archive=folder) and store.server.asked == [] and store.names == ["tiny"]
    assert names_of(folder) == ["one.ckpt", "two.ckpt"]


def test_options_of_other_sources_are_refused(store: Store, tmp_path: Path):
    lists_two(store)
    assert store.error(md5=32 * "0").endswith("the sha256 of each file of tiny is registered; leave --md5 out")
    assert store.error(config=tmp_path).endswith("of tiny are registered, or in its files; leave --config out")


def test_removal_leaves_nothing_of_a_bag_or_of_its_downloads(store: Store):
    lists_two(store)
    store.server.pages["/models/two.ckpt"] = [cut(SECOND)]
    store.error(patience=HASTY)
    freed_bytes = sum(path.stat().st_size for path in (store.cache / "models" / "tiny.downloads").iterdir())
    assert freed_bytes > len(FIRST)
    assert model_store.remove_model(store.entry) == freed_bytes and store.names == []
    has(store, {"two.ckpt": SECOND})
    (file,) = store.install()
    size_bytes = sum(path.stat().st_size for path in file.parent.iterdir())
    assert model_store.remove_model(store.entry) == size_bytes and store.names == []
    assert model_store.remove_model(store.entry) == 0


def test_a_bag_is_copied_out_as_a_folder_that_works(store: Store, tmp_path: Path):
    lists_two(store)
    with pytest.raises(ModelFileError, match="fetch it first"):
        model_store.copy_model(store.entry, tmp_path)
    store.install()
    copies = model_store.copy_model(store.entry, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in copies] == [
        "tiny/a.safetensors",
        "tiny/b.safetensors",
        "tiny/bag.yaml",
    ]
    assert [path.read_bytes() for path in copies] == [path.read_bytes() for path in all_files(store.entry)]
    assert find_models(tmp_path / "tiny") == [tmp_path / "tiny" / "bag.yaml"]
    with pytest.raises(ModelFileError, match=r"a.safetensors: exists already; .* --force"):
        model_store.copy_model(store.entry, tmp_path)


WAIT = """
import sys
import dummy_family
from bandsplit.models.families import FAMILIES
from bandsplit.models.pretrained.store import install_model
from bandsplit.models.pretrained.entries import Entry
FAMILIES["dummy"] = dummy_family.FAMILY
def tell(stage, done, total): print(stage, flush=True) if stage == "wait" else None
print(*install_model(Entry.model_validate_json(sys.argv[1]), progress=tell), flush=True)
"""


def test_two_processes_that_fetch_the_same_bag_wait_for_each_other(store: Store):
    lists_two(store)
    (store.cache / "models").mkdir(parents=True)
    held = FileLock(store.cache / "models" / ".tiny.lock")
    held.acquire()  # so that the other process comes second
    store.patch.setenv("PYTHONPATH", ":".join(sys.path))
    command = [sys.executable, "-c", WAIT, store.entry.model_dump_json()]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline().strip() == "wait"
    held.release()
    (file,) = store.install()
    out, _ = other.communicate()
    assert out.strip() == str(file) and other.returncode == 0
    assert len(store.server.asked) == 2


# --- the commands ----------------------------------------------------------------------------------------------------


def test_a_bag_is_listed_shown_fetched_copied_and_removed_as_one_model(
    store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    scores = [{"metric": metric, "data": "noise", "values_db": {"bass": 1.5}, "source": "x"} for metric in ("A", "B")]
    lists_two(store, published=scores)
    store.patch.setenv("COLUMNS", "100")

    def run(*arguments: Any) -> str:
        ended = run_command(capsys, "models", *arguments)
        assert ended.code == 0, ended.err
        return " ".join((ended.out + ended.err).split())

    listed = run("list")
    assert "dummy: tiny to fetch A - 1.50 - - - bag of 2 0.5 > 1.0 MB B - 1.50 - - - = otiny" in listed
    assert "scores: A on noise (x) scores: B on noise (x)" in listed
    assert "digest: first 8 digits of the sha256, of 1 of 2 files" in listed
    shown = run("show", "tiny")
    assert "bag: a.safetensors: vocals 1 b.safetensors: every target 1 quality: A" in shown
    assert "source: https://weights.invalid/about one.ckpt (0.2 MB) two.ckpt (0.2 MB) digest: first 8" in shown
    assert json.loads(run("show", "tiny", "--json"))[0]["cached"] is False
    assert "tiny: 2 model file(s) in " in run("fetch", "tiny", "--yes") and "tiny cached" in run("list")
    shown, bag = run("show", "tiny"), cached_files(store.entry)[0]
    assert f"in cache: {bag} " in shown and "name tiny-a" in shown and "name tiny-b" in shown
    facts = json.loads(run("show", "tiny", "--json"))
    assert [Path(one["file"]).name for one in facts] == ["a.safetensors", "b.safetensors"]
    assert f"{bag.parent / 'a.safetensors'} (vocals 1): overlap-add" in run("show", bag)
    assert json.loads(run("show", bag, "--json"))["bag"]["members"][0]["weights"] == {"vocals": 1.0}
    assert len(run("export", "tiny", tmp_path).split()) == 3
    assert "MB freed" in run("remove", "tiny") and store.names == []


# --- members of a user's bag -----------------------------------------------------------------------------------------


def test_a_folder_or_path_of_a_bag_is_the_bag_alone(tmp_path: Path):
    (tmp_path / "a.safetensors").touch()
    (tmp_path / "bag.yaml").write_text("members: [{model: a.safetensors}]")
    assert find_models(tmp_path) == find_models(tmp_path / "bag.yaml") == [tmp_path / "bag.yaml"]
    assert find_models("missing.yml") == [Path("missing.yml")]  # loading it names it


def test_registered_members_are_offered_and_files_are_not(store: Store, tmp_path: Path):
    lists_two(store)
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.safetensors").touch()
    (tmp_path / "inner" / "bag.yaml").write_text("members: [{model: otiny}, {model: ../mine.yaml}]")
    (tmp_path / "mine.yaml").write_text("members: [{model: a.safetensors}, {model: inner}, {model: gone.safetensors}]")
    offered: list[str] = []

    def fetch(entry: Any) -> None:
        offered.append(entry.name)
        store.install()

    assert find_models(tmp_path / "mine.yaml", fetch) == [tmp_path / "mine.yaml"] and offered == ["tiny"]
    assert find_models(tmp_path / "mine.yaml", fetch) == [tmp_path / "mine.yaml"] and offered == ["tiny"]
    model_store.remove_model(store.entry)
    with pytest.raises(ModelFileError, match=r"bag\.yaml: members: number 1: tiny: is not in the cache .* fetch it fi"):
        find_models(tmp_path / "mine.yaml")
    (tmp_path / "mine.yaml").write_text("members: [{model: tini}]")
    with pytest.raises(ModelFileError, match=r"mine\.yaml: members: number 1: tini: is not a file, .* 'tiny'\?"):
        find_models(tmp_path / "mine.yaml", fetch)

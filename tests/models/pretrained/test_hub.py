"""Models on the Hub, from a page to the cache: on a server that speaks its API, and that lies, breaks, refuses."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from bandsplit.core.errors import BandsplitError
from bandsplit.core.fetching import Patience
from bandsplit.models.bags import Bag, BagMember, write_bag
from bandsplit.models.card import read_card
from bandsplit.models.pretrained.hub import look_up, parse_hub_name
from bandsplit.models.pretrained.registry import MARKER, find_entry, find_models, known_entries
from bandsplit.models.pretrained.sources import Sources
from bandsplit.models.pretrained.store import copy_model, entry_to_remove, install_model, remove_model
from bandsplit.separation.separator import Separator
from checkpoints import Store
from disks import largest_file
from downloads import CALM
from hub_server import CUT, TOKEN, Hub, Repository
from places import CHECKPOINT
from tiny_models import write_tiny_model
from webserver import serve

PAGE, NAME = "ada/tiny", "hf:ada/tiny"
ONE_TRY = Patience(timeout_s=30, retries=0, pause_s=0)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """Two models of one target each, and what else lies on a page."""
    made = [write_tiny_model(tmp_path / f"{name}.safetensors", name, card={"licence": f"CC0 ({name})"})
            for name in ("bass", "vocals")]  # fmt: skip
    return {path.name: path.read_bytes() for path in made} | {"README.md": b"# tiny", "old/bass.safetensors": b"no"}


def large(folder: Path) -> dict[str, bytes]:
    """Return a model of which some arrives before a connection breaks."""
    path = write_tiny_model(folder / "large.safetensors", "bass", n_features=48)
    assert path.stat().st_size > 2 * CUT
    return {"bass.safetensors": path.read_bytes()}


def fetch(name: str = NAME, patience: Patience = CALM, **sources: Any) -> list[Path]:
    return install_model(look_up(name), Sources(**sources), patience=patience)


def error(name: str = NAME, **options: Any) -> str:
    with pytest.raises(BandsplitError) as caught:
        fetch(name, **options)
    return str(caught.value)


def in_cache(store: Store) -> list[str]:
    return [name for name in store.names if not name.startswith(".")]


def test_the_files_of_a_page_are_kept_as_they_are_and_used_by_its_name(hub: Hub, store: Store, files: dict[str, bytes]):
    commit = hub.has(PAGE, files)
    paths = fetch()
    assert [path.name for path in paths] == ["vocals.safetensors", "bass.safetensors"]  # in the order of all tables
    assert {path.name: path.read_bytes() for path in paths} == {
        name: files[name] for name in ("bass.safetensors", "vocals.safetensors")
    }
    assert in_cache(store) == ["hf--ada--tiny"]
    hub.asked.clear()
    store.patch.setenv("BANDSPLIT_OFFLINE", "1")
    assert find_models(NAME) == paths and hub.asked == []
    entry = find_entry(NAME)
    assert entry in known_entries() and entry.targets == ("vocals", "bass") and entry.family == "bsrnn"
    assert entry.licence == "CC0 (vocals); CC0 (bass)" and entry.source.page == f"{hub.url}/ada/tiny/tree/{commit}"
    assert Separator(paths, device="cpu").targets == ("vocals", "bass")


def test_a_revision_is_another_model_beside_the_newest(hub: Hub, store: Store, files: dict[str, bytes]):
    old = hub.has(PAGE, {"bass.safetensors": files["bass.safetensors"]})
    hub.has(PAGE, {"vocals.safetensors": files["vocals.safetensors"]})
    assert [path.name for path in fetch()] == ["vocals.safetensors"]
    assert [path.name for path in fetch(f"{NAME}@{old[:12]}")] == ["bass.safetensors"]
    assert in_cache(store) == ["hf--ada--tiny", f"hf--ada--tiny@{old[:12]}"]


def test_a_fetched_page_is_copied_and_removed_like_any_model(
    hub: Hub, store: Store, files: dict[str, bytes], tmp_path: Path
):
    hub.has(PAGE, files)
    fetch()
    copies = copy_model(find_entry(NAME), tmp_path / "out")
    assert [path.name for path in copies] == ["hf--ada--tiny-vocals.safetensors", "hf--ada--tiny-bass.safetensors"]
    assert remove_model(find_entry(NAME)) > 0 and in_cache(store) == []


def test_a_bag_comes_with_its_members(hub: Hub, files: dict[str, bytes], tmp_path: Path):
    members = (BagMember(model="bass.safetensors"), BagMember(model="vocals.safetensors"))
    write_bag(tmp_path / "bag.yaml", Bag(name="both", members=members))
    hub.has(PAGE, files | {"bag.yaml": (tmp_path / "bag.yaml").read_bytes()})
    (bag,) = fetch()
    assert bag.name == "bag.yaml" and set(Separator([bag], device="cpu").targets) == {"bass", "vocals"}


@pytest.mark.parametrize(
    "member", ["../../../secret.safetensors", "/etc/x.safetensors", "other.safetensors", "htdemucs"]
)
def test_a_bag_that_names_files_of_others_is_refused(
    hub: Hub, store: Store, files: dict[str, bytes], tmp_path: Path, member: str
):
    write_bag(tmp_path / "bag.yaml", Bag(members=(BagMember(model=member),)))
    hub.has(PAGE, files | {"bag.yaml": (tmp_path / "bag.yaml").read_bytes()})
    assert f"members: number 1 ({member}) is not a model file of its page" in error()
    assert in_cache(store) == []


# --- a page that lies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ({"lfs": {"size": 1000}, "size": 1000}, "is another file: it has 0.0 MB or more, the expected maximum is"),
        ({"lfs": {"size": 10**6}, "size": 10**6}, None),  # the right digest: a size that is too large does no harm
        ({"lfs": {"size": 10**15}, "size": 10**15}, "in a way that cannot be right: bytes: Input should be less"),
        ({"lfs": {"size": 10**10}, "size": 10**10 + 1}, "states sizes of bass.safetensors that cannot be right"),
        ({"lfs": {"size": -1}, "size": -1}, "in a way that cannot be right: bytes: Input should be greater"),
        (
            {"lfs": {"sha256": "0" * 64}},
            f"not {'0' * 64}: it was damaged in transit or is another file; it was removed",
        ),
        ({"lfs": {"sha256": "../../etc"}}, "in a way that cannot be right: sha256: String should match pattern"),
        ({"lfs": None}, "has no sha256 of bass.safetensors, so a download could not be checked"),
        ({"rfilename": None}, "has a file 'None', which leads out of its folder"),
    ],
)
def test_sizes_and_digests_that_are_not_right_are_found(
    hub: Hub, store: Store, files: dict[str, bytes], lie: dict[str, Any], message: str | None
):
    hub.has(PAGE, files)
    hub.lies["bass.safetensors"] = lie
    if message is None:
        assert len(fetch()) == 2
        return
    assert message in error() and [name for name in in_cache(store) if not name.endswith(".downloads")] == []
    assert list(store.cache.rglob("*bass*")) == []


@pytest.mark.parametrize(
    "path",
    [
        "../evil.safetensors",
        "/tmp/evil.safetensors",
        "a/../../evil.bin",
        "..\\evil.safetensors",
        "C:\\evil.safetensors",
    ],
)
def test_a_name_that_leads_out_of_the_folder_is_refused_before_any_download(
    hub: Hub, store: Store, files: dict[str, bytes], path: str
):
    hub.has(PAGE, files | {path: b"evil"})
    message = error()
    assert "which leads out of its folder; nothing was fetched" in message and repr(path) in message
    assert hub.paths() == [f"/api/models/{PAGE}"] and store.names == []


@pytest.mark.parametrize(
    "path", ["a b.safetensors", ".hidden.safetensors", "-n.safetensors", "a\nb.safetensors", "é.safetensors"]
)
def test_a_name_that_is_not_plain_is_refused(hub: Hub, files: dict[str, bytes], path: str):
    hub.has(PAGE, files | {path: files["bass.safetensors"]})
    message = error()
    assert "names of model files may have letters, digits and ._+-" in message and "\n" not in message


@pytest.mark.parametrize(
    "content",
    [CHECKPOINT.read_bytes(), b"\x80\x04\x95 cos\nsystem\n(S'touch evil'\ntR.", b"", b"\xff" * 100,
     b"\x10\0\0\0\0\0\0\0{\"a\":1}        "],
    ids=["torch", "pickle", "empty", "long header", "no tensors"],
)  # fmt: skip
def test_what_is_no_model_under_a_safetensors_name_is_refused_and_forgotten(
    hub: Hub, store: Store, files: dict[str, bytes], content: bytes
):
    hub.has(PAGE, files | {"bass.safetensors": content})
    if content:
        message = error()
        assert message.startswith("bass.safetensors: is not a model file or is damaged (")
        assert "ask its publisher" in message and f"({hub.url}/ada/tiny/tree/" in message
    else:
        assert "bytes: Input should be greater than or equal to 1" in error()
    assert in_cache(store) == [] and list(store.cache.rglob("evil")) == []


def test_a_safetensors_file_of_other_software_is_named_as_such(hub: Hub, files: dict[str, bytes]):
    hub.has(PAGE, {"model.safetensors": save({"x": np.zeros(3)})})
    assert "model.safetensors: is a safetensors file, but not a bandsplit model" in error()


def test_a_server_that_sends_another_file_is_found_by_the_digest(hub: Hub, store: Store, files: dict[str, bytes]):
    hub.has(PAGE, files)
    hub.serves["bass.safetensors"] = files["vocals.safetensors"][: len(files["bass.safetensors"])]
    assert f"not {hashlib.sha256(files['bass.safetensors']).hexdigest()}: it was damaged" in error()
    hub.serves.clear()
    assert len(fetch()) == 2


def test_a_page_without_model_files_says_what_it_has(hub: Hub):
    hub.has(PAGE, {"model.ckpt": b"x", "README.md": b"y"})
    assert "no .safetensors file at its top level (files: model.ckpt, README.md); fetch a checkpoint" in error()


# --- what vanishes, breaks, is private -------------------------------------------------------------------------------


def test_a_revision_that_is_not_there_and_one_that_vanishes(hub: Hub, store: Store, files: dict[str, bytes]):
    hub.has(PAGE, files)
    assert "has no revision v2 (any more); its page lists those that it has" in error(f"{NAME}@v2")
    hub.after_listing = lambda: hub.pages.update({PAGE: Repository()})
    message = error()
    assert "the server answers 404 Not Found" in message and "still has it" in message
    assert in_cache(store) in ([], ["hf--ada--tiny.downloads"])
    with pytest.raises(BandsplitError, match=f"{NAME}: is not in the cache .*; fetch it first: bandsplit models fetch"):
        find_models(NAME)


def test_a_broken_download_is_resumed_where_it_stopped_even_after_another_commit(
    hub: Hub, store: Store, tmp_path: Path
):
    files = large(tmp_path)
    hub.has(PAGE, files)
    hub.cuts = 1
    assert "that arrived are kept, run the same command again to continue from there" in error(patience=ONE_TRY)
    hub.has(PAGE, files | {"README.md": b"# better"})
    (part,) = store.cache.rglob("*.part")
    begun = part.stat().st_size
    assert begun > 0
    assert len(fetch()) == 1 and in_cache(store) == ["hf--ada--tiny"]


def test_what_a_broken_download_left_can_be_removed(hub: Hub, store: Store, tmp_path: Path):
    hub.has(PAGE, large(tmp_path))
    hub.cuts = 1
    error(patience=ONE_TRY)
    assert remove_model(entry_to_remove(NAME)) > 0 and in_cache(store) == []
    with pytest.raises(BandsplitError, match="is not in the cache"):
        entry_to_remove(NAME)


def test_a_full_disk_is_one_message_and_the_download_is_resumed(hub: Hub, store: Store, files: dict[str, bytes]):
    hub.has(PAGE, files)
    with largest_file(len(files["bass.safetensors"]) // 2):
        message = error()
    assert "cannot be written or read (File too large)" in message and "BANDSPLIT_CACHE" in message
    assert len(fetch()) == 2


def test_a_private_page_needs_the_token_which_no_other_server_gets(hub: Hub, store: Store, files: dict[str, bytes]):
    hub.has(PAGE, files, private=True)
    assert "no such model, or shows it only to some; check the name, and if it is private, set HF_TOKEN" in error()
    store.patch.setenv("HF_TOKEN", "hf_wrong")
    assert "answers 401" in error() and "the token is not accepted or lacks the right" in error()
    store.patch.setenv("HF_TOKEN", TOKEN)
    assert len(fetch()) == 2
    sent = {path.split("/")[1]: token for _, path, token in hub.asked}
    assert sent == {"api": TOKEN, "ada": TOKEN, "store": None}  # where the Hub's address leads to is another server


def test_terms_that_must_be_accepted_are_named_with_the_page(hub: Hub, files: dict[str, bytes]):
    hub.has(PAGE, files, gated=True)
    assert f"wants terms to be accepted; do so on {hub.url}/ada/tiny, then set HF_TOKEN" in error()


def test_nothing_is_asked_offline(hub: Hub, store: Store):
    store.patch.setenv("BANDSPLIT_OFFLINE", "1")
    assert "BANDSPLIT_OFFLINE forbids downloads; unset it, or copy its .safetensors files" in error()
    assert hub.asked == []


def test_a_hub_that_is_not_there_or_is_none(hub: Hub, store: Store):
    hub.has(PAGE, {})
    hub.refuses["/api"] = 503
    assert f"{hub.url} answers 503 (refused); try again later" in error()
    store.patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    message = error()
    assert "http://127.0.0.1:9 cannot be reached" in message and "name a mirror of the Hub with HF_ENDPOINT" in message
    store.patch.setenv("HF_ENDPOINT", store.server.url)
    for answer in (b"<html>", b"[1]", b'{"id": "ada/tiny", "sha": "x"}', b'{"id": "a", "siblings": [{}]}'):
        store.server.pages[f"/api/models/{PAGE}?blobs=true"] = [serve(answer)]
        message = error()
        assert "is not that of a Hub" in message or "does not say which commit it shows ('x')" in message
    store.patch.setenv("HF_ENDPOINT", "huggingface")
    assert "HF_ENDPOINT: 'huggingface' is not an address" in error()


def test_a_mirror_gives_the_files_but_not_the_digests(hub: Hub, store: Store, files: dict[str, bytes]):
    hub.has(PAGE, files)
    for name in ("bass.safetensors", "vocals.safetensors"):
        store.server.pages[f"/files/ada/tiny/{name}"] = [serve(files[name])]
    assert len(fetch(mirror=f"{store.server.url}/files")) == 2
    assert hub.paths() == [f"/api/models/{PAGE}"] and len(store.server.asked) == 2


@pytest.mark.parametrize(
    "text", ["hf:tiny", "hf:", "hf:a/b/c", "hf:../b", "hf:a/..", "hf:a/b@", "hf:a/b@../c", "hf:a/b@x y", "hf:a--b/c"]
)
def test_a_malformed_name_is_refused(text: str):
    with pytest.raises(BandsplitError, match="must be hf:OWNER/NAME or hf:OWNER/NAME@REVISION"):
        parse_hub_name(text)


@pytest.mark.parametrize("options", [{"md5": "0" * 32}, {"config": Path("c.yaml")}, {"archive": Path("a.safetensors")}])
def test_options_of_other_sources_are_refused(hub: Hub, files: dict[str, bytes], options: dict[str, Any]):
    hub.has(PAGE, files)
    assert "leave" in error(**options)


def test_a_marker_that_was_changed_by_hand_is_not_a_model(hub: Hub, files: dict[str, bytes]):
    hub.has(PAGE, files)
    marker = fetch()[0].parent / MARKER
    facts = json.loads(marker.read_text())
    facts["entry"]["name"] = "hf:eve/../../x"
    marker.write_text(json.dumps(facts))
    assert [entry for entry in known_entries() if not entry.listed] == []


def test_the_card_of_a_fetched_file_is_the_publishers(hub: Hub, files: dict[str, bytes]):
    hub.has(PAGE, files)
    assert [read_card(path)[1].licence for path in fetch()] == ["CC0 (vocals)", "CC0 (bass)"]

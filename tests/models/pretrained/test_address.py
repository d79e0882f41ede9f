"""Models named by an address and a digest: model files as they are, and checkpoints of other software, imported."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from bandsplit.core.errors import BandsplitError
from bandsplit.models.card import read_card
from bandsplit.models.pretrained.address import entry_at
from bandsplit.models.pretrained.entries import Entry
from bandsplit.models.pretrained.registry import MARKER, find_entry, find_models
from bandsplit.models.pretrained.sources import Sources
from bandsplit.models.pretrained.store import install_model
from checkpoints import Store
from downloads import CALM
from hub_server import TOKEN, Hub
from places import CHECKPOINT
from tiny_models import write_tiny_model
from webserver import cut, damaged, refuse, serve


class There:
    """A file at an address."""

    def __init__(self, store: Store, path: Path, query: str = "") -> None:
        store.patch.delenv("BANDSPLIT_MIRROR")
        self.store, self.body = store, path.read_bytes()
        self.sha256 = hashlib.sha256(self.body).hexdigest()
        self.url = f"{store.server.url}/some/{path.name}{query}"
        self.page = store.server.pages.setdefault(f"/some/{path.name}{query}", [serve(self.body)])

    def entry(self, sha256: str | None = None, name: str | None = None, **sources: Any) -> Entry:
        return entry_at(self.url, sha256 or self.sha256, name, Sources(**sources))

    def fetch(self, name: str | None = None, **sources: Any) -> list[Path]:
        return install_model(self.entry(None, name, **sources), Sources(**sources), patience=CALM)

    def error(self, sha256: str | None = None, name: str | None = None, **sources: Any) -> str:
        with pytest.raises(BandsplitError) as caught:
            install_model(self.entry(sha256, name, **sources), Sources(**sources), patience=CALM)
        return str(caught.value)


@pytest.fixture
def there(store: Store, tmp_path: Path) -> There:
    return There(store, write_tiny_model(tmp_path / "mine.safetensors", "bass", card={"licence": "CC0"}), "?key=secret")


def test_a_model_file_is_kept_as_it_is_under_its_name_or_another(there: There):
    (path,) = there.fetch()
    assert path.read_bytes() == there.body and find_models("mine") == [path]
    assert find_entry("mine").licence == "CC0" and find_entry("mine").targets == ("bass",)
    (other,) = there.fetch("yours")
    assert other.parent.name == "yours" and there.store.names == ["mine", "yours"]


def test_a_secret_in_an_address_is_not_stored(there: There):
    (path,) = there.fetch()
    assert "secret" not in (path.parent / MARKER).read_text() and "secret" not in find_entry("mine").notice()


def test_a_checkpoint_is_imported_without_running_it(store: Store):
    there = There(store, CHECKPOINT)
    (path,) = there.fetch("authors")
    config, card = read_card(path)
    assert config.targets == ("bass",) and card.source_sha256 == there.sha256
    assert card.source == f"{CHECKPOINT.name} (sha256 {there.sha256}) of {there.url}"
    assert card.licence == find_entry("authors").licence != ""


def test_the_same_again_is_the_cached_model_and_another_needs_another_name(there: There, tmp_path: Path):
    there.fetch()
    there.store.server.asked.clear()
    there.store.patch.setenv("BANDSPLIT_OFFLINE", "1")
    assert there.fetch()[0].exists() and there.store.server.asked == []
    message = there.error("1" * 64)
    assert "mine: is in the cache already, from http" in message and "choose another name with --name" in message


@pytest.mark.parametrize("name", ["htdemucs", "otiny", "a/b", "hf:a", "..", "x.safetensors", "x.yaml", ""])
def test_a_name_that_is_taken_or_would_be_a_path_is_refused(there: There, name: str):
    there.store.register(b"", aliases=["otiny", "htdemucs"])
    assert "choose another with --name" in there.error(name=name)


@pytest.mark.parametrize(
    ("sha256", "message"), [("12", "--sha256 12: must be 64 digits"), ("g" * 64, "must be 64 digits of 0-9 and a-f")]
)
def test_a_malformed_digest_is_refused(there: There, sha256: str, message: str):
    assert message in there.error(sha256)
    with pytest.raises(BandsplitError, match="--sha256 is missing; a download is compared with the digest"):
        entry_at(there.url, None, None, Sources())


@pytest.mark.parametrize(
    "url", ["https://", "https://a:b@host/x.ckpt", "https://host/", "https://host/a%2F..", "https://host/%00x"]
)
def test_an_address_without_the_plain_name_of_a_file_is_refused(url: str):
    with pytest.raises(BandsplitError, match=r"must be the address of a file|does not end with the plain name"):
        entry_at(url, "0" * 64, None, Sources())


def test_a_damaged_download_is_removed_and_a_broken_one_resumed(there: There):
    there.page[:] = [serve(damaged(there.body))]
    assert "it was damaged in transit or is another file; it was removed" in there.error()
    there.page[:] = [serve(there.body), cut(there.body), serve(there.body)]
    assert there.fetch()[0].read_bytes() == there.body


def test_what_is_no_model_is_refused_and_forgotten(store: Store, tmp_path: Path):
    (tmp_path / "x.safetensors").write_bytes(b"\x80\x04\x95 cos\nsystem\n(S'touch evil'\ntR.")
    message = There(store, tmp_path / "x.safetensors").error()
    assert message.startswith("x.safetensors: ") and "nothing was kept" in message
    assert store.names == []


def test_a_refusal_and_a_server_that_does_not_say_the_size(there: There):
    there.page[:] = [refuse(404)]
    assert "the server answers 404 Not Found; name another source with --mirror, or copy it" in there.error()
    there.page[:] = [lambda handler: handler.head(200, 0)]
    assert "does not say how large the file is; copy it to this machine" in there.error()


def test_a_local_copy_a_mirror_and_no_network(there: There, tmp_path: Path):
    there.store.patch.setenv("BANDSPLIT_OFFLINE", "1")
    assert "mine: is not in the cache, and BANDSPLIT_OFFLINE forbids downloads; unset it, or for http" in there.error()
    assert "no such file; name a local copy" in there.error(archive=tmp_path / "none.safetensors")
    copy = tmp_path / "mine.safetensors"
    assert there.fetch(archive=copy)[0].read_bytes() == there.body == copy.read_bytes()
    there.store.patch.setenv("BANDSPLIT_OFFLINE", "0")
    there.store.server.pages["/mirror/mine.safetensors"] = [serve(there.body)]
    there.page[:] = [refuse(404)]
    assert there.fetch("mirrored", mirror=f"{there.store.server.url}/mirror")


def test_a_configuration_is_for_checkpoints_and_must_exist(there: There, tmp_path: Path):
    assert f"{tmp_path / 'none.yaml'}: no such file" in there.error(config=tmp_path / "none.yaml")
    (tmp_path / "c.yaml").write_text("audio: {}\n")
    assert "mine.safetensors: is a model file, which holds its settings; leave --config out" in there.error(
        config=tmp_path / "c.yaml"
    )


def test_a_file_on_a_private_page_of_the_hub_needs_the_token_which_no_other_server_gets(
    hub: Hub, store: Store, tmp_path: Path
):
    body = write_tiny_model(tmp_path / "mine.safetensors", "bass").read_bytes()
    hub.has("ada/tiny", {"mine.safetensors": body}, private=True)
    url, sha256 = f"{hub.url}/ada/tiny/resolve/main/mine.safetensors", hashlib.sha256(body).hexdigest()
    with pytest.raises(BandsplitError, match="the server answers 401"):
        entry_at(url, sha256, None, Sources())
    store.patch.setenv("HF_TOKEN", TOKEN)
    hub.asked.clear()
    (path,) = install_model(entry_at(url, sha256, None, Sources()), Sources(), patience=CALM)
    assert path.read_bytes() == body
    assert {path.split("/")[1]: token for _, path, token in hub.asked} == {"ada": TOKEN, "store": None}
    store.patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    hub.asked.clear()
    with pytest.raises(BandsplitError, match="the server answers 401"):
        entry_at(url, sha256, "yours", Sources())
    assert {token for *_, token in hub.asked} == {None}

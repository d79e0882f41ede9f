"""From a server to a model in the cache: whole, checked, imported without running code, or not there at all."""

import errno
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from filelock import FileLock

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.models.card import read_card
from bandsplit.models.importing import import_checkpoint
from bandsplit.models.pretrained import making
from bandsplit.models.pretrained import store as model_store
from bandsplit.models.pretrained.registry import MARKER, cached_files
from bandsplit.separation.separator import Separator
from checkpoints import Store, checkpoint_of
from downloads import HASTY
from places import CHECKPOINT
from webserver import CUT, Behaviour, cut, damaged, refuse, serve, stall

BASS = {"bass.ckpt": CHECKPOINT.read_bytes()}


def test_a_model_is_fetched_checked_imported_and_only_that_is_kept(store: Store):
    body = store.has({"models/bass.ckpt": BASS["bass.ckpt"], "readme.txt": b"hello", "__MACOSX/._bass.ckpt": b"junk"})
    (file,) = store.install()
    assert file == store.cache / "models" / "tiny" / "bass.safetensors"
    assert store.names == ["tiny"] and sorted(path.name for path in file.parent.iterdir()) == [file.name, MARKER]
    _, card = read_card(file)
    assert (card.name, card.licence, card.training_data) == ("tiny", "not stated", "noise")
    md5 = hashlib.md5(body).hexdigest()
    assert card.source == f"models/bass.ckpt in tiny.zip (md5 {md5}) of https://doi.org/10.5281/zenodo.1"
    assert card.source_sha256 == hashlib.sha256(BASS["bass.ckpt"]).hexdigest()
    assert card.scores == {"published cSDR of bass in dB (MUSDB18-HQ test)": 9.85}
    assert json.loads((file.parent / MARKER).read_text())["md5"] == md5


def test_a_fetched_model_separates_as_the_checkpoint_itself(store: Store):
    store.has(BASS)
    mixture = np.random.default_rng(0).normal(0, 0.1, (2, 20000)).astype(np.float32)
    fetched = Separator(store.install(), device="cpu").separate(mixture, 44100)
    imported = Separator(import_checkpoint(CHECKPOINT)[0], device="cpu").separate(mixture, 44100)
    assert np.array_equal(fetched["bass"], imported["bass"])


def test_an_archive_of_several_models_gives_a_file_for_each_in_the_order_of_the_targets(store: Store):
    members = {f"{name}.ckpt": checkpoint_of(name) for name in ("other", "drums", "vocals")}
    store.has(BASS | members, targets=["vocals", "bass", "drums", "other"])
    files = store.install()
    assert [file.stem for file in files] == ["vocals", "bass", "drums", "other"]
    assert Separator(files, device="cpu").targets == ("vocals", "bass", "drums", "other")


def test_a_model_with_a_shared_encoder_is_one_file_of_all_targets(store: Store):
    store.has({"separator.ckpt": checkpoint_of("vocals", "bass")}, targets=["vocals", "bass"])
    (file,) = store.install()
    assert file.name == "separator.safetensors" and Separator(file, device="cpu").targets == ("vocals", "bass")


def test_a_cached_model_is_used_without_asking_anyone(store: Store):
    store.has(BASS)
    files = store.install()
    store.server.asked.clear()
    store.patch.setenv("BANDSPLIT_OFFLINE", "1")
    assert store.install() == files and store.server.asked == []


def test_progress_goes_through_each_stage_to_its_end(store: Store):
    store.has(BASS)
    seen: list[tuple[str, int, int]] = []
    store.install(progress=lambda *news: seen.append(news))
    assert list(dict.fromkeys(stage for stage, _, _ in seen)) == ["download", "check", "unpack", "import"]
    for stage in ("download", "check", "unpack", "import"):
        *_, (_, done, total) = (news for news in seen if news[0] == stage)
        assert done == total > 0


# --- bad connections and wrong archives ------------------------------------------------------------------------------


@pytest.mark.parametrize("falter", [stall, cut])
def test_a_connection_that_stalls_or_breaks_is_taken_up(store: Store, falter: Callable[[bytes], Behaviour]):
    body = store.has(BASS)
    store.does(falter(body), serve(body))
    assert store.install(HASTY) and str(store.server.asked[1][1]).startswith("bytes=1")


def test_a_half_download_is_no_model_and_the_next_run_goes_on(store: Store):
    body = store.has(BASS)
    store.does(cut(body))
    assert "that arrived are kept, run the same command again to continue from there" in store.error(patience=HASTY)
    assert store.names == ["tiny.zip.part"]
    store.does(serve(body))
    assert store.install() and store.names == ["tiny"]


def test_a_damaged_archive_is_removed_and_fetched_whole_the_next_time(store: Store):
    body = store.has(BASS)
    store.does(serve(damaged(body)), serve(body))
    assert f"not {store.md5}: it was damaged in transit" in store.error() and store.names == []
    assert store.install()


@pytest.mark.parametrize("announced", [True, False])
def test_a_server_that_sends_far_more_is_left_at_once(store: Store, announced: bool):
    body = store.has(BASS)

    def flood(handler: Any) -> None:
        if announced:
            handler.head(200, 50 * len(body))
        else:
            handler.send_response(200)
            handler.end_headers()
        handler.wfile.write(10 * body)

    store.does(flood)
    message = store.error()
    assert "is another file: it has " in message and "nothing was kept; check the address of the mirror" in message
    assert store.names == []


def test_a_server_that_sends_less_is_found_out_by_the_md5(store: Store):
    body = store.has(BASS)
    store.does(serve(body[: len(body) // 2]))
    assert "has md5" in store.error() and store.names == []


def test_a_missing_archive_is_named_with_the_other_ways(store: Store):
    store.has(BASS, refuse(404))
    assert store.error() == (
        f"{store.server.url}/models/tiny.zip: the server answers 404 Not Found; name another source with --mirror, or "
        f"a local copy of tiny.zip with --archive"
    )


def test_a_proxy_of_the_environment_is_used(store: Store):
    body = store.has(BASS)
    store.server.pages["http://no-such-host.invalid/tiny.zip"] = [serve(body)]
    store.patch.setenv("HTTP_PROXY", store.server.url)
    assert store.install(mirror="http://no-such-host.invalid")


@pytest.mark.parametrize("name", ["../evil.ckpt", "/evil.ckpt", "a/../../evil.ckpt", "..\\evil.ckpt", "C:\\evil.ckpt"])
def test_an_archive_that_leads_out_of_its_folder_is_refused(store: Store, name: str, tmp_path: Path):
    store.has({**BASS, name: BASS["bass.ckpt"]})
    assert f"its member {name!r} leads out of the folder" in store.error()
    assert not list(tmp_path.rglob("*evil*")) and store.names == ["tiny.zip"]


def archive_with(member: zipfile.ZipInfo, data: bytes) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("bass.ckpt", BASS["bass.ckpt"])
        file.writestr(member, data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def test_an_archive_with_a_link_is_refused(store: Store):
    link = zipfile.ZipInfo("vocals.ckpt")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    body = archive_with(link, b"/etc/passwd")
    store.register(body)
    store.does(serve(body))
    assert "its member 'vocals.ckpt' is a link; nothing was unpacked" in store.error()


def test_an_archive_that_would_fill_the_disk_is_refused(store: Store):
    body = archive_with(zipfile.ZipInfo("vocals.ckpt"), bytes(50_000_000))
    store.register(body)
    store.does(serve(body))
    assert "needs 51.6 MB when unpacked, more than the expected 3.2 MB; nothing was unpacked" in store.error()


class Attack:
    """Runs a command when a careless loader reads it."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


def test_code_in_a_checkpoint_does_not_run_and_gives_no_model(store: Store, tmp_path: Path):
    proof, buffer = tmp_path / "owned", BytesIO()
    torch.save({"state_dict": Attack(f"touch '{proof}'"), "hyper_parameters": {}}, buffer)
    store.has({"bass.ckpt": buffer.getvalue()}, bytes=5000)
    message = store.error()
    assert message.startswith("tiny.zip: its member bass.ckpt: refused, nothing was run: besides tensors it asks for ")
    assert message.endswith("; remove it (bandsplit models remove tiny) and name another source with --mirror")
    assert not proof.exists() and store.names == ["tiny.zip"]


@pytest.mark.parametrize(
    ("members", "changes", "message"),
    [
        ({"readme.txt": b"hello"}, {}, "tiny.zip: is not tiny: it needs bass, and has no checkpoint; "),
        (BASS, {"targets": ["bass", "drums"]}, "it needs bass, drums, and has bass.safetensors (bass); "),
        (BASS, {"targets": ["drums"]}, "its member bass.ckpt: is a model of bass, which tiny does not have; "),
        (
            {**BASS, "again.ckpt": BASS["bass.ckpt"]},
            {},
            "is not tiny: it needs bass, and has bass.safetensors (bass), ",
        ),
        ({"bass.ckpt": b"PK not a checkpoint"}, {}, "its member bass.ckpt: is not a checkpoint"),
        ({"bass.ckpt": BASS["bass.ckpt"][:-100]}, {}, "its member bass.ckpt: is not a checkpoint"),
    ],
)
def test_an_archive_of_something_else_gives_no_model(
    store: Store, members: dict[str, bytes], changes: dict[str, Any], message: str
):
    store.has(members, **changes)
    assert message in store.error() and store.names == ["tiny.zip"]


# --- md5, disk, settings ---------------------------------------------------------------------------------------------


def test_without_a_registered_md5_the_user_must_give_one(store: Store):
    body = store.has(BASS, md5=None)
    assert "no md5 of tiny.zip is registered" in store.error() and store.server.asked == []
    (file,) = store.install(md5=hashlib.md5(body).hexdigest().upper())
    assert f"(md5 {hashlib.md5(body).hexdigest()})" in read_card(file)[1].source


def test_another_md5_than_the_registered_one_is_refused(store: Store):
    store.has(BASS)
    assert f"the registered md5 of tiny.zip is {store.md5}; leave --md5 out" in store.error(md5=32 * "0")
    assert store.error(md5="x") == "--md5 x: must be 32 digits of 0-9 and a-f"


def test_an_archive_brought_here_needs_no_network_and_is_kept(store: Store, tmp_path: Path):
    body = store.has(BASS)
    store.patch.setenv("BANDSPLIT_OFFLINE", "yes")
    archive = tmp_path / "by-hand.zip"
    archive.write_bytes(damaged(body))
    assert store.error(archive=archive).startswith(f"{archive}: its md5 is ")
    archive.write_bytes(body)
    assert store.install(archive=archive) and archive.read_bytes() == body and store.server.asked == []


def test_a_missing_archive_file_is_named(store: Store, tmp_path: Path):
    store.has(BASS)
    assert store.error(archive=tmp_path / "no.zip").startswith(
        f"{tmp_path / 'no.zip'}: no such file; name tiny.zip of "
    )


def test_offline_nothing_is_asked(store: Store):
    store.has(BASS)
    store.patch.setenv("BANDSPLIT_OFFLINE", "1")
    assert "BANDSPLIT_OFFLINE forbids downloads; unset it, or copy tiny.zip to this machine" in store.error()
    assert store.server.asked == []
    store.patch.setenv("BANDSPLIT_OFFLINE", "maybe")
    with pytest.raises(ConfigError, match="BANDSPLIT_OFFLINE: 'maybe' is neither yes nor no; legal: 1, 0, or not set"):
        store.install()


def test_a_mirror_that_is_no_address_is_refused(store: Store):
    store.has(BASS)
    store.patch.setenv("BANDSPLIT_MIRROR", "/mnt/models")
    assert store.error().startswith("--mirror /mnt/models: must be the address of a folder")


class _Usage(NamedTuple):
    free: int


def test_a_disk_without_room_is_refused_before_anything_is_asked(store: Store):
    store.has(BASS, bytes=1_000_000_000, kept_bytes=500_000_000)
    store.patch.setattr(shutil, "disk_usage", lambda path: _Usage(2_000_000_000))
    assert store.error() == (
        f"{store.cache / 'models'}: fetching tiny needs 2.6 GB for a while (0.5 GB stay), the disk has 2.0 GB free; "
        f"free 0.6 GB, or name a folder on another disk with BANDSPLIT_CACHE"
    )
    assert store.server.asked == []


def test_a_cache_that_cannot_be_written_is_named(store: Store):
    store.has(BASS)
    store.cache.write_text("a file")
    message = store.error()
    assert message.startswith(f"{store.cache}") and "name another folder with BANDSPLIT_CACHE" in message


def test_a_read_only_cache_is_named(store: Store):
    store.has(BASS)
    (store.cache / "models").mkdir(parents=True)
    (store.cache / "models").chmod(0o500)
    if os.access(store.cache / "models", os.W_OK):
        pytest.skip("nothing is read-only to the superuser")
    assert "Permission denied" in store.error()


# --- interruptions, other processes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_half_import_is_no_model_and_the_next_run_imports_without_downloading(store: Store, error: BaseException):
    store.has(BASS)

    def fail(*_: object) -> None:
        raise error

    with store.patch.context() as patch:
        patch.setattr(making, "save_model", fail)
        with pytest.raises((KeyboardInterrupt, ModelFileError)) as caught:
            store.install()
    if caught.type is ModelFileError:
        assert "(No space left on device); fix that, or name another folder with BANDSPLIT_CACHE" in str(caught.value)
    assert store.names == ["tiny.zip"] and cached_files(store.entry) == []
    store.server.asked.clear()
    assert store.install() and store.server.asked == []


def test_what_a_killed_process_left_is_no_model_and_is_cleared_away(store: Store):
    store.has(BASS)
    left = store.cache / "models" / ".tiny.unfinished"
    left.mkdir(parents=True)
    (left / "vocals.safetensors").write_bytes(b"half")
    assert cached_files(store.entry) == []
    (file,) = store.install()
    assert store.names == ["tiny"] and len(list(file.parent.iterdir())) == 2


@pytest.mark.parametrize("harm", ["cut", "removed", "marker", "marker of another form"])
def test_a_cached_model_that_was_damaged_is_no_model_and_is_fetched_again(store: Store, harm: str):
    store.has(BASS)
    (file,) = store.install()
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif harm == "removed":
        file.unlink()
    else:
        (file.parent / MARKER).write_text('{"files"' if harm == "marker" else "[1]")
    assert cached_files(store.entry) == []
    assert store.install() == [file] and cached_files(store.entry) == [file]


WAIT = """
import sys
from bandsplit.models.pretrained.store import install_model
from bandsplit.models.pretrained.entries import Entry
def tell(stage, done, total): print(stage, flush=True) if stage == "wait" else None
print(*install_model(Entry.model_validate_json(sys.argv[1]), progress=tell), flush=True)
"""


def test_two_processes_that_fetch_the_same_wait_for_each_other(store: Store):
    store.has(BASS)
    folder = store.cache / "models"
    folder.mkdir(parents=True)
    held = FileLock(folder / ".tiny.lock")
    held.acquire()  # so that the other process comes second
    command = [sys.executable, "-c", WAIT, store.entry.model_dump_json()]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline().strip() == "wait"
    held.release()
    files = store.install()
    out, _ = other.communicate()
    assert out.strip() == str(files[0]) and other.returncode == 0
    assert len(store.server.asked) == 1


# --- copies and removal ----------------------------------------------------------------------------------------------


def test_a_model_is_copied_out_and_the_copy_works(store: Store, tmp_path: Path):
    store.has({**BASS, "drums.ckpt": checkpoint_of("drums")}, targets=["bass", "drums"])
    files = store.install()
    copies = model_store.copy_model(store.entry, tmp_path / "out")
    assert [copy.name for copy in copies] == ["tiny-bass.safetensors", "tiny-drums.safetensors"]
    assert [copy.read_bytes() for copy in copies] == [file.read_bytes() for file in files]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [copy.name for copy in copies]
    with pytest.raises(ModelFileError, match=r"tiny-bass.safetensors: exists already; .* --force"):
        model_store.copy_model(store.entry, tmp_path / "out")
    assert model_store.copy_model(store.entry, tmp_path / "out", force=True) == copies


def test_what_is_not_cached_cannot_be_copied_out(store: Store, tmp_path: Path):
    store.has(BASS)
    with pytest.raises(ModelFileError, match="fetch it first: bandsplit models fetch tiny"):
        model_store.copy_model(store.entry, tmp_path)


def test_a_folder_that_cannot_be_written_is_named(store: Store, tmp_path: Path):
    store.has(BASS)
    store.install()
    (tmp_path / "file").touch()
    with pytest.raises(ModelFileError, match=r"cannot be written .*; choose another folder"):
        model_store.copy_model(store.entry, tmp_path / "file")


def test_a_removed_model_leaves_nothing(store: Store):
    body = store.has(BASS)
    (file,) = store.install()
    size_bytes = sum(path.stat().st_size for path in file.parent.iterdir())
    (store.cache / "models" / "tiny.zip.part").write_bytes(body[:CUT])
    assert model_store.remove_model(store.entry) == size_bytes + CUT
    assert store.names == [] and cached_files(store.entry) == []
    assert model_store.remove_model(store.entry) == 0

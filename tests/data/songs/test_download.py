"""From a server to a folder of songs: whole, marked, or not there at all."""

import errno
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bandsplit.core.errors import DataError, DownloadError
from bandsplit.data.songs.download import KNOWN_SETS, MARKER, download_dataset, find_known_set, is_downloaded
from bandsplit.data.songs.layouts import index_dataset
from command_line import run_command
from downloads import Here, contents, set_in, zip_of
from webserver import CUT, Server, serve


def test_a_set_is_downloaded_checked_unpacked_and_marked(here: Here, members: dict[str, bytes]):
    here.mirror_does(serve(here.archive.body))
    folder, new = here.download()
    assert new and folder == here.to / "tiny" and here.names == ["tiny"]
    assert contents(folder) == members
    assert [track.name for track in index_dataset(folder).songs("test")] == ["Song 2"]
    marker = json.loads((folder / MARKER).read_text())
    assert marker["source"] == f"{here.server.url}/sets/tiny.zip" and marker["md5"] == here.archive.md5
    assert marker["doi"] == "10.5281/zenodo.3338373" and marker["date"].endswith("+00:00")


def test_progress_goes_through_each_stage_to_its_end(here: Here):
    here.mirror_does(serve(here.archive.body))
    here.download()
    stages = list(dict.fromkeys(stage for stage, _, _ in here.seen))
    assert stages == ["download", "check", "unpack"]
    for stage in stages:
        done = [done for name, done, _ in here.seen if name == stage]
        assert done == sorted(done) and done[-1] == next(total for name, _, total in here.seen if name == stage)


def test_a_set_in_a_folder_of_its_archive_is_found(here: Here, members: dict[str, bytes]):
    extra = {"__MACOSX/._musdb18hq": b"junk"}
    here.archive = set_in(zip_of({**{f"musdb18hq/{name}": data for name, data in members.items()}, **extra}))
    here.mirror_does(serve(here.archive.body))
    assert contents(here.download().folder) == members and here.names == ["tiny"]


def test_a_whole_set_is_left_alone_without_asking_anyone(here: Here):
    here.mirror_does(serve(here.archive.body))
    folder = here.download().folder
    (folder / "mine.txt").write_text("mine")
    here.server.asked.clear()
    assert is_downloaded(here.archive.known, here.to)
    assert here.download(md5=None) == (folder, False)
    assert here.server.asked == [] and (folder / "mine.txt").read_text() == "mine"


def test_the_archive_stays_if_wanted_and_a_whole_one_is_used(here: Here, members: dict[str, bytes]):
    here.mirror_does(serve(here.archive.body))
    folder = here.download(keep_archive=True).folder
    assert here.names == ["tiny", "tiny.zip"]
    shutil.rmtree(folder)
    here.server.asked.clear()
    assert contents(here.download().folder) == members
    assert here.server.asked == [] and here.names == ["tiny"]


def test_an_md5_in_capital_letters_is_the_same(here: Here):
    here.mirror_does(serve(here.archive.body))
    assert here.download(md5=here.archive.md5.upper()).new


def test_a_proxy_of_the_environment_is_used(here: Here, monkeypatch: pytest.MonkeyPatch):
    address = "http://no-such-host.invalid/sets"
    here.server.pages[f"{address}/tiny.zip"] = [serve(here.archive.body)]
    monkeypatch.setenv("HTTP_PROXY", here.server.url)
    assert here.download(mirror=address).new


def test_musdb18hq_is_known_with_its_size_and_licence():
    notice = find_known_set("musdb18hq").notice()
    assert "22.7 GB to download, 32.0 GB unpacked" in notice
    assert "non-commercial use only" in notice and "https://doi.org/10.5281/zenodo.3338373" in notice


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "train/../../evil", "..\\evil", "C:\\evil", "C:evil", "\\\\host\\evil"]
)
def test_a_member_that_leads_out_of_the_folder_is_refused(here: Here, members: dict[str, bytes], name: str):
    here.archive = set_in(zip_of({**members, name: b"evil"}))
    here.mirror_does(serve(here.archive.body))
    message = here.error()
    assert message.startswith(f"{here.to / 'tiny.zip'}: its member {name!r} leads out of the folder")
    assert here.names == ["tiny.zip"] and [path.name for path in here.to.parent.iterdir()] == ["data"]


def test_an_archive_of_something_else_is_refused(here: Here):
    here.archive = set_in(zip_of({"train/Song/mixture.wav": b"", "readme.txt": b"no test songs"}))
    here.mirror_does(serve(here.archive.body))
    assert f"{here.to / 'tiny.zip'}: not tiny: it needs the folders train and test, and has train;" in here.error()
    assert here.names == ["tiny.zip"]


@pytest.mark.parametrize("body", [b"this is a web page", b"", zip_of({})], ids=["text", "nothing", "empty zip"])
def test_what_is_no_archive_is_refused_even_with_its_own_md5(here: Here, body: bytes):
    here.to.mkdir()
    (here.to / "tiny.zip").write_bytes(body)
    message = here.error(md5=hashlib.md5(body).hexdigest())
    assert message.startswith(f"{here.to / 'tiny.zip'}: ") and "remove it and name another source" in message


def test_an_archive_with_a_damaged_member_is_refused(here: Here):
    body = here.archive.body[:100] + b"\0" * 100 + here.archive.body[200:]
    here.archive = set_in(body)
    here.mirror_does(serve(body))
    assert "has the expected md5, but cannot be unpacked" in here.error()
    assert here.names == ["tiny.zip"]


def raise_at_the_third(error: BaseException) -> Callable[..., str]:
    extract, done = zipfile.ZipFile.extract, []

    def extract_some(*arguments: Any) -> str:
        done.append(arguments)
        if len(done) == 3:
            raise error
        return extract(*arguments)

    return extract_some


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_half_unpacked_set_is_removed_and_the_next_run_unpacks_without_downloading(
    here: Here, members: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, error: BaseException
):
    here.mirror_does(serve(here.archive.body))
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extract", raise_at_the_third(error))
        with pytest.raises((KeyboardInterrupt, DataError)) as caught:
            here.download()
    if caught.type is DataError:
        assert "(No space left on device); fix that, or choose another folder with --to" in str(caught.value)
    assert here.names == ["tiny.zip"]
    here.server.asked.clear()
    assert contents(here.download().folder) == members and here.server.asked == []


def test_what_a_killed_run_left_of_its_unpacking_is_cleared_away(here: Here, members: dict[str, bytes]):
    (here.to / ".tiny.unpacking" / "train" / "Old Song").mkdir(parents=True)
    here.mirror_does(serve(here.archive.body))
    assert contents(here.download().folder) == members and here.names == ["tiny"]


def test_a_set_that_loses_files_while_it_is_unpacked_never_looks_whole(here: Here):
    here.mirror_does(serve(here.archive.body))

    def lose(stage: str, done_bytes: int, total_bytes: int) -> None:
        if stage == "unpack" and done_bytes == total_bytes:
            shutil.rmtree(here.to / ".tiny.unpacking" / "train" / "Song 1")

    with pytest.raises(DownloadError, match=r"Song 1/.*\.wav: vanished .* perhaps the same command runs twice"):
        here.download(progress=lose)
    assert here.names == ["tiny.zip"]


def test_a_folder_that_is_not_a_whole_download_is_refused_and_not_touched(here: Here):
    (here.to / "tiny" / "train").mkdir(parents=True)
    assert here.error().startswith(f"{here.to / 'tiny'}: exists, but not as a complete download (")
    (here.to / "tiny" / MARKER).write_text("{}")
    assert "test/ is missing" in here.error()
    assert here.server.asked == [] and sorted(path.name for path in (here.to / "tiny").iterdir()) == [MARKER, "train"]


class _Usage(NamedTuple):
    free: int


@pytest.mark.parametrize(
    ("there", "needed", "download", "more"),
    [(None, "54.7 GB", "22.7 GB", "14.7 GB"), ("musdb18hq.zip", "32.0 GB", "0.0 MB", None)],
)
def test_a_disk_without_room_is_refused_before_anything_is_asked(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    there: str | None,
    needed: str,
    download: str,
    more: str | None,
):
    asked: list[Path] = []
    free = 40_000_000_000 if more else 31_000_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or _Usage(free))
    to = tmp_path / "data" / "sets"
    if there:
        to.mkdir(parents=True)
        (to / there).touch()
    with pytest.raises(DownloadError) as caught:
        download_dataset(KNOWN_SETS["musdb18hq"], to)
    message = str(caught.value)
    assert message.startswith(
        f"{to}: musdb18hq needs {needed} ({download} to download, 32.0 GB unpacked), the disk has "
    )
    assert f"has {free / 1e9:.1f} GB free; free {more or '1.0 GB'}, or choose a folder on another disk" in message
    assert asked == [to if there else tmp_path] and to.exists() == bool(there)


def test_what_arrived_already_counts_as_room(here: Here, monkeypatch: pytest.MonkeyPatch):
    here.to.mkdir()
    (here.to / "tiny.zip.part").write_bytes(here.archive.body[:CUT])
    room = here.archive.known.unpacked_bytes + len(here.archive.body) - CUT
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(room))
    here.mirror_does(serve(here.archive.body))
    assert here.download().new


def test_a_folder_that_cannot_be_made_is_named(here: Here):
    here.to.write_text("a file")
    message = here.error()
    assert message.startswith(f"{here.to}: cannot be written or read (") and "another folder with --to" in message


def test_arguments_are_checked_before_anything_is_asked(here: Here):
    assert here.error(mirror="ftp://example.org") == (
        "--mirror ftp://example.org: must be the address of a folder, as in https://example.org/data"
    )
    assert here.error(mirror="example.org/data").startswith("--mirror example.org/data: must be ")
    assert here.error(md5="baadf00d") == "--md5 baadf00d: must be 32 digits of 0-9 and a-f"
    with pytest.raises(DataError, match=r"^musdb: not a data set that can be downloaded; legal: musdb18hq$"):
        find_known_set("musdb")


def test_the_command_downloads_and_says_what_to_do_next(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(KNOWN_SETS, "tiny", here.archive.known)
    here.mirror_does(serve(here.archive.body))
    options = ["--to", here.to, "--mirror", f"{here.server.url}/sets", "--md5", here.archive.md5, "--yes"]
    for state in ("complete", "exists already"):
        ended = run_command(capsys, "data", "download", "tiny", *options)
        assert ended.code == 0
        assert f"{here.to / 'tiny'}: {state}; check it with: bandsplit data check" in ended.err

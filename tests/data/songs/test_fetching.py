"""Bad connections and damaged files: what arrived is used, what is wrong never counts."""

import hashlib
from collections.abc import Callable

import pytest

from downloads import HASTY, Here, contents
from webserver import CUT, Behaviour, cut, damaged, refuse, serve, stall


@pytest.mark.parametrize("falter", [stall, cut])
def test_a_connection_that_stalls_or_breaks_is_taken_up_where_it_stopped(
    here: Here, members: dict[str, bytes], falter: Callable[[bytes], Behaviour]
):
    here.mirror_does(falter(here.archive.body), serve(here.archive.body))
    assert contents(here.download(HASTY).folder) == members
    assert here.ranges[0] is None and str(here.ranges[1]).startswith("bytes=1")


def test_a_server_that_cannot_take_up_starts_again(here: Here, members: dict[str, bytes]):
    here.mirror_does(cut(here.archive.body), serve(here.archive.body, ranges=False))
    assert contents(here.download().folder) == members
    assert len(here.server.asked) == 2


@pytest.mark.parametrize(("falter", "why"), [(stall, "no answer in time"), (cut, "the connection broke")])
def test_an_endless_fault_ends_in_an_error_and_the_next_run_goes_on(
    here: Here, members: dict[str, bytes], falter: Callable[[bytes], Behaviour], why: str
):
    here.mirror_does(falter(here.archive.body))
    message = here.error(patience=HASTY)
    assert message.startswith(f"{here.server.url}/sets/tiny.zip: {why}; check the connection (behind a proxy, ")
    assert "0.2 MB that arrived are kept, run the same command again to continue from there" in message
    assert here.names == ["tiny.zip.part"]
    here.server.asked.clear()
    here.mirror_does(serve(here.archive.body))
    assert contents(here.download().folder) == members
    assert str(here.ranges[0]).startswith("bytes=1") and here.names == ["tiny"]


def test_a_run_stopped_while_it_checked_goes_on_with_the_check(here: Here, members: dict[str, bytes]):
    here.to.mkdir()
    (here.to / "tiny.zip.part").write_bytes(here.archive.body)
    here.mirror_does(serve(here.archive.body))
    assert contents(here.download().folder) == members


def test_a_run_stopped_while_it_downloaded_goes_on(here: Here, members: dict[str, bytes]):
    here.mirror_does(serve(here.archive.body))

    def stop(stage: str, done_bytes: int, total_bytes: int) -> None:
        if done_bytes > CUT:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        here.download(progress=stop)
    assert here.names == ["tiny.zip.part"]
    assert contents(here.download().folder) == members
    assert here.ranges[0] is None and str(here.ranges[1]).startswith("bytes=2")


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (500, 3), (503, 3), (429, 3)])
def test_a_refusal_is_named_and_only_passing_ones_are_retried(here: Here, status: int, tries: int):
    here.mirror_does(refuse(status))
    message = here.error()
    assert message.startswith(f"{here.server.url}/sets/tiny.zip: the server answers {status} ")
    assert message.endswith(
        f"; name another source with --mirror, or put tiny.zip of https://doi.org/10.5281/zenodo.3338373 into {here.to}"
    )
    assert len(here.server.asked) == tries and here.names == []


def test_a_server_that_is_busy_once_is_asked_again(here: Here):
    here.mirror_does(refuse(503), serve(here.archive.body))
    assert here.download().new


def test_no_network_is_named_with_the_proxy_setting(here: Here):
    message = here.error(mirror="http://127.0.0.1:9/sets")
    assert message.startswith("http://127.0.0.1:9/sets/tiny.zip: cannot be reached; check the connection ")
    assert "set HTTPS_PROXY" in message


def test_a_damaged_archive_is_removed_and_the_next_run_downloads_it_whole(here: Here, members: dict[str, bytes]):
    here.mirror_does(serve(damaged(here.archive.body)), serve(here.archive.body))
    found = hashlib.md5(damaged(here.archive.body)).hexdigest()
    message = here.error()
    assert message.startswith(f"{here.server.url}/sets/tiny.zip: the download (0.") and "it was removed" in message
    assert f"has md5 {found}, not {here.archive.md5}" in message
    assert here.names == []
    assert contents(here.download().folder) == members


def test_an_unfinished_file_of_another_source_is_found_out(here: Here, members: dict[str, bytes]):
    here.to.mkdir()
    (here.to / "tiny.zip.part").write_bytes(b"x" * CUT)
    here.mirror_does(serve(here.archive.body))
    assert "it was removed" in here.error()
    assert contents(here.download().folder) == members


def test_an_archive_put_there_by_hand_that_is_damaged_is_refused_and_not_touched(here: Here):
    here.to.mkdir()
    (here.to / "tiny.zip").write_bytes(damaged(here.archive.body))
    assert here.error().startswith(f"{here.to / 'tiny.zip'}: its md5 is ")
    assert here.names == ["tiny.zip"] and here.server.asked == []

"""Which songs `bandsplit separate` takes: lists, links in circles, and files that change while they are read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_cli_separate import RATE_HZ, listing, run, save, song

from bandsplit.audio import files as audio
from bandsplit.core.errors import AudioError
from bandsplit.separation.batch import Batch
from bandsplit.separation.outputs import OutputConfig
from bandsplit.separation.separator import Separator
from bandsplit.separation.songs import find_songs


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("BANDSPLIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "small.safetensors")


# --- lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a\u2028b.wav", "a\x85b.wav", "a\x0bb.wav", "a\x0cb.wav", "a\rb.wav", " a.wav"])
def test_a_list_is_parted_at_line_feeds_alone(capsys, model, name: str):
    song(name)
    Path("list.txt").write_bytes(f"{name}\r\nplain.wav\n".encode())
    song("plain.wav")
    code, _, text = run(capsys, "@list.txt", "-n", model, "--stems", "bass")
    assert code == 0, text
    assert len(listing()) == 2


def test_the_mark_that_windows_puts_before_a_text_is_no_part_of_the_first_name(capsys, model):
    song("ä.wav")
    Path("list.txt").write_text("ä.wav\n", encoding="utf-8-sig")
    code, _, text = run(capsys, "@list.txt", "-n", model)
    assert code == 0, text
    assert listing() == ["ä/bass.wav", "ä/vocals.wav"]


def test_ten_thousand_names_are_found_once_each_and_in_their_order(model):
    names = [f"songs/{number}.wav" for number in range(10_000)]
    Path("list.txt").write_text("\n".join([*names, *names]))
    songs = find_songs(["@list.txt"], Path("out"))
    assert [song.path for song in songs] == [Path(name) for name in names]
    Batch(Separator(model, device="cpu"), Path("out"), OutputConfig()).check(songs)


# --- what is not there -----------------------------------------------------------------------------------------------


def test_a_song_that_is_missing_is_told_before_a_model_that_is_missing(capsys):
    code, out, text = run(capsys, "nosuch.mp3", "--json")
    assert code == 1
    assert text == "failed: nosuch.mp3: no file has this name; check the spelling and the folder"
    assert json.loads(out) == {"status": "failed", "input": "nosuch.mp3", "error": text[8:]}
    song("a.wav")
    code, _, text = run(capsys, "nosuch.mp3", "a.wav")
    assert (code, "no model was named, none is in the cache" in text) == (1, True), text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--filename", "{track}/{stem}.mp3"], "'{track}/{stem}.mp3' does not end with the suffix of wav files"),
        (
            ["--filename", "{track}/{stem}.wav", "--flac"],
            "does not end with the suffix of flac files; end it with .{ext}",
        ),
        (["--filename", "{stem}"], "filename: '{stem}' does not end with the suffix of wav files"),
        (["--filename", "{stem}.{trackext}"], "'{stem}.{trackext}' does not end with the suffix of wav files"),
    ],
)
def test_a_pattern_whose_suffix_contradicts_the_format_is_a_wrong_option(capsys, model, options, message: str):
    code, _, text = run(capsys, song("a.wav"), "-n", model, *options)
    assert (code, message in text) == (2, True), text
    assert not Path("separated").exists()


def test_a_pattern_may_name_the_suffix_of_the_format(capsys, model):
    assert run(capsys, song("a.wav"), "-n", model, "--filename", "{stem}.FLAC", "--flac")[0] == 0
    assert listing() == ["bass.FLAC", "vocals.FLAC"]


# --- links in circles ------------------------------------------------------------------------------------------------


def circle(folder: Path) -> Path:
    """Link a folder into itself, twice: the paths below it double with each step."""
    for name in ("x", "y"):
        (folder / name).symlink_to(folder.resolve(), target_is_directory=True)
    (folder / "lost.wav").symlink_to("lost.wav")
    return folder


@pytest.mark.parametrize("given", ["in", "in/**/*.wav", "**/a.wav", "in/**"])
def test_folders_linked_in_circles_are_walked_once(capsys, model, given: str, tmp_path: Path):
    song("in/deep/a.wav")
    song("in/.hidden/a.wav")
    circle(Path("in"))
    for pattern in (given, str(tmp_path / given)):
        songs = find_songs([pattern], Path("separated"))
        assert [song.path.name for song in songs if song.path.exists()] == ["a.wav"]
        assert not any(".hidden" in song.path.parts for song in songs)


def test_a_song_or_output_folder_that_is_a_link_to_itself_gets_one_message(capsys, model):
    Path("in").mkdir()
    circle(Path("in"))
    code, _, text = run(capsys, "in/lost.wav", song("a.wav"), "-n", model)
    assert (code, "failed: in/lost.wav: no file has this name" in text) == (1, True), text
    Path("loop").symlink_to("loop")
    code, _, text = run(capsys, "a.wav", "-n", model, "-o", "loop/out")
    assert (code, "loop/out" in text) == (1, True), text


# --- files that change -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
@pytest.mark.parametrize("change", ["cut", "emptied", "grown", "another"])
def test_a_song_that_changes_while_it_is_read_is_refused_and_leaves_nothing(model, suffix: str, change: str):
    path = song(f"a.{suffix}", samples=80 * RATE_HZ)
    other = song(f"b.{suffix}", channels=1, samples=90 * RATE_HZ, rate_hz=16_000).read_bytes()
    whole = path.read_bytes()
    contents = {"cut": whole[: len(whole) // 2], "emptied": b"", "grown": whole + bytes(100_000), "another": other}
    progress = once(lambda: path.write_bytes(contents[change]))
    with pytest.raises(AudioError, match=rf"a\.{suffix}: .*(changed while it was read|truncated|is empty)"):
        Separator(model, device="cpu").separate_file(path, "separated", progress)
    assert not Path("separated").exists()


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_song_that_is_deleted_while_it_is_read_is_separated_as_it_was(model, suffix: str):
    path = song(f"a.{suffix}", samples=80 * RATE_HZ)
    result = Separator(model, device="cpu").separate_file(path, "separated", once(path.unlink))
    assert not path.exists()
    assert {audio.info(stem).samples for stem in result.paths.values()} == {80 * RATE_HZ}


def test_an_mp3_that_is_deleted_while_it_is_counted_is_refused(model):
    path = song("a.mp3", samples=80 * RATE_HZ)
    with pytest.raises(AudioError, match=r"a\.mp3: no file has this name"):
        Separator(model, device="cpu").separate_file(path, "separated", once(path.unlink))
    assert not Path("separated").exists()


def once(change: Callable[[], Any]) -> Callable[[float, float, str], None]:
    """Make a progress callback that does something when it is first called, in the middle of the work."""
    left = [change]

    def progress(_done_s: float, _total_s: float, _stage: str) -> None:
        if left:
            left.pop()()

    return progress

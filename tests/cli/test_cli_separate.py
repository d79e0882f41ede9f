"""The command that separates, as a user meets it: any inputs, names, formats, levels, batches, and no half files."""

import importlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import bandsplit.separation.songs
from bandsplit.audio import files as audio
from command_line import run_command
from tiny_models import RATE_HZ, write_tiny_model
from waiting import wait_until


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Run `bandsplit separate` in this process; return exit code, stdout, and stderr without line breaks."""
    return run_all(capsys, "separate", *arguments)


def run_all(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    ended = run_command(capsys, *arguments)
    return ended.code, ended.out, " ".join(ended.err.split())


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    torch.set_num_threads(1)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "small.safetensors")


def save(path: Path, *targets: str) -> Path:
    """Write a tiny stereo-only model."""
    return write_tiny_model(path, *targets, stereo={"kind": "merged"})


def song(path: Path | str, channels: int = 2, samples: int = 8000, gain: float = 0.3, rate_hz: int = RATE_HZ) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    audio.write(path, gain * generator.uniform(-1, 1, (channels, samples)).astype(np.float32), rate_hz)
    return path


def listing(folder: Path | str = "separated") -> list[str]:
    """List all files below a folder but the manifest, hidden ones included."""
    root = Path(folder)
    found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.startswith("manifest"))


def records(folder: str = "separated") -> list[dict]:
    return [json.loads(line) for line in Path(folder, "manifest.jsonl").read_text().splitlines()]


# --- inputs ----------------------------------------------------------------------------------------------------------


def test_files_folders_patterns_lists_and_stdin_are_taken_each_once(capsys, model, monkeypatch):
    song("one.wav")
    song("in/two.flac")
    song("in/deep/three.wav")
    song("four a.wav")
    song("five.wav")
    song("in/.hidden.wav")
    Path("in/notes.txt").write_text("la")
    Path("list.txt").write_text("four a.wav\n\none.wav\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("five.wav\n"))
    code, _, text = run(capsys, "one.wav", "in", "o*.wav", "@list.txt", "-", "-n", model, "--two-stems", "bass")
    assert code == 0, text
    folders = ["deep/three", "five", "four a", "one", "two"]
    assert listing() == [f"{folder}/{stem}.wav" for folder in folders for stem in ("bass", "no_bass")]


def test_stems_in_the_output_folder_are_no_songs(capsys, model):
    song("music/one.wav")
    for _ in range(2):
        assert run(capsys, "music", "-n", model, "-o", "music/stems", "--force")[0] == 0
    assert listing("music") == ["one.wav", "stems/manifest.jsonl", "stems/one/bass.wav", "stems/one/vocals.wav"]


def test_a_folder_with_links_in_a_circle_is_walked_once(capsys, model):
    song("in/one.wav")
    Path("in/again").symlink_to(Path("in").resolve())
    assert run(capsys, "in", "-n", model)[0] == 0
    assert listing() == ["one/bass.wav", "one/vocals.wav"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["empty"], "empty: no audio files were found"),
        (["*.wav"], "*.wav: no audio files were found"),
        (["@none.txt"], "@none.txt: the list cannot be read (No such file or directory)"),
        (["-"], "no audio files were named"),
        (["@zeros"], "the list of names contains a null byte"),
    ],
)
def test_inputs_without_songs_are_a_mistake_in_use(capsys, model, monkeypatch, inputs, message):
    Path("empty").mkdir()
    Path("zeros").write_bytes(bytes(10))
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    code, _, text = run(capsys, *inputs, "-n", model)
    assert (code, message in text) == (2, True), text


@pytest.mark.parametrize(
    "name",
    ["two words.wav", 'it\'s "quoted".wav', "夜に駆ける.wav", "[a]*?.wav", "-n.wav", "{stem}.wav", "a%s$HOME`.wav"],
)
def test_odd_names_are_names(capsys, model, name: str):
    song(name)
    code, _, text = run(capsys, "-n", model, "--", name)
    assert code == 0, text
    assert listing() == [f"{name[:-4]}/bass.wav", f"{name[:-4]}/vocals.wav"]


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="names are text here")
def test_a_name_that_is_no_text_is_a_name(capsys, model):
    os.rename(song("a.wav"), b"caf\xe9.wav")
    code, out, text = run(capsys, ".", "-n", model, "--json")
    assert code == 0, text
    assert json.loads(out)["input"] == os.fsdecode(b"caf\xe9.wav")
    assert os.listdir(b"separated/caf\xe9") and run(capsys, ".", "-n", model)[0] == 0


def test_bad_files_do_not_stop_the_others(capsys, model):
    song("Été à la mer.wav")
    soundfile.write("silence.wav", np.zeros((5000, 2)), RATE_HZ)
    soundfile.write("none.wav", np.zeros((0, 2)), RATE_HZ)
    soundfile.write("nan.wav", np.full((10, 2), np.nan), RATE_HZ, "FLOAT")
    Path("notes.wav").write_text("not audio")
    Path("empty.wav").touch()
    Path("loop.wav").symlink_to("loop.wav")
    bad = ["notes.wav", "missing.wav", "empty.wav", "none.wav", "nan.wav", "loop.wav", "long" * 100]
    code, out, text = run(capsys, *bad, "Été à la mer.wav", "silence.wav", "-n", model, "-o", "out", "--json")
    assert code == 1
    assert "7 of 9 file(s) failed, 2 done" in text
    for name in bad:
        assert f"failed: {name}:" in text
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["status"] for line in lines] == ["failed"] * 7 + ["done"] * 2
    assert lines == records("out")  # those that failed before the folder was there, too
    assert [line["outputs"] for line in lines[:7]] == [{}] * 7
    for line in lines[7:]:
        assert line["output_bytes"] == {
            stem: Path("out", name).stat().st_size for stem, name in line["outputs"].items()
        }
    assert listing("out") == [
        f"{name}/{stem}.wav" for name in ("silence", "Été à la mer") for stem in ("bass", "vocals")
    ]
    assert not soundfile.read("out/silence/vocals.wav")[0].any()


@pytest.mark.parametrize("rate_hz", [8000, 11025, 44100, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("samples", [1, 3, 5000])
def test_stems_have_the_rate_channels_and_length_of_the_song(capsys, model, rate_hz: int, channels: int, samples: int):
    song("a.wav", channels, samples, rate_hz=rate_hz)
    assert run(capsys, "a.wav", "-n", model)[0] == 0
    for stem in ("vocals", "bass"):
        info = soundfile.info(f"separated/a/{stem}.wav")
        assert (info.samplerate, info.channels, info.frames, info.subtype) == (rate_hz, channels, samples, "FLOAT")


def test_what_happened_to_the_channels_is_said(capsys, model):
    song("mono.wav", 1)
    song("film.wav", 6)
    _, _, text = run(capsys, "mono.wav", "film.wav", "-n", model)
    assert "note: mono.wav: mono was duplicated to the 2 channels the model needs" in text
    assert "note: film.wav: 6 channels were separated in pairs, in the order of wav: L/R, C, LFE, Ls/Rs" in text


def test_a_part_of_a_song_is_that_part(capsys, model):
    song("a.wav", samples=24_000)
    part, _ = audio.read("a.wav", 8000, 4000)
    audio.write("part.wav", part, RATE_HZ)
    assert run(capsys, "a.wav", "-n", model, "--start", "1", "--duration", "0.5")[0] == 0
    assert run(capsys, "part.wav", "-n", model)[0] == 0
    np.testing.assert_array_equal(audio.read("separated/a/bass.wav")[0], audio.read("separated/part/bass.wav")[0])
    code, _, text = run(capsys, "a.wav", "-n", model, "--start", "3")
    assert code == 1 and "a.wav: has no audio between 3 s and its end; it is 3 s long" in text


def test_a_song_alone_is_separated(capsys, model):
    code, _, text = run_all(capsys, song("train.wav"), "-n", model)
    assert code == 0, text
    assert listing() == ["train/bass.wav", "train/vocals.wav"]


# --- names and formats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "suffix", "container", "subtype"),
    [
        (["--int16"], "wav", "WAV", "PCM_16"),
        (["--int24"], "wav", "WAV", "PCM_24"),
        (["--float32"], "wav", "WAV", "FLOAT"),
        (["--flac"], "flac", "FLAC", "PCM_24"),
        (["--flac", "--int16"], "flac", "FLAC", "PCM_16"),
        (["--ogg"], "ogg", "OGG", "VORBIS"),
        (["--mp3", "--mp3-bitrate", "160"], "mp3", "MP3", "MPEG_LAYER_III"),
    ],
)
def test_formats(capsys, model, options: list[str], suffix: str, container: str, subtype: str):
    song("a.wav", samples=300_000, rate_hz=44100)
    assert run(capsys, "a.wav", "-n", model, *options)[0] == 0
    assert listing() == [f"a/bass.{suffix}", f"a/vocals.{suffix}"]
    info = soundfile.info(f"separated/a/vocals.{suffix}")
    assert (info.format, info.subtype, info.samplerate, info.frames) == (container, subtype, 44100, 300_000)


def test_the_bit_rate_of_an_mp3_is_the_one_asked_for(capsys, model):
    song("a.wav", samples=441_000, rate_hz=44100)
    for kbps in (64, 320):
        assert run(capsys, "a.wav", "-n", model, "--mp3", "--mp3-bitrate", str(kbps))[0] == 0
        assert Path("separated/a/bass.mp3").stat().st_size == pytest.approx(kbps * 1000 / 8 * 10, rel=0.02)


@pytest.mark.parametrize("options", [["--int24"], ["--flac"], ["--mp3"], ["--ogg"]])
def test_tags_are_kept(capsys, model, options: list[str]):
    with soundfile.SoundFile("a.flac", "w", 44100, 2) as file:
        file.title, file.artist = "Nachtlied – 夜", "Ä. Singer"
        file.write(np.zeros((5000, 2)))
    assert run(capsys, "a.flac", "-n", model, *options)[0] == 0
    with soundfile.SoundFile(next(Path("separated/a").glob("bass.*"))) as file:
        assert (file.title, file.artist) == ("Nachtlied – 夜", "Ä. Singer")


def test_names_follow_the_pattern(capsys, model):
    song("a.b.flac")
    pattern = "{model}/{trackext}/{track} - {stem} ({ext}).{ext}"
    assert run(capsys, "a.b.flac", "-n", model, "--filename", pattern)[0] == 0
    assert listing() == [f"small/flac/a.b - {stem} (wav).wav" for stem in ("bass", "vocals")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--filename", "{stem"],
            "filename: '{stem' contains a single brace; legal: {track}, {trackext}, {folder}, {stem}",
        ),
        (["--filename", "{track.__class__}/{stem}.wav"], "contains track.__class__; legal: {track}"),
        (["--filename", "{track}.wav"], "has no {stem}; the 2 stems need names of their own"),
        (["--flac", "--mp3"], "--flac and --mp3: exclude each other; choose one"),
        (["--flac", "--float32"], "subtype: flac files have no FLOAT; legal: PCM_16, PCM_24"),
        (["--mp3", "--int16"], "subtype: mp3 files have no PCM_16"),
        (["--mp3-bitrate", "128"], "kbps: 128 for wav; bit rates are those of mp3, 32 to 320"),
        (["--mp3", "--mp3-bitrate", "999"], "kbps: 999 for mp3; bit rates are those of mp3, 32 to 320"),
        (["--stems", "vocals,piano"], "targets: 'piano' is not estimated by these models; legal: vocals, bass"),
        (["--stems", ","], "targets: the list is empty"),
        (["--two-stems", "piano"], "targets: 'piano' is not estimated"),
        (["--two-stems", "bass", "--stems", "vocals"], "two_stems: 'bass' is not estimated; legal: vocals"),
        (["--residual", "bass"], "residual: 'bass' is estimated already"),
        (["--residual", "rest", "--consistent"], "each alone makes the stems sum to the mixture; choose one"),
        (["--stems", "bass", "--consistent"], "needs stems that make up the mixture, but there is only 'bass'"),
        (["--shard", "3/2"], "shard: '3/2' is not I/N with 1 <= I <= N"),
        (["--jobs", "0"], "Invalid value for"),
    ],
)
def test_mistakes_in_use_get_one_message_and_write_nothing(capsys, model, arguments: list[str], message: str):
    song("a.wav")
    code, _, text = run(capsys, "a.wav", "-n", model, *arguments)
    assert (code, message in text) == (2, True), text
    assert not Path("separated").exists()


@pytest.mark.parametrize(
    "pattern", ["../{stem}.wav", "/tmp/{stem}.wav", "a/../../{stem}.wav", "{trackext}../{stem}.wav"]
)
def test_no_name_leads_out_of_the_folder(capsys, model, pattern: str):
    os.rename(song("a.wav"), "a")
    code, _, text = run(capsys, "a", "-n", model, "--filename", pattern)
    assert (code, "leads out of separated; choose a name below it" in text) == (1, True), text
    assert not Path("separated").exists()


def test_a_name_of_a_stem_makes_no_folders(capsys, model):
    assert run(capsys, song("a.wav"), "-n", model, "-o", "deep/out", "--residual", "../../rest")[0] == 0
    assert listing("deep") == ["out/a/.._.._rest.wav", "out/a/bass.wav", "out/a/vocals.wav", "out/manifest.jsonl"]


def test_two_inputs_for_one_name_are_refused_unless_the_pattern_tells_them_apart(capsys, model):
    files = [song("song.wav"), song("song.flac")]
    code, _, text = run(capsys, *files, "-n", model)
    assert code == 2
    assert "song.wav and song.flac: the stems of both would be called separated/song/vocals.wav" in text
    assert not Path("separated").exists()
    assert run(capsys, *files, "-n", model, "--filename", "{track}.{trackext}/{stem}.{ext}")[0] == 0
    assert len(listing()) == 4


def test_songs_of_one_name_are_distinguished_by_their_folders(capsys, model):
    files = [song("x/mixture.wav"), song("y/mixture.wav")]
    code, _, text = run(capsys, *files, "-n", model)
    assert code == 2 and "--filename, such as '{folder}/{track}/{stem}.{ext}'" in text
    assert run(capsys, *files, "-n", model, "--filename", "{folder}/{stem}.{ext}")[0] == 0
    assert listing() == [f"{folder}/{stem}.wav" for folder in "xy" for stem in ("bass", "vocals")]
    os.chdir("x")
    assert run(capsys, "mixture.wav", "-n", model, "-o", "..", "--filename", "{folder}-{stem}.{ext}")[0] == 0
    assert Path("../x-bass.wav").is_file()
    os.chdir("../y")
    for given in ("../x/mixture.wav", "mixture.wav"):
        assert run(capsys, given, "-n", model, "-o", "..", "--filename", "{folder}~{stem}.{ext}")[0] == 0
    assert Path("../x~bass.wav").is_file() and Path("../y~bass.wav").is_file()


def test_a_song_never_becomes_a_stem_of_another(capsys, model):
    inputs = [song("a.wav"), song("separated/a/bass.wav")]
    before = inputs[1].read_bytes()
    code, _, text = run(capsys, *inputs, "-n", model)
    assert (code, "separated/a/bass.wav: is a song and would become a stem of a.wav" in text) == (2, True), text
    code, _, text = run(capsys, "separated/a/bass.wav", "-n", model, "--filename", "a/{stem}.wav")
    assert (code, "is a song and would become a stem" in text) == (1, False), text
    assert "would be overwritten by the stem" in text and inputs[1].read_bytes() == before


def test_a_folder_or_format_that_cannot_take_the_stems_is_named_before_the_work(capsys, model):
    Path("file").touch()
    code, _, text = run(capsys, song("song.wav", rate_hz=96_000), "-n", model, "-o", "file/out")
    assert (code, "cannot be written to" in text) == (1, True), text
    code, _, text = run(capsys, "song.wav", "-n", model, "--mp3")
    assert (code, "cannot be written as MP3 with 2 channels at 96000 Hz" in text) == (1, True), text
    assert not Path("separated").exists()


# --- levels ----------------------------------------------------------------------------------------------------------


def read_stems(folder: str) -> dict[str, np.ndarray]:
    return {path.stem: audio.read(path)[0] for path in sorted(Path(folder).iterdir())}


@pytest.mark.parametrize(
    ("options", "stems"),
    [
        (["--consistent"], {"vocals", "bass"}),
        (["--residual", "rest"], {"vocals", "bass", "rest"}),
        (["--two-stems", "vocals"], {"vocals", "no_vocals"}),
        (["--stems", "bass", "--residual", "rest"], {"bass", "rest"}),
    ],
)
@pytest.mark.parametrize("rate_hz", [RATE_HZ, 44100])
def test_stems_sum_to_the_mixture(capsys, model, options: list[str], stems: set[str], rate_hz: int):
    song("a.wav", samples=100_000, rate_hz=rate_hz)
    assert run(capsys, "a.wav", "-n", model, "--chunk", "1", *options)[0] == 0
    found = read_stems("separated/a")
    assert set(found) == stems
    np.testing.assert_allclose(sum(found.values()), audio.read("a.wav")[0], rtol=0, atol=1e-6)


def test_asked_stems_equal_those_of_all(capsys, model):
    song("a.wav")
    run(capsys, "a.wav", "-n", model)
    run(capsys, "a.wav", "-n", model, "--two-stems", "bass", "-o", "two")
    np.testing.assert_allclose(read_stems("two/a")["bass"], read_stems("separated/a")["bass"], atol=1e-6)


def test_models_that_are_not_asked_for_are_not_even_loaded(capsys, model):
    broken = save(Path("drums.safetensors"), "drums")
    data = bytearray(broken.read_bytes())
    data[-100:] = b"\xff" * 100  # weights that are not finite
    broken.write_bytes(data)
    song("a.wav")
    assert run(capsys, "a.wav", "-n", model, "-n", broken)[0] == 1
    assert run(capsys, "a.wav", "-n", model, "-n", broken, "--stems", "bass")[0] == 0
    assert listing() == ["a/bass.wav"]


def test_loud_stems_share_one_gain_where_the_format_would_clip(capsys, model):
    song("loud.wav", samples=40_000, gain=8)
    assert run(capsys, "loud.wav", "-n", model, "--residual", "rest")[0] == 0
    true = read_stems("separated/loud")
    peak = max(np.abs(stem).max() for stem in true.values())
    assert peak > 1 and records()[-1]["gain"] == 1
    code, _, text = run(capsys, "loud.wav", "-n", model, "--residual", "rest", "--int24", "-o", "int")
    assert code == 0
    decibels = -20 * np.log10(peak)
    assert f"all stems were made quieter by one gain, {decibels:.2f} dB, since the loudest would peak at" in text
    assert records("int")[-1]["gain"] == pytest.approx(1 / peak, rel=1e-6)
    assert listing("int/loud") == ["bass.wav", "rest.wav", "vocals.wav"]
    for stem, quiet in read_stems("int/loud").items():
        np.testing.assert_allclose(quiet * peak, true[stem], atol=2 * peak / 2**23)


def test_quiet_stems_are_left_alone_in_every_format(capsys, model):
    song("a.wav", samples=40_000)
    run(capsys, "a.wav", "-n", model)
    _, _, text = run(capsys, "a.wav", "-n", model, "--flac", "-o", "flac")
    assert "gain" not in text and records("flac")[-1]["gain"] == 1
    true = read_stems("separated/a")
    for stem, found in read_stems("flac/a").items():
        np.testing.assert_allclose(found, true[stem], atol=2**-23)


@pytest.mark.parametrize("mode", ["clamp", "clamp --int24", "none --int24"])
def test_clipping_is_said_and_touches_only_what_is_beyond_full_scale(capsys, model, mode: str):
    song("loud.wav", samples=40_000, gain=8)
    run(capsys, "loud.wav", "-n", model, "--residual", "rest")
    true = read_stems("separated/loud")
    options = ["--residual", "rest", "-o", "clipped", "--clip-mode", *mode.split()]
    code, _, text = run(capsys, "loud.wav", "-n", model, *options)
    assert code == 0 and "clipped at full scale: " in text and "rest (" in text
    for stem, found in read_stems("clipped/loud").items():
        np.testing.assert_allclose(found, np.clip(true[stem], -1, 1), atol=2**-22)


# --- batches ---------------------------------------------------------------------------------------------------------


def test_the_manifest_says_what_was_made_of_what_and_how(capsys, model):
    song("a.wav", rate_hz=11_025)
    code, out, _ = run(capsys, "a.wav", "-n", model, "--json")
    assert code == 0
    (record,) = records()
    assert json.loads(out) == record
    assert record["status"] == "done" and record["input"] == "a.wav" and record["gain"] == 1
    assert record["outputs"] == {"vocals": "a/vocals.wav", "bass": "a/bass.wav"}
    assert record["audio_s"] == pytest.approx(8000 / 11_025) and record["wall_s"] > 0
    assert record["notes"] == ["resampled from 11025 Hz to the model's 8000 Hz and back"]
    assert len(record["models"]["small.safetensors"]) == 64 and record["settings"]["chunks"][0]["chunk_s"] == 10


def _without_sizes(record: dict[str, Any]) -> str:
    """Return a record as versions wrote it that stored no sizes of stems."""
    return json.dumps({name: value for name, value in record.items() if name != "output_bytes"})


def test_done_songs_are_skipped_until_file_model_settings_or_stems_change(capsys, model):
    song("a.wav")
    song("b.wav")
    stem = Path("separated/a/vocals.wav")

    def separated(*options: str) -> list[str]:
        _, out, _ = run(capsys, "a.wav", "b.wav", "-n", model, "--json", *options)
        return [json.loads(line)["status"] for line in out.splitlines()]

    assert separated() == ["done", "done"]
    assert separated() == ["skipped", "skipped"]
    assert separated("--force") == ["done", "done"]
    stem.unlink()
    assert separated() == ["done", "skipped"] and stem.is_file()
    os.truncate(stem, stem.stat().st_size - 1)
    assert separated() == ["done", "skipped"]
    whole = Path("separated/manifest.jsonl").read_text()
    old = [json.loads(line) for line in whole.splitlines()]
    Path("separated/manifest.jsonl").write_text("".join(f"{_without_sizes(record)}\n" for record in old))
    assert separated() == ["skipped", "skipped"]
    os.truncate(stem, 0)
    assert separated() == ["done", "skipped"] and stem.stat().st_size
    song("b.wav", gain=0.1)
    assert separated() == ["skipped", "done"]
    assert separated("--chunk", "5") == ["done", "done"]
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    assert separated("--chunk", "5") == ["done", "done"]


def test_a_damaged_manifest_is_no_obstacle(capsys, model):
    song("a.wav")
    run(capsys, "a.wav", "-n", model)
    manifest = Path("separated/manifest.jsonl")
    manifest.write_text('{"status": "do\n[1]\n\n' + "[" * 100_000 + "\n" + manifest.read_text())
    code, _, text = run(capsys, "a.wav", "-n", model)
    assert code == 0 and "done already; --force separates it again" in text
    assert f"note: {manifest}: left out lines that are cut or damaged: 1, 4" in text


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(capsys, model):
    song("a.wav", samples=200_000)
    code, out, text = run(capsys, "a.wav", "missing.wav", "-n", model, "--dry-run", "--json")
    assert code == 1
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["planned", "failed"]
    assert "a.wav -> separated: a/vocals.wav, a/bass.wav (crossfade" in text and "3 chunk(s) for 25.000 s" in text
    assert not Path("separated").exists()


def test_a_dry_run_tells_time_and_memory_of_songs_that_are_not_done(capsys, model):
    for name in ("done.wav", "a.wav", "b.wav"):
        song(name)
    song("nine.wav", channels=9)
    run(capsys, "done.wav", "-n", model)
    code, out, text = run(capsys, "done.wav", "a.wav", "b.wav", "nine.wav", "-n", model, "--dry-run", "--json")
    done, *planned, refused = [json.loads(line) for line in out.splitlines()]
    assert (code, done["status"], refused["status"]) == (1, "skipped", "failed")
    assert "about_s" not in done and "nine.wav: has 9 channels" in refused["error"]
    for record in planned:
        assert record["status"] == "planned" and 0 < record["about_s"] < 60
        assert 10 < record["about_mb"] < 10_000 if sys.platform == "linux" else record["about_mb"] is None
    assert "1 chunk(s) for 1.000 s at 8000 Hz; about 1 s" in text
    assert "2 songs to separate, one after the other in about 1 s" in text


def test_jobs_give_the_stems_of_one_job(capsys, model):
    names = [song(f"{number}.wav", samples=9000 + number) for number in range(5)]
    Path("bad.wav").write_text("la")
    assert run(capsys, *names, "bad.wav", "-n", model, "-o", "one")[0] == 1
    code, out, text = run(capsys, *names, "bad.wav", "-n", model, "-o", "three", "--jobs", "3", "--json")
    assert (code, "1 of 6 file(s) failed, 5 done" in text, len(out.splitlines())) == (1, True, 6)
    assert len(listing("one")) == 10 and listing("one") == listing("three")
    for name in listing("one"):
        assert Path("one", name).read_bytes() == Path("three", name).read_bytes()


def test_shards_share_the_songs_without_gaps(capsys, model):
    for number in range(5):
        song(f"in/{number}.wav")
    for shard, folders in (("1/2", ["0", "2", "4"]), ("2/2", ["0", "1", "2", "3", "4"])):
        assert run(capsys, "in", "-n", model, "--shard", shard)[0] == 0
        assert sorted({name.split("/")[0] for name in listing()}) == folders
    assert sorted(path.name for path in Path("separated").glob("manifest*")) == [
        "manifest.1-of-2.jsonl",
        "manifest.2-of-2.jsonl",
    ]
    _, out, _ = run(capsys, "in", "-n", model, "--json")
    assert {json.loads(line)["status"] for line in out.splitlines()} == {"skipped"}


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_ctrl_c_leaves_no_half_file(model: Path, number: int, jobs: str):
    song("first.wav")
    for name in ("long 1.wav", "long 2.wav"):
        song(name, samples=RATE_HZ * 1200)
    names = ["first.wav", "long 1.wav", "long 2.wav"]
    command = [sys.executable, "-m", "bandsplit", "separate", *names, "-n", model, "--jobs", jobs, "--flac"]
    process = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)

    def writes() -> bool:
        assert process.poll() is None, process.communicate()
        return bool(list(Path().glob("separated/long*/.bandsplit-*.part")))

    wait_until(writes, "the first part of a long song")
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 1 and "Traceback" not in errors and "; finished songs are kept" in errors, errors
    assert "failed" not in errors
    assert set(listing()) <= {"first/bass.flac", "first/vocals.flac"}
    assert not list(Path("separated").glob("long*"))


def test_ctrl_c_before_the_first_song_ends_with_1_too(capsys, model, monkeypatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    song("a.wav")
    monkeypatch.setattr(bandsplit.separation.songs, "find_songs", stop)
    assert run(capsys, "a.wav", "-n", model)[::2] == (1, "stopped")


@pytest.fixture
def open_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder that others may enter, in which this process is no longer root if it was."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        monkeypatch.chdir(folder)
        root = os.geteuid() == 0
        if root:
            importlib.import_module("rich.console")  # Python's own files may be closed to others: import them before
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            for path in folder.rglob("*"):
                path.chmod(0o777)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="permissions are others here")
def test_what_may_not_be_read_or_written_is_named_and_the_others_are_done(capsys, open_folder):
    model, locked = save(Path("small.safetensors")), Path("locked")
    song("good.wav")
    song("secret.wav").chmod(0)
    song("other.mp3").chmod(0)
    song("locked/a.wav")
    locked.chmod(0)
    files = ["secret.wav", "other.mp3", "locked/a.wav", "good.wav"]
    code, _, text = run(capsys, *files, "-n", model)
    assert (code, len(listing())) == (1, 2), text
    for name in files[:-1]:
        assert f"failed: {name}: cannot be opened (Permission denied); check its name and permissions" in text
    assert (run(capsys, "locked", "-n", model)[0]) == 2
    Path("list.txt").write_text("good.wav\n")
    Path("list.txt").chmod(0)
    code, _, text = run(capsys, "@list.txt", "-n", model)
    assert code == 2 and "@list.txt: the list cannot be read (Permission denied)" in text
    code, _, text = run(capsys, "good.wav", "-n", model, "-o", "locked/out")
    assert code == 1 and "locked/out/good: cannot be written to (Permission denied)" in text
    Path("full").mkdir(mode=0o555)
    code, _, text = run(capsys, "good.wav", "-n", model, "-o", "full/out")
    assert code == 1 and "full/out/good: cannot be written to (Permission denied)" in text
    model.chmod(0)
    for there in (model, locked / "small.safetensors"):
        code, _, text = run(capsys, "good.wav", "-n", there, "-o", "new")
        assert code == 1 and f"{there}: cannot be opened (Permission denied)" in text
    assert run(capsys, "good.wav", "-n", locked / "models", "-o", "new")[0] in (1, 2)
    assert not Path("new").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk")
@pytest.mark.parametrize("options", [[], ["--flac"]])
def test_a_full_disk_leaves_nothing_behind(capsys, model, options: list[str]):
    Path("disk").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", "disk"], capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        song("big.wav", samples=80_000)
        song("small.wav", samples=2000)
        code, _, text = run(capsys, "big.wav", "small.wav", "-n", model, "-o", "disk/out", *options)
        assert code == 1 and "failed: disk/out/big/" in text and "has room" in text
        assert len(listing("disk/out")) == 2 and not Path("disk/out/big").exists()
    finally:
        subprocess.run(["umount", "disk"], check=True)


def test_an_option_without_a_method_is_judged_by_the_plan_of_the_models_authors(capsys: pytest.CaptureFixture[str]):
    model = save(Path("m.safetensors"), "vocals")
    code, _, err = run(capsys, song("x.wav"), "-n", model, "--hop", "1")
    assert (code, "--hop: has no meaning with --method crossfade; leave it out" in err) == (2, True), err

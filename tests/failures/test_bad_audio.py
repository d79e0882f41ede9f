"""Audio that is missing, damaged or not audio: errors name the file, the fault and the fix; nothing is read short."""

import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bandsplit.audio import arrays
from bandsplit.audio import files as audio
from bandsplit.core.errors import AudioError


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (2, 60_000)).astype(np.float32)


def refuse(path: Path, *parts: str) -> None:
    """Both the header and the samples of ``path`` are refused with a message that holds all ``parts``."""
    for attempt in (audio.info, audio.read):
        with pytest.raises(AudioError) as caught:
            attempt(path)
        for part in (str(path), *parts):
            assert part in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    refuse(tmp_path / "nö such.wav", "no file has this name", "check the spelling")


def test_a_folder_is_not_a_file(tmp_path: Path):
    refuse(tmp_path, "is a folder", "name the files inside it")


def test_an_empty_file_is_refused(tmp_path: Path):
    (tmp_path / "a.wav").touch()
    refuse(tmp_path / "a.wav", "is empty (0 bytes)", "copy or export it again")


def test_a_loop_of_links_is_refused(tmp_path: Path):
    (tmp_path / "a.wav").symlink_to(tmp_path / "b.wav")
    (tmp_path / "b.wav").symlink_to(tmp_path / "a.wav")
    refuse(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["song.wav", "song.flac", "song.mp3", "song.ogg", "song.raw"])
def test_text_is_not_audio_whatever_its_name(tmp_path: Path, name: str):
    (tmp_path / name).write_text("la la la\n" * 100)
    to = "song-converted.wav" if name == "song.wav" else "song.wav"
    refuse(tmp_path / name, "is not audio that can be read", "Legal: wav, flac, mp3, ogg", f"ffmpeg -i {name} {to}")


def test_the_suggested_command_quotes_the_name(tmp_path: Path):
    (tmp_path / "a b.m4a").write_text("not really")
    refuse(tmp_path / "a b.m4a", "ffmpeg -i 'a b.m4a' 'a b.wav'")


def test_a_container_whose_truncation_would_go_unseen_is_refused(tmp_path: Path, noise: np.ndarray):
    soundfile.write(tmp_path / "a.w64", noise.T, 44100)
    refuse(tmp_path / "a.w64", "is a W64 file", "Convert it")


def test_a_file_without_samples_is_refused(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 2)), 44100)
    refuse(tmp_path / "a.wav", "holds 0 samples")


@pytest.mark.parametrize(
    "suffix, file_format, subtype",
    [
        ("wav", "WAV", "PCM_16"),
        ("wav", "WAV", "FLOAT"),
        ("wav", "WAVEX", "PCM_24"),
        ("wav", "RF64", "FLOAT"),
        ("aiff", "AIFF", "PCM_16"),
        ("flac", "FLAC", "PCM_16"),
        ("ogg", "OGG", "VORBIS"),
        ("opus", "OGG", "OPUS"),
        ("mp3", "MP3", "MPEG_LAYER_III"),
    ],
)
@pytest.mark.parametrize("kept", [0.03, 0.3, 0.5, 0.9])
def test_a_truncated_file_is_refused_and_never_read_short(tmp_path: Path, noise, suffix, file_format, subtype, kept):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise.T, 48000, subtype, format=file_format)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(AudioError) as caught:
        audio.read(path)
    assert str(path) in str(caught.value)
    assert "truncated" in str(caught.value) or "header is damaged" in str(caught.value)


def test_a_wav_is_truncated_even_if_one_byte_is_missing_and_a_long_comment_stands_before_the_sound(tmp_path, noise):
    path = tmp_path / "a.wav"
    with soundfile.SoundFile(path, "w", 44100, 2, "PCM_16") as file:
        file.comment = "la " * 2000  # more than libsndfile's log of the header holds
        file.write(noise.T)
    path.write_bytes(path.read_bytes()[:-1])
    refuse(path, "is truncated or damaged: its header promises 240000 bytes of audio, but only 239999 exist")


@pytest.mark.parametrize("suffix, file_format", [("wav", "WAV"), ("wav", "RF64"), ("aiff", "AIFF")])
def test_a_chunk_that_promises_gigabytes_is_named_and_given_to_no_decoder(tmp_path: Path, noise, suffix, file_format):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise.T, 44100, "PCM_16", format=file_format)
    data = path.read_bytes()
    path.write_bytes(data[:12] + b"LIST" + b"\x7f\0\0\x7f" + data[12:])
    refuse(path, f"its chunk 'LIST' promises {0x7F00007F} bytes, but only {len(data) - 12} exist")


def test_an_ogg_cut_between_two_pages_is_refused(tmp_path: Path, noise: np.ndarray):
    path = tmp_path / "a.ogg"
    audio.write(path, noise, 44100)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"OggS")])
    refuse(path, "does not carry the end-of-stream mark")


def test_a_flac_of_unknown_length_is_refused_with_a_remedy(tmp_path: Path, noise: np.ndarray):
    path = tmp_path / "a.flac"
    audio.write(path, noise, 44100)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)
    refuse(path, "does not state its length", "ffmpeg -i a.flac a-repaired.flac")


def test_a_flac_that_promises_more_than_memory_holds_is_refused(tmp_path: Path, noise: np.ndarray):
    path = tmp_path / "a.flac"
    audio.write(path, noise, 44100)
    data = bytearray(path.read_bytes())
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    path.write_bytes(data)
    with pytest.raises(AudioError, match="is damaged or truncated"):
        audio.read(path)


def test_an_mp3_that_libsndfile_would_read_in_part_is_refused(tmp_path: Path, noise: np.ndarray):
    audio.write(tmp_path / "a.mp3", noise, 44100)
    data = (tmp_path / "a.mp3").read_bytes()
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(data + data)
    refuse(joined, "its header makes players stop after 60000")


def test_a_damaged_flac_is_refused(tmp_path: Path, noise: np.ndarray):
    path = tmp_path / "a.flac"
    audio.write(path, noise, 44100)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(AudioError, match="is damaged or truncated"):
        audio.read(path)


@pytest.mark.parametrize("value, shown", [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_samples_that_are_not_finite_are_named_by_place(tmp_path: Path, noise: np.ndarray, value: float, shown: str):
    noise[1, 22_050] = noise[0, 40_000] = value
    soundfile.write(tmp_path / "a.wav", noise.T, 44100, "FLOAT")
    for start, samples in ((0, None), (22_000, 100)):
        with pytest.raises(
            AudioError, match=rf"sample 22050 \(0\.500 s\) of channel 1 is {shown}; every sample must be"
        ):
            audio.read(tmp_path / "a.wav", start, samples)
    assert audio.read(tmp_path / "a.wav", samples=1000)[0].shape == (2, 1000)


@pytest.mark.parametrize("start, samples", [(-1, 10), (59_999, 2), (60_000, None), (0, 0), (70_000, None)])
def test_a_range_beyond_the_file_is_refused(tmp_path: Path, noise: np.ndarray, start: int, samples: int | None):
    audio.write(tmp_path / "a.wav", noise, 44100)
    with pytest.raises(AudioError, match="but it has 60000; the range must lie inside"):
        audio.read(tmp_path / "a.wav", start, samples)


def test_only_known_suffixes_and_subtypes_are_written(tmp_path: Path, noise: np.ndarray):
    with pytest.raises(AudioError, match=r"cannot write \.m4a; legal: \.wav, \.flac, \.ogg, \.mp3"):
        audio.write(tmp_path / "a.m4a", noise, 44100)
    with pytest.raises(AudioError, match="FLAC files have no subtype 'FLOAT'; legal: PCM_"):
        audio.write(tmp_path / "a.flac", noise, 44100, "FLOAT")


def test_what_cannot_be_a_file_is_not_written(tmp_path: Path, noise: np.ndarray):
    with pytest.raises(AudioError, match=r"cannot hold an array of shape \(2, 0\)"):
        audio.write(tmp_path / "a.wav", noise[:, :0], 44100)
    with pytest.raises(AudioError, match=r"cannot hold an array of shape \(60000,\)"):
        audio.write(tmp_path / "a.wav", noise[0], 44100)
    with pytest.raises(AudioError, match=r"sample 0 .* of channel 0 is nan"):
        audio.write(tmp_path / "a.wav", noise * np.nan, 44100)
    with pytest.raises(AudioError, match="cannot be written as MP3 with 2 channels at 96000 Hz"):
        audio.write(tmp_path / "a.mp3", noise, 96000)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path, noise: np.ndarray):
    (tmp_path / "file").touch()
    with pytest.raises(AudioError, match=r"file/out: cannot be written to .*; choose another output folder"):
        audio.make_folder(tmp_path / "file" / "out")
    with pytest.raises(AudioError, match=r"a\.wav: cannot be written .*No such file or directory"):
        audio.write(tmp_path / "missing" / "a.wav", noise, 44100)


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path, noise: np.ndarray):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(AudioError, match=r"cannot be written as WAV .*has room"):
            audio.write(tmp_path / "a.wav", noise, 44100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [0, -44100, 44100.0, "44100", None, True])
def test_a_sample_rate_is_a_positive_integer(value: object):
    with pytest.raises(AudioError, match="is not a positive integer; give it in Hz, such as 44100"):
        arrays.check_sample_rate(value)

"""Audio files and arrays that are fine."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bandsplit.audio import arrays
from bandsplit.audio import files as audio
from bandsplit.core.errors import AudioError
from songs import noise


def sine(samples: int, sample_rate_hz: int, frequency_hz: float = 440) -> np.ndarray:
    """Two channels of different level."""
    wave = np.sin(2 * np.pi * frequency_hz * np.arange(samples) / sample_rate_hz)
    return (np.array([[0.5], [0.25]]) * wave).astype(np.float32)


@pytest.mark.parametrize("name", ["a.wav", "two words.wav", "Für Élise – 夜.v1.2.wav", "'quoted'.WAV"])
def test_float_wav_comes_back_bit_for_bit_whatever_its_name(tmp_path: Path, name: str):
    signal = 3 * noise(2, 1000)
    audio.write(tmp_path / name, signal, 48000)
    found, sample_rate_hz = audio.read(tmp_path / name)
    assert sample_rate_hz == 48000 and found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, signal)
    assert audio.info(tmp_path / name) == audio.AudioInfo(1000, 2, 48000, "WAV", "FLOAT")


@pytest.mark.parametrize("channels, sample_rate_hz", [(1, 22050), (2, 44100), (2, 48000)])
@pytest.mark.parametrize("suffix, tolerance", [(".wav", 0), (".flac", 1e-6), (".ogg", 0.05), (".mp3", 0.05)])
def test_formats_keep_length_rate_channels_and_sound(tmp_path: Path, suffix, tolerance, channels, sample_rate_hz):
    signal = sine(sample_rate_hz + 7, sample_rate_hz)[:channels]
    audio.write(tmp_path / f"a{suffix}", signal, sample_rate_hz)
    found, found_hz = audio.read(tmp_path / f"a{suffix}")
    assert found.shape == signal.shape and found_hz == sample_rate_hz
    middle = slice(1000, -1000)
    np.testing.assert_allclose(found[:, middle], signal[:, middle], atol=tolerance)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_one_sample_is_legal(tmp_path: Path, suffix: str):
    audio.write(tmp_path / f"one{suffix}", np.full((2, 1), 0.25, np.float32), 44100)
    found, _ = audio.read(tmp_path / f"one{suffix}")
    assert found.shape == (2, 1)


@pytest.mark.parametrize(
    "suffix, file_format, subtype, sample_rate_hz",
    [
        ("wav", "RF64", "FLOAT", 44100),
        ("wav", "WAVEX", "PCM_24", 44100),
        ("wav", "WAV", "PCM_U8", 44100),
        ("aiff", "AIFF", "PCM_16", 44100),
        ("opus", "OGG", "OPUS", 48000),
    ],
)
def test_other_containers_are_read(tmp_path: Path, suffix, file_format, subtype, sample_rate_hz):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise(2, 4800).T, sample_rate_hz, subtype, format=file_format)
    assert audio.read(path)[0].shape == (2, 4800)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_range_equals_the_same_range_of_the_whole(tmp_path: Path, suffix: str):
    audio.write(tmp_path / f"a{suffix}", noise(2, 50_000), 44100)
    whole, _ = audio.read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(audio.read(tmp_path / f"a{suffix}", 12_345, 678)[0], whole[:, 12_345:13_023])
    np.testing.assert_array_equal(audio.read(tmp_path / f"a{suffix}", start=49_999)[0], whole[:, 49_999:])


def test_a_file_is_written_over_only_when_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.wav"
    audio.write(path, noise(1, 100), 44100)
    before = path.read_bytes()

    def fail(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(soundfile.SoundFile, "write", fail)
    with pytest.raises(KeyboardInterrupt):
        audio.write(path, noise(1, 5000), 44100)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.wav"]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_equal_sound_makes_equal_files_at_any_time(tmp_path: Path, suffix: str):
    for name in ("a", "b"):
        audio.write(tmp_path / f"{name}{suffix}", noise(2, 100), 44100)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_the_time_of_writing_is_blank_in_float_wav_files(tmp_path: Path):
    soundfile.write(tmp_path / "dated.wav", noise(2, 100).T, 44100, subtype="FLOAT")
    audio.write(tmp_path / "ours.wav", noise(2, 100), 44100)
    times = {}
    for name in ("dated", "ours"):
        content = (tmp_path / f"{name}.wav").read_bytes()
        start = content.index(b"PEAK") + 12  # behind the chunk's name, its size and its version
        times[name] = int.from_bytes(content[start : start + 4], "little")
    assert times["dated"] > 0 and times["ours"] == 0


def test_subtypes_can_be_chosen(tmp_path: Path):
    audio.write(tmp_path / "a.wav", noise(2, 10), 44100, subtype="PCM_16")
    assert audio.info(tmp_path / "a.wav").subtype == "PCM_16"


def test_samples_beyond_full_scale_are_clipped_with_a_warning_where_the_format_clips(tmp_path: Path, caplog):
    loud = np.array([[0.5, 1.5, -2]], np.float32)
    with caplog.at_level(logging.WARNING, "bandsplit"):
        audio.write(tmp_path / "float.wav", loud, 44100)
        assert not caplog.records
        audio.write(tmp_path / "a.flac", loud, 44100)
    assert "peaks at 2.000 are clipped at 1" in caplog.text
    np.testing.assert_allclose(audio.read(tmp_path / "a.flac")[0], [[0.5, 1, -1]], atol=1e-6)


# Pipes: ffmpeg and mpg123, sox, arecord.
@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_wav_saved_from_a_pipe_is_read_to_its_end(tmp_path: Path, length: int):
    soundfile.write(tmp_path / "a.wav", noise(2, 1000).T, 44100, "PCM_16")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = length.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    assert audio.read(tmp_path / "a.wav")[0].shape == (2, 1000)


def test_tags_around_an_mp3_do_no_harm(tmp_path: Path):
    audio.write(tmp_path / "a.mp3", noise(2, 50_000), 44100)
    data = (tmp_path / "a.mp3").read_bytes()
    cover = b"\xff\xfb\x90\x64" * 500  # looks like frames
    id3 = b"ID3\x04\x00\x00" + bytes([0, 0, len(cover) >> 7, len(cover) & 127]) + cover
    (tmp_path / "a.mp3").write_bytes(id3 + data + b"TAG".ljust(128, b"\0"))
    assert audio.read(tmp_path / "a.mp3")[0].shape == (2, 50_000)


def without_index(data: bytes) -> bytes:
    """Drop the first frame of an mp3, which holds the Xing header."""
    at = max(data.find(b"Xing"), data.find(b"Info"))
    return data[data.index(data[:2], at) :]


def test_an_mp3_of_constant_bit_rate_needs_no_index(tmp_path: Path):
    with soundfile.SoundFile(
        tmp_path / "a.mp3",
        "w",
        44100,
        2,
        "MPEG_LAYER_III",
        format="MP3",
        bitrate_mode="CONSTANT",
        compression_level=0.5,
    ) as file:
        file.write(noise(2, 100_000).T)
    (tmp_path / "a.mp3").write_bytes(without_index((tmp_path / "a.mp3").read_bytes()))
    assert abs(audio.read(tmp_path / "a.mp3")[0].shape[1] - 100_000) < 4 * 1152


@pytest.mark.parametrize(
    "from_hz, to_hz", [(48000, 44100), (22050, 44100), (44100, 22050), (8000, 44100), (192000, 44100)]
)
@pytest.mark.parametrize("samples", [1, 2, 3, 17, 1000, 48_011])
def test_resampling_gives_the_nearest_length_and_at_least_a_sample(from_hz: int, to_hz: int, samples: int):
    signal = np.ones((2, samples), np.float32)
    there = arrays.resample(signal, from_hz, to_hz)
    assert there.shape == (2, arrays.resampled_length(samples, from_hz, to_hz))
    assert abs(there.shape[1] - samples * to_hz / from_hz) <= 1
    assert np.abs(there).max() > 0.1, "even one sample must not vanish"


@pytest.mark.parametrize("from_hz, to_hz", [(48000, 44100), (44100, 48000), (22050, 44100)])
def test_resampling_keeps_a_sine_in_place(from_hz: int, to_hz: int):
    found = arrays.resample(sine(from_hz, from_hz), from_hz, to_hz)
    expected = sine(to_hz, to_hz)
    middle = slice(2000, -2000)
    np.testing.assert_allclose(found[:, middle], expected[:, middle], atol=1e-4)


def test_resampling_to_the_same_rate_changes_nothing():
    signal = noise(2, 100)
    np.testing.assert_array_equal(arrays.resample(signal, 44100, 44100), signal)


def test_resampling_keeps_silence_silent():
    assert not arrays.resample(np.zeros((2, 5000), np.float32), 48000, 44100).any()


@pytest.mark.parametrize(
    "speakers, in_ogg",
    [
        ("L R C", "L C R"),
        ("L R Ls Rs", "L R Ls Rs"),
        ("L R C Ls Rs", "L C R Ls Rs"),
        ("L R C LFE Ls Rs", "L C R Ls Rs LFE"),
        ("L R C LFE Cs Ls Rs", "L C R Ls Rs Cs LFE"),
        ("L R C LFE Lb Rb Ls Rs", "L C R Ls Rs Lb Rb LFE"),
    ],
)
def test_surround_is_in_the_order_of_wav_whatever_the_order_of_the_file(tmp_path: Path, speakers: str, in_ogg: str):
    names = speakers.split()
    tones_hz = [40 if name == "LFE" else 200 * (1 + place) for place, name in enumerate(names)]
    signal = np.stack([sine(24_000, 48000, tone_hz)[0] for tone_hz in tones_hz])
    for suffix, order in (("wav", names), ("flac", names), ("ogg", in_ogg.split())):
        path = tmp_path / f"a.{suffix}"
        audio.write(path, signal, 48000)
        in_file = soundfile.read(path)[0].T
        for place, name in enumerate(order):
            assert np.corrcoef(in_file[place], signal[names.index(name)])[0, 1] > 0.95
        np.testing.assert_array_equal(audio.read(path)[0], in_file[[order.index(name) for name in names]])


def test_a_new_folder_is_made_and_left_empty(tmp_path: Path):
    audio.make_folder(tmp_path / "a" / "b c")
    assert os.listdir(tmp_path / "a" / "b c") == []


@pytest.mark.parametrize(
    ("suffix", "subtype"), [(".wav", "PCM_16"), (".wav", "PCM_24"), (".wav", "FLOAT"), (".flac", "PCM_16")]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_an_excerpt_is_the_part_that_read_gives(tmp_path: Path, suffix: str, subtype: str, channels: int):
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, (1000, channels)), 8000, subtype=subtype)
    whole, _ = audio.read(path)
    np.testing.assert_array_equal(audio.read_excerpt(path, 100, 300, 1000), whole[:, 100:400])
    out = np.full((channels, 300), np.nan, np.float32)
    assert audio.read_excerpt(path, 700, 300, 1000, 0.5, out) is out
    np.testing.assert_array_equal(out, np.float32(0.5) * whole[:, 700:])


def test_a_wav_with_other_chunks_in_front_of_its_samples_is_read_in_the_right_place(tmp_path: Path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.arange(50) / 100, 8000, subtype="PCM_16")
    data = path.read_bytes()
    at = data.index(b"data")
    path.write_bytes(data[:at] + b"junk" + (5).to_bytes(4, "little") + b"12345\0" + data[at:])
    np.testing.assert_array_equal(audio.read_excerpt(path, 3, 40, 50), audio.read(path)[0][:, 3:43])


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_an_excerpt_of_a_file_that_changed_is_an_error(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    signal = np.random.default_rng(0).uniform(-1, 1, 5000)
    soundfile.write(path, signal, 8000, subtype="PCM_16")
    audio.read_excerpt(path, 0, 10, 5000)
    for length, text in (
        (4000, "has 4000 samples, but had 5000"),
        (6000, "has 6000 samples, but had 5000"),
    ):
        soundfile.write(path, np.resize(signal, length), 8000, subtype="PCM_16")
        with pytest.raises(AudioError, match=text):
            audio.read_excerpt(path, 0, 10, 5000)
    path.unlink()
    with pytest.raises(AudioError, match="was removed after the data set was indexed"):
        audio.read_excerpt(path, 0, 10, 5000)

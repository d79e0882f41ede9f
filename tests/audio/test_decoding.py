"""Formats that libsndfile does not know: decoded by what is here, refused with the fix where nothing is."""

import os
import resource
import shutil
import signal
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandsplit.audio import decoding
from bandsplit.audio import files as audio
from bandsplit.audio.decoding import open_song
from bandsplit.core.errors import AudioError

av = pytest.importorskip("av")
from encoded import encode  # noqa: E402  it needs PyAV

DECODERS = ["PyAV", pytest.param("ffmpeg", marks=pytest.mark.skipif(not shutil.which("ffmpeg"), reason="not here"))]


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Leave only one decoder on the machine."""
    leave_only(monkeypatch, request.param)
    return request.param


def leave_only(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if name != "PyAV":
        monkeypatch.setitem(sys.modules, "av", None)
    if name != "ffmpeg":
        monkeypatch.setattr(decoding.shutil, "which", lambda _name: None)


def sine(seconds: float, rate_hz: int = 48000) -> np.ndarray:
    """Two channels of different level."""
    wave = np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate_hz)) / rate_hz)
    return (np.array([[0.5], [0.25]]) * wave).astype(np.float32)


def read(path: Path, **part: Any) -> tuple[np.ndarray, int, str | None]:
    with open_song(path, **part) as source:
        signal = np.concatenate(list(source.blocks()), axis=1)
        assert signal.shape == (source.channels, source.samples)
        return signal, source.sample_rate_hz, source.note


@pytest.mark.parametrize(
    "name, codec", [("a.m4a", "aac"), ("a b.mp4", "aac"), ("夜.webm", "libopus"), ("-a:b.mka", "libopus")]
)
def test_other_formats_are_decoded(tmp_path: Path, decoder: str, name: str, codec: str):
    signal = sine(3)
    found, rate_hz, note = read(encode(tmp_path / name, signal, codec))
    assert (rate_hz, note) == (48000, f"decoded with {decoder}")
    surplus = found.shape[1] - signal.shape[1]
    if codec == "aac" and decoder == "ffmpeg":
        assert 0 <= surplus < 1024  # it fills the last frame up
    else:
        assert surplus == 0
    middle = slice(5000, 120_000)
    assert np.corrcoef(found[0, middle], signal[0, middle])[0, 1] > 0.99
    np.testing.assert_allclose(np.sqrt(2 * np.mean(found[:, middle] ** 2, axis=1)), [0.5, 0.25], atol=0.02)


@pytest.mark.parametrize("samples", [100, 1000, 1024, 48_000, 144_311])
@pytest.mark.parametrize("options", [{}, {"movflags": "+faststart"}], ids=["index last", "index first"])
def test_what_an_encoder_of_m4a_padded_is_left_out(tmp_path: Path, samples: int, options: dict[str, str]):
    found, _, _ = read(encode(tmp_path / "a.m4a", sine(4)[:, :samples], "aac", 48000, **options))
    assert found.shape[1] == samples


@pytest.mark.parametrize("layout", ["mono", "5.1", "7.1", "16 channels"])
def test_any_number_of_channels_is_decoded(tmp_path: Path, decoder: str, layout: str):
    channels = av.AudioLayout(layout).nb_channels if layout[0] != "1" else 16
    signal = (np.arange(1, channels + 1)[:, None] / 32 * sine(0.1)[:1] * 2).astype(np.float32)
    path = tmp_path / "a.mka"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48000, layout=layout)
        packed = np.ascontiguousarray((signal * 32767).astype(np.int16).T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
        frame.sample_rate, frame.pts = 48000, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    np.testing.assert_allclose(read(path)[0], signal, atol=1e-4)


def test_an_edit_list_shortens_a_song_whose_codec_frames_are_all_full(tmp_path: Path):
    path = encode(tmp_path / "a.m4a", sine(1), "aac")
    data = bytearray(path.read_bytes())
    times = data.index(b"stts") + 8  # number of entries, then how many frames of how many samples
    frames, last, short = struct.unpack(">I4xII", data[times + 4 : times + 20])
    assert (last, short < 1024) == (1, True)
    data[times + 16 : times + 20] = struct.pack(">I", 1024)  # as encoders write that leave the rest to the edit list
    path.write_bytes(data)
    assert abs(read(path)[0].shape[1] - 48_000) <= 48  # a millisecond, as this edit list counts
    assert (frames + last - 1) * 1024 > 48_048


def test_what_libsndfile_knows_is_not_decoded_twice(tmp_path: Path):
    audio.write(tmp_path / "a.wav", sine(1), 48000)
    assert read(tmp_path / "a.wav")[2] is None


def test_a_part_is_that_part_and_tags_are_kept(tmp_path: Path, decoder: str):
    path = encode(tmp_path / "a.m4a", sine(3), "aac")
    whole, _, _ = read(path)
    np.testing.assert_array_equal(read(path, start_s=1, duration_s=0.5)[0], whole[:, 48_000:72_000])
    with open_song(path) as source:
        assert source.tags["title"] == "Hello"
    with pytest.raises(AudioError, match=r"a\.m4a: has no audio between 9 s and its end; it is 3\S* s long"):
        read(path, start_s=9)


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="names are text here")
def test_a_name_that_is_no_text_is_decoded_too(tmp_path: Path, decoder: str):
    os.rename(encode(tmp_path / "a.m4a", sine(1), "aac"), os.fsencode(tmp_path) + b"/\xe9.m4a")
    assert read(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.m4a")))[0].shape[0] == 2


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, decoder: str, kept: float):
    path = encode(tmp_path / "a.m4a", sine(20), "aac", movflags="+faststart")
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(AudioError, match=r"a\.m4a: .*(truncated|Also tried: PyAV \(.*, ffmpeg \()"):
        read(path)


def test_text_is_refused_with_what_was_tried(tmp_path: Path, decoder: str):
    (tmp_path / "a.m4a").write_text("la la la\n" * 100)
    with pytest.raises(AudioError) as caught:
        read(tmp_path / "a.m4a")
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'a.m4a'}: is not audio that can be read")
    assert "Legal: wav, flac, mp3" in text and "Also tried: PyAV (" in text and ", ffmpeg (" in text


def test_a_video_without_sound_is_refused(tmp_path: Path, decoder: str):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(stream.encode(None))
    with pytest.raises(AudioError, match=r"a\.mp4: is not audio that can be read.*Also tried"):
        read(tmp_path / "a.mp4")


def test_without_any_decoder_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = encode(tmp_path / "a.m4a", sine(1), "aac")
    leave_only(monkeypatch, "nothing")
    with pytest.raises(AudioError) as caught:
        read(path)
    assert "PyAV (not installed; pip install 'bandsplit[av]'), ffmpeg (not found on the PATH" in str(caught.value)
    assert "ffmpeg -i a.m4a a.wav" in str(caught.value)


def test_a_playlist_opens_no_other_file(tmp_path: Path, decoder: str):
    encode(tmp_path / "secret.m4a", sine(1), "aac")
    (tmp_path / "list.m4a").write_text(f"ffconcat version 1.0\nfile '{tmp_path / 'secret.m4a'}'\n")
    with pytest.raises(AudioError, match="is not audio that can be read"):
        read(tmp_path / "list.m4a")


def test_decoding_is_told_and_can_be_stopped(tmp_path: Path, decoder: str, monkeypatch: pytest.MonkeyPatch):
    path, told = encode(tmp_path / "a.m4a", sine(20), "aac"), []
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    with open_song(path, progress=lambda *news: told.append(news)) as source:
        assert source.samples >= 960_000
    assert {stage for _, _, stage in told} == {"decode"}
    done = [done_s for done_s, _, _ in told]
    assert done == sorted(done) and done[-1] == pytest.approx(20, abs=0.1)
    assert all(total_s >= done_s for done_s, total_s, _ in told)

    def stop(*_news: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), open_song(path, progress=stop):
        pass
    assert not os.listdir(tmp_path / "temporary")


def test_a_temporary_folder_that_is_not_there_or_full_is_named(tmp_path: Path, decoder: str, monkeypatch):
    path = encode(tmp_path / "a.m4a", sine(3), "aac")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(AudioError, match=r"a\.m4a: must be decoded to a temporary file first, .*TMPDIR"):
        read(path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(AudioError, match=r"a\.m4a: (must be decoded to a temporary|is not audio.*ffmpeg \()"):
            read(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == ["a.m4a"]


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, decoder: str, monkeypatch: pytest.MonkeyPatch):
    path = encode(tmp_path / "a.m4a", sine(1), "aac")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    read(path)
    assert not os.listdir(tmp_path / "temporary")

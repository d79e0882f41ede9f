"""Songs in formats that libsndfile does not support (m4a, mp4, webm): decoded by PyAV or ffmpeg, if installed."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile

from bandsplit.audio.opening import UnknownFormatError, fetch_again
from bandsplit.audio.streams import SecondsProgress, Source
from bandsplit.audio.writing import SoundFormat, Writer
from bandsplit.core.errors import AudioError
from bandsplit.core.unfinished import temporary_folder

if TYPE_CHECKING:
    import numpy as np
    from av.audio.stream import AudioStream
    from av.container import InputContainer

_GRACE_S = 0.5
"""Tolerated difference between the length that a container states and its audio: encoders pad, streams begin late."""
_EDIT_GRACE_S = 0.002
"""Tolerated error of an edit list: many count in milliseconds or in units of 1/600 s."""
_FLOATS = SoundFormat("WAV", "FLOAT")


class _Failed(Exception):  # noqa: N818  an answer
    """A decoder failed; the message is the reason."""


@contextmanager
def open_song(
    path: Path, start_s: float = 0, duration_s: float | None = None, progress: SecondsProgress | None = None
) -> Iterator[Source]:
    """Open a song, or a part of it, in any format that can be decoded on this machine.

    A format that libsndfile does not support is first decoded completely to a temporary float file, so that its length
    is exact.

    Args:
        path: the file.
        start_s: start of the part.
        duration_s: its maximum length; None for the rest of the song.
        progress: called while the song is decoded or counted, if that is necessary (stages "decode" and "count"); an
            exception from it aborts.

    Raises:
        AudioError: as `bandsplit.audio.streams.Source`; for an unknown format the message names the decoders tried.
    """
    try:
        source = Source(path, start_s, duration_s, progress=progress)
    except UnknownFormatError as error:
        unknown = error
    else:
        with source:
            yield source
        return
    progress = progress or (lambda *_: None)
    with _temporary_folder(path) as folder:
        wav, tried = Path(folder) / "decoded.wav", []
        for name, decode in (("PyAV", _decode_with_av), ("ffmpeg", _decode_with_ffmpeg)):
            try:
                decode(path, wav, progress)
                break
            except _Failed as failed:
                tried.append(f"{name} ({failed})")
        else:
            raise UnknownFormatError(f"{unknown}. Also tried: {', '.join(tried)}") from None
        with Source(wav, start_s, duration_s, name=str(path)) as source:
            source.note = f"decoded with {name}"
            yield source


@contextmanager
def _temporary_folder(path: Path) -> Iterator[str]:
    try:
        folder = temporary_folder()
    except OSError as error:
        raise AudioError(
            f"{path}: must be decoded to a temporary file first, but there is no room for it ({error.strerror}); set "
            f"TMPDIR to a folder on another disk"
        ) from None
    with folder:
        yield folder.name


def _decode_with_av(path: Path, wav: Path, progress: SecondsProgress) -> None:
    try:
        import av
        from av.error import FFmpegError
    except ImportError:
        raise _Failed("not installed; pip install 'bandsplit[av]'") from None
    try:
        # Opened here because file names may not be valid UTF-8, and so that a playlist cannot open other files.
        with _SongFile(path) as file, av.open(file, options={"protocol_whitelist": "file"}) as container:
            if not container.streams.audio:
                raise _Failed("it holds no audio")
            stream = container.streams.audio[0]
            if stream.codec_context is None:  # for unknown codecs
                raise _Failed("no decoder for its audio")
            rate_hz, channels = stream.codec_context.sample_rate, stream.codec_context.channels
            if rate_hz < 1 or channels < 1:
                raise _Failed(f"its header says {channels} channels at {rate_hz} Hz")
            stated_s = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0
            stated_s = stated_s or (container.duration or 0) / av.time_base
            tags = {_tag(str(name)): str(text) for name, text in container.metadata.items()}
            written = 0
            with _Kept(path, wav, rate_hz, channels, round(stated_s * rate_hz), tags) as out:
                for block in _av_blocks(container, stream):
                    out.write(block)
                    written += block.shape[1]
                    progress(written / rate_hz, max(stated_s, written / rate_hz), "decode")
                out.commit()
    except (FFmpegError, ValueError, OSError, MemoryError) as error:
        raise _Failed(str(getattr(error, "strerror", None) or error) or "it does not fit into memory") from None
    if not written:
        raise _Failed("it decodes to no audio")
    if written < (stated_s - _GRACE_S) * rate_hz:
        raise AudioError(
            f"{path}: is truncated: it states {stated_s:.1f} s of audio, but only {written / rate_hz:.1f} s can be "
            f"read; {fetch_again(path)}"
        )


def _av_blocks(container: InputContainer, stream: AudioStream) -> Iterator[np.ndarray]:
    """Decode to float blocks ``channels samples``, without the encoder's padding if the container records it.

    FFmpeg removes the padding at the start, but for mp4 not the padding that fills the last frame of the codec.
    """
    import av

    to_float = av.AudioResampler(format="flt")  # interleaved: PyAV 18 crashes on eight planes or more
    rate_hz, channels = stream.codec_context.sample_rate, stream.codec_context.channels
    samples, end, held = 0, 0, None
    for packet in container.demux(stream):
        if packet.pts is not None and packet.duration:
            end = max(end, packet.pts + packet.duration)
        for frame in packet.decode():
            for part in to_float.resample(frame):
                if (part.sample_rate, part.layout.nb_channels) != (rate_hz, channels):
                    raise _Failed("its rate or number of channels changes")
                if held is not None:
                    yield held
                held = part.to_ndarray().reshape(-1, channels).T
                samples += held.shape[1]
    if held is None:
        return
    if stream.time_base == 1 / Fraction(rate_hz):  # else times are rounded, as in webm, which records its padding
        length = end - (stream.start_time or 0)
        if stream.duration and length - stream.duration > _EDIT_GRACE_S * rate_hz:
            length = stream.duration  # of the edit list
        padding = samples - length
        if 0 < padding < held.shape[1]:
            held = held[:, :-padding]
    yield held


class _SongFile(io.FileIO):
    """A file that never allocates more than its remaining size: damaged headers ask for gigabytes."""

    def read(self, size: int | None = -1) -> bytes:
        """Read at most ``size`` bytes."""
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


class _Kept(Writer):
    """The decoded song; errors name the song, not the temporary file."""

    def __init__(self, song: Path, wav: Path, rate_hz: int, channels: int, samples: int, tags: dict[str, str]) -> None:
        self._song = song
        super().__init__(wav, _FLOATS, rate_hz, channels, samples, tags)

    def _refusal(self, error: BaseException) -> AudioError:
        return AudioError(
            f"{self._song}: must be decoded to a temporary file first, but {super()._refusal(error)}; set TMPDIR to "
            f"choose another folder"
        )


def _decode_with_ffmpeg(path: Path, wav: Path, progress: SecondsProgress) -> None:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise _Failed("not found on the PATH; install ffmpeg")
    # "file:" and the whitelist make sure that names and playlists can only refer to files.
    read = ["-nostdin", "-v", "error", "-xerror", "-protocol_whitelist", "file", "-i", f"file:{path}", "-map", "0:a:0"]
    write = ["-c:a", "pcm_f32le", "-f", "wav", "-rf64", "auto", "-progress", "pipe:1", "-y", f"file:{wav}"]
    with tempfile.TemporaryFile() as errors:
        try:
            child = subprocess.Popen([ffmpeg, *read, *write], stdout=subprocess.PIPE, stderr=errors)
        except OSError as error:
            raise _Failed(str(error.strerror)) from None
        with child:
            try:
                for line in child.stdout or ():
                    name, _, value = line.partition(b"=")
                    if name == b"out_time_us":
                        with suppress(ValueError):  # N/A before the first sound
                            done_s = int(value) / 1e6
                            progress(done_s, done_s, "decode")
            except BaseException:
                child.kill()
                raise
        errors.seek(0)
        lines = errors.read(10_000).decode(errors="replace").strip().splitlines()
    if child.returncode:
        raise _Failed(lines[0] if lines else f"exit code {child.returncode}")
    try:
        samples = soundfile.info(str(wav)).frames
    except soundfile.LibsndfileError:
        samples = 0
    if not samples:
        raise _Failed("it decodes to no audio")


def _tag(name: str) -> str:
    """Translate a container's tag name."""
    return "tracknumber" if name.lower() == "track" else name.lower()

"""Songs in formats that libsndfile does not know (m4a, mp4, webm): decoded by PyAV or ffmpeg, where one is here."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bandsplit.errors import AudioError
from bandsplit.opening import UnknownFormatError, fetch_again
from bandsplit.streams import Source
from bandsplit.writing import SoundFormat, Writer

_GRACE_S = 0.5
"""How far the length that a container states may be from the sound in it: encoders pad, streams begin late."""
_FLOATS = SoundFormat("WAV", "FLOAT")


class _Failed(Exception):  # noqa: N818  an answer
    """A decoder could not do it; says why."""


@contextmanager
def open_song(path: Path, start_s: float = 0, duration_s: float | None = None) -> Iterator[Source]:
    """Open a song of any format that can be decoded here, or a part of it.

    What libsndfile does not know is decoded whole to a temporary file of floats first, so that its length is exact.

    Args:
        path: the file.
        start_s: where the part begins.
        duration_s: its length, at most; None for all that follows.

    Raises:
        AudioError: as `bandsplit.streams.Source`; for an unknown format it says which decoders were tried.
    """
    try:
        source = Source(path, start_s, duration_s)
    except UnknownFormatError as error:
        unknown = error
    else:
        with source:
            yield source
        return
    with tempfile.TemporaryDirectory(prefix="bandsplit-") as folder:
        wav, tried = Path(folder) / "decoded.wav", []
        for name, decode in (("PyAV", _decode_with_av), ("ffmpeg", _decode_with_ffmpeg)):
            try:
                decode(path, wav)
                break
            except _Failed as failed:
                tried.append(f"{name} ({failed})")
        else:
            raise UnknownFormatError(f"{unknown}. Tried besides: {', '.join(tried)}") from None
        with Source(wav, start_s, duration_s, name=str(path)) as source:
            source.note = f"decoded with {name}"
            yield source


def _decode_with_av(path: Path, wav: Path) -> None:
    try:
        import av
        from av.error import FFmpegError
    except ImportError:
        raise _Failed("not installed; pip install 'bandsplit[av]'") from None
    try:
        # Opened here: names need not be text, and no playlist makes it open anything else.
        with path.open("rb") as file, av.open(file, options={"protocol_whitelist": "file"}) as container:
            if not container.streams.audio:
                raise _Failed("it holds no sound")
            stream = container.streams.audio[0]
            rate_hz, channels = stream.codec_context.sample_rate, stream.codec_context.channels
            stated_s = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0
            stated_s = stated_s or (container.duration or 0) / av.time_base
            tags = {_tag(str(name)): str(text) for name, text in container.metadata.items()}
            written = 0
            with Writer(wav, _FLOATS, rate_hz, channels, round(stated_s * rate_hz), tags) as out:
                to_float = av.AudioResampler(format="fltp")
                for frame in container.decode(stream):
                    for part in to_float.resample(frame):
                        block = part.to_ndarray()
                        out.write(block)
                        written += block.shape[1]
                out.commit()
    except (FFmpegError, ValueError, OSError) as error:
        raise _Failed(str(getattr(error, "strerror", None) or error)) from None
    if written < (stated_s - _GRACE_S) * rate_hz:
        raise AudioError(
            f"{path}: is truncated: it states {stated_s:.1f} s of sound, but only {written / rate_hz:.1f} s can be "
            f"read; {fetch_again(path)}"
        )


def _decode_with_ffmpeg(path: Path, wav: Path) -> None:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise _Failed("no such program on the path; install ffmpeg")
    # "file:" and the list keep names and playlists from meaning anything but files.
    read = ["-nostdin", "-v", "error", "-xerror", "-protocol_whitelist", "file", "-i", f"file:{path}", "-map", "0:a:0"]
    write = ["-c:a", "pcm_f32le", "-f", "wav", "-rf64", "auto", "-y", f"file:{wav}"]
    try:
        done = subprocess.run([ffmpeg, *read, *write], capture_output=True, check=False)
    except OSError as error:
        raise _Failed(str(error.strerror)) from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise _Failed(lines[0] if lines else f"exit code {done.returncode}")


def _tag(name: str) -> str:
    """Translate a container's name of a tag."""
    return "tracknumber" if name.lower() == "track" else name.lower()

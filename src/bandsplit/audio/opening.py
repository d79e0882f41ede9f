"""Opening audio files with libsndfile, with errors that say what is wrong with a file and how to fix it."""

import os
import shlex
from pathlib import Path
from typing import Any, TypeVar

import soundfile

from bandsplit.audio.damage import find_damage, find_overlong_chunk
from bandsplit.core.errors import AudioError

Sound = TypeVar("Sound", bound=soundfile.SoundFile)

_READABLE = {"WAV", "WAVEX", "RF64", "FLAC", "MP3", "OGG", "AIFF", "CAF"}

# Longer than any song; libsndfile returns the largest integer for flac streams of unknown length.
_LONGEST_SAMPLES = 1 << 48

# Silence takes 14 bytes for 65535 samples in flac, 2 bytes for 5760 in Opus.
_MOST_SAMPLES_PER_BYTE = 1 << 14


# Ogg has its own channel order: the position in it of each channel in WAV order.
_OGG_ORDERS = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 5, 3, 4),
    7: (0, 2, 1, 6, 5, 3, 4),
    8: (0, 2, 1, 7, 5, 6, 3, 4),
}


class UnknownFormatError(AudioError):
    """libsndfile does not know the format, or the header is damaged beyond recognition."""


class ForwardSound(soundfile.SoundFile):
    """A sound file that is read or written from its start to its end.

    soundfile seeks between calls, which costs time and corrupts the decoding of an MP3; it does not seek in files that
    report that they cannot.
    """

    def seekable(self) -> bool:
        """Return False."""
        return False


def open_sound(path: Path, kind: type[Sound] = soundfile.SoundFile) -> Sound:
    """Open an audio file in a format that libsndfile supports, and check for damage that libsndfile does not report.

    Raises:
        UnknownFormatError: libsndfile does not support the format; another decoder may.
        AudioError: the file is missing, empty, truncated, or contains 0 samples.
    """
    try:
        if path.is_dir():
            raise AudioError(f"{path}: is a folder, not an audio file; name the files inside it")
        if not path.is_file():
            raise AudioError(f"{path}: no file has this name; check the spelling and the folder")
        with path.open("rb"):
            size = path.stat().st_size
    except OSError as error:
        raise AudioError(f"{path}: cannot be opened ({error.strerror}); check its name and permissions") from None
    if size == 0:
        raise AudioError(f"{path}: is empty (0 bytes); copy or export it again")
    try:
        file = kind(file_name(path))
    except (soundfile.LibsndfileError, TypeError):  # TypeError: .raw files, which need a rate, channels and a format
        damage = find_overlong_chunk(path)
        if damage:
            raise AudioError(f"{path}: is truncated or damaged: {damage}; {fetch_again(path)}") from None
        raise UnknownFormatError(
            f"{path}: is not audio that can be read, or its header is damaged. Legal: wav, flac, mp3, ogg, opus, aiff, "
            f"caf; convert anything else, for example with: {_conversion(path)}"
        ) from None
    problem = _find_problem(path, file)
    if problem:
        file.close()
        raise AudioError(f"{path}: {problem}")
    return file


def channel_order(container: str, channels: int) -> list[int] | slice:
    """Return the positions of the channels in a file, in WAV order: L R C LFE Ls Rs."""
    order = _OGG_ORDERS.get(channels) if container == "OGG" else None
    return slice(None) if order is None else list(order)


def file_name(path: Path) -> Any:
    """Return bytes where possible, so that names that are not valid text work too (soundfile's types lack bytes)."""
    return os.fsencode(path) if os.name == "posix" else str(path)


def _find_problem(path: Path, file: soundfile.SoundFile) -> str | None:
    if file.format not in _READABLE:
        return (
            f"is a {file.format} file; legal: wav, flac, mp3, ogg, opus, aiff, caf. Convert it, for example with: "
            f"{_conversion(path)}"
        )
    damage = find_damage(path, file.format, file.frames)
    if damage:
        return f"is truncated or damaged: {damage}; {fetch_again(path)}"
    if file.frames < 1:
        return "holds 0 samples; copy or export it again"
    size = path.stat().st_size
    if _LONGEST_SAMPLES > file.frames > size * _MOST_SAMPLES_PER_BYTE:
        return (
            f"is damaged or truncated: its header promises {file.frames} samples, but its {size} bytes cannot hold so "
            f"many; {fetch_again(path)}"
        )
    if file.frames > _LONGEST_SAMPLES:
        again = _ffmpeg(path, path.stem + "-repaired" + path.suffix)
        return f"its header does not state its length (as in a saved stream); rewrite it: {again}"
    return None


def fetch_again(path: Path) -> str:
    """Return advice for a damaged file."""
    repair = _ffmpeg(path, path.stem + "-repaired" + path.suffix)
    return f"copy or export it again. If there is no other copy, save what can be decoded with: {repair}"


def _conversion(path: Path) -> str:
    same = path.suffix.lower() == ".wav"  # the command must not overwrite what it reads
    return _ffmpeg(path, f"{path.stem}-converted.wav" if same else f"{path.stem}.wav")


def _ffmpeg(path: Path, to: str) -> str:
    return f"ffmpeg -i {shlex.quote(path.name)} {shlex.quote(to)}"


def reason(error: BaseException) -> str:
    """Return in a few words why reading or writing failed."""
    if isinstance(error, MemoryError):
        return "the samples do not fit into memory"
    if isinstance(error, soundfile.LibsndfileError):
        return error.error_string.rstrip(".")
    return getattr(error, "strerror", None) or "only a part was written to the disk"

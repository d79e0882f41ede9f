"""Writing audio files block by block, under a temporary name until they are complete."""

import errno
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile
from typing_extensions import Self

from bandsplit.audio.opening import ForwardSound, channel_order, file_name, reason
from bandsplit.core.errors import AudioError, OutputError
from bandsplit.core.interrupt import held
from bandsplit.core.unfinished import Unfinished, temporary_name

# Suffix -> libsndfile's container and the sample format that loses least.
_WRITABLE = {
    ".wav": ("WAV", "FLOAT"),
    ".flac": ("FLAC", "PCM_24"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
_LARGEST_WAV_BYTES = 0xFFFF0000
_SAMPLE_BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3}
_MP3_KBPS = (32, 320)
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Errors that no other song would avoid."""

TAGS = ("title", "artist", "album", "tracknumber", "date", "genre", "comment", "copyright", "license")
"""Tags of a file, as libsndfile names them."""


@dataclass(frozen=True)
class SoundFormat:
    """Container and sample format of a file, as libsndfile names them."""

    container: str
    subtype: str
    kbps: int | None = None
    """Constant bit rate of an MP3; None leaves it to the encoder."""

    @classmethod
    def of(cls, path: Path, subtype: str | None = None, kbps: int | None = None) -> Self:
        """Choose by the suffix of ``path``; the default is the sample format that loses least.

        Raises:
            AudioError: an unknown suffix, or a subtype that the format does not have.
        """
        if path.suffix.lower() not in _WRITABLE:
            raise AudioError(
                f"{path}: cannot write {path.suffix or 'files without a suffix'}; legal: {', '.join(_WRITABLE)}"
            )
        container, default = _WRITABLE[path.suffix.lower()]
        subtype = subtype or default
        if not soundfile.check_format(container, subtype):
            legal = ", ".join(soundfile.available_subtypes(container))
            raise AudioError(f"{path}: {container} files have no subtype {subtype!r}; legal: {legal}")
        return cls(container, subtype, kbps)

    @property
    def is_float(self) -> bool:
        """Whether the format keeps samples beyond full scale."""
        return self.subtype in ("FLOAT", "DOUBLE")

    def open(self, path: Path, sample_rate_hz: int, channels: int, samples: int) -> soundfile.SoundFile:
        """Open a file for ``samples`` samples; wav files above 4 GB become RF64.

        Raises:
            soundfile.LibsndfileError: the format does not support this rate or number of channels.
        """
        container, encoder = self.container, {}
        if container == "WAV" and samples * channels * _SAMPLE_BYTES.get(self.subtype, 8) > _LARGEST_WAV_BYTES:
            container = "RF64"  # a wav header cannot describe more than 4 GiB
        if self.kbps is not None:
            least, most = _MP3_KBPS  # libsndfile maps LAME's range in reverse to 0 to 1
            encoder = {"bitrate_mode": "CONSTANT", "compression_level": (most - self.kbps) / (most - least)}
        return ForwardSound(file_name(path), "w", sample_rate_hz, channels, self.subtype, format=container, **encoder)


class Writer:
    """An audio file being written. It gets its name when committed; otherwise it is removed."""

    def __init__(
        self,
        path: Path,
        form: SoundFormat,
        sample_rate_hz: int,
        channels: int,
        samples: int,
        tags: Mapping[str, str] | None = None,
        unfinished: Unfinished | None = None,
    ) -> None:
        """Open the file.

        Args:
            path: its name.
            form: its format.
            sample_rate_hz: its sample rate.
            channels: its number of channels.
            samples: number of samples that will be written.
            tags: its tags, by the names in `TAGS`; tags that the format does not support are left out.
            unfinished: the temporary file in the folder of ``path``, if the caller manages it too.

        Raises:
            AudioError: the folder is not writable, or the format does not support this rate or number of channels.
        """
        self.path = path
        self.form = form
        self._unfinished = unfinished or Unfinished(temporary_name(path.parent))
        self.temporary = self._unfinished.path
        order = channel_order(form.container, channels)
        self._order = order if isinstance(order, slice) else np.argsort(order)
        self._what = f"{form.container} with {channels} channels at {sample_rate_hz} Hz"
        try:
            self.temporary.touch()  # gives the reason why a folder is not writable; libsndfile says "System error"
            self._file = form.open(self.temporary, sample_rate_hz, channels, samples)
            for name in TAGS:
                with suppress(soundfile.LibsndfileError, KeyError):  # no such tag in this format, or none given
                    setattr(self._file, name, (tags or {})[name])
        except BaseException as error:
            known = isinstance(error, OSError | soundfile.LibsndfileError)
            refusal = self._refusal(error) if known else error
            self._unfinished.remove()
            raise refusal from None

    def write(self, block: np.ndarray) -> None:
        """Append ``channels samples``, channels in WAV order.

        Raises:
            AudioError: the disk is full or unavailable.
        """
        try:
            self._file.write(block[self._order].T)
        except (OSError, soundfile.LibsndfileError, AssertionError) as error:  # AssertionError: a short write
            raise self._refusal(error) from None

    def close(self) -> None:
        """Write the rest, still under the temporary name.

        Raises:
            AudioError: the disk is full or unavailable.
        """
        try:
            self._file.close()
            if not self.temporary.stat().st_size:
                raise OSError(0, "the disk took nothing")
            if self.form.container == "WAV":
                _forget_time(self.temporary)
        except (OSError, soundfile.LibsndfileError) as error:
            raise self._refusal(error) from None

    def commit(self) -> None:
        """Close the file and give it its name, replacing any older file.

        Raises:
            AudioError: the disk is full or unavailable.
        """
        self.close()
        self._take_name()

    def _take_name(self) -> None:
        try:
            os.replace(self.temporary, self.path)
        except OSError as error:
            raise self._refusal(error) from None

    def _set_aside(self, aside: Path) -> None:
        """Rename an existing file of this name to a hidden name."""
        if self.path.is_dir():
            return  # the folder keeps the name, and renaming the new file fails
        try:
            with suppress(FileNotFoundError):
                os.replace(self.path, aside)
        except OSError as error:
            raise self._refusal(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except soundfile.LibsndfileError:
            pass  # a full disk, which was reported
        finally:
            self._unfinished.remove()

    def _refusal(self, error: BaseException) -> AudioError:
        cause = self._cause(error)
        kind = OutputError if isinstance(cause, OSError) and cause.errno in _DISK_ERRORS else AudioError
        return kind(
            f"{self.path}: cannot be written as {self._what} ({reason(cause)}); check that the folder exists, is "
            f"writable and has room, and that the format allows this"
        )

    def _cause(self, error: BaseException) -> BaseException:
        if not isinstance(error, soundfile.LibsndfileError) or not self.temporary.exists():
            return error
        try:  # libsndfile reports every error of the disk as "System error"
            with self.temporary.open("ab") as file:
                file.write(bytes(1 << 16))
        except OSError as problem:
            return problem
        return error


def commit_together(files: Sequence[Writer]) -> None:
    """Close files and give either all or none of them their names, replacing any older files.

    If the process is killed during this short step, some names may be left without a file.

    Raises:
        AudioError: the disk is full or unavailable; the older files are unchanged.
    """
    for file in files:
        file.close()
    older = [temporary_name(file.path.parent) for file in files]
    with held():
        try:
            for file, aside in zip(files, older, strict=True):
                file._set_aside(aside)
            for file in files:
                file._take_name()
        except BaseException:
            for file, aside in zip(files, older, strict=True):
                with suppress(OSError):
                    if aside.exists():
                        os.replace(aside, file.path)
                    elif not file.temporary.exists():
                        file.path.unlink()
            raise
        for aside in older:
            with suppress(OSError):
                aside.unlink()


def _forget_time(path: Path) -> None:
    """Zero the timestamp that float wav files store next to their peak, so that equal audio makes equal files."""
    with path.open("r+b") as file:
        file.seek(12)
        while len(header := file.read(8)) == 8 and header[:4] != b"data":
            if header[:4] == b"PEAK":
                file.seek(4, os.SEEK_CUR)  # version
                file.write(bytes(4))
                return
            length = int.from_bytes(header[4:], "little")
            file.seek(length + length % 2, os.SEEK_CUR)

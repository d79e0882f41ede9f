"""Outputs of a separation: the stems, their names, formats and levels."""

import math
import os
import re
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from typing_extensions import Self

from bandsplit.audio.files import make_folder
from bandsplit.audio.opening import ForwardSound, file_name
from bandsplit.audio.streams import BLOCK_SAMPLES
from bandsplit.audio.writing import SoundFormat, Writer, commit_together
from bandsplit.core.config import Config
from bandsplit.core.errors import AudioError, ConfigError
from bandsplit.core.interrupt import held
from bandsplit.core.unfinished import Unfinished, swept, temporary_name

_FIELDS = ("track", "trackext", "folder", "stem", "ext", "model")
_FIELD = re.compile(r"\{([^{}]*)\}")


class OutputConfig(Config):
    """Settings for the stems that are made from the estimates, and for their files."""

    filename: str = "{track}/{stem}.{ext}"
    """Name of each file, below the output folder."""
    ext: Literal["wav", "flac", "ogg", "mp3"] = "wav"
    """Format."""
    subtype: Literal["PCM_16", "PCM_24", "FLOAT"] | None = None
    """Sample format of wav and flac; None: float32 for wav, 24 bit for flac."""
    kbps: int | None = None
    """Bit rate of mp3, 32 to 320; None: the encoder's default."""
    clip_mode: Literal["rescale", "clamp", "none"] | None = None
    """Treatment of stems beyond full scale: one gain for all stems, limiting, or nothing. None: nothing if the format
    is float, else one gain."""
    consistent: bool = False
    """Distribute the difference between the mixture and the sum of the stems evenly over the stems."""
    residual: str | None = None
    """Name of one more stem: the mixture minus all others."""
    two_stems: str | None = None
    """Write only this target and the mixture without it."""

    def check(self, targets: Sequence[str]) -> None:
        """Check that these stems can be made from estimates of ``targets``.

        Raises:
            ConfigError: they cannot; the message names the setting.
        """
        legal = {"wav": ("PCM_16", "PCM_24", "FLOAT"), "flac": ("PCM_16", "PCM_24")}.get(self.ext, ())
        if self.subtype is not None and self.subtype not in legal:
            raise ConfigError(f"subtype: {self.ext} files have no {self.subtype}; legal: {', '.join(legal) or 'none'}")
        unknown = [field for field in _FIELD.findall(self.filename) if field not in _FIELDS]
        if unknown or re.search(r"[{}]", _FIELD.sub("", self.filename)):
            legal = ", ".join(f"{{{field}}}" for field in _FIELDS)
            raise ConfigError(
                f"filename: {self.filename!r} contains {', '.join(unknown) or 'a single brace'}; legal: {legal}"
            )
        name = self.filename.replace("{ext}", self.ext)
        if Path(name).suffix.lower() != f".{self.ext}":
            raise ConfigError(
                f"filename: {self.filename!r} does not end with the suffix of {self.ext} files; end it with .{{ext}}, "
                f"or choose another format"
            )
        stems = self.stems(targets)
        if len(stems) > 1 and "{stem}" not in self.filename:
            raise ConfigError(
                f"filename: {self.filename!r} has no {{stem}}; the {len(stems)} stems need names of their own"
            )
        if self.kbps is not None and (self.ext != "mp3" or not 32 <= self.kbps <= 320):
            raise ConfigError(f"kbps: {self.kbps} for {self.ext}; bit rates are those of mp3, 32 to 320")
        if sum((self.consistent, self.residual is not None, self.two_stems is not None)) > 1:
            raise ConfigError(
                "consistent, residual, two_stems: each alone makes the stems sum to the mixture; choose one"
            )
        if self.consistent and len(targets) < 2:
            raise ConfigError(f"consistent: needs stems that make up the mixture, but there is only {targets[0]!r}")
        if self.residual in targets:
            raise ConfigError(f"residual: {self.residual!r} is estimated already; choose another name")
        if self.two_stems is not None and self.two_stems not in targets:
            raise ConfigError(f"two_stems: {self.two_stems!r} is not estimated; legal: {', '.join(targets)}")

    def stems(self, targets: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the stems that are made from estimates of ``targets``."""
        if self.two_stems is not None:
            return (self.two_stems, f"no_{self.two_stems}")
        return (*targets, *([self.residual] if self.residual is not None else []))

    def derive(self, mixture: np.ndarray, estimates: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Make the stems of a block ``channels samples`` of the mixture and its estimates."""
        if self.two_stems is not None:
            kept = estimates[self.two_stems]
            return {self.two_stems: kept, f"no_{self.two_stems}": mixture - kept}
        if not (self.consistent or self.residual is not None):
            return dict(estimates)
        remainder = mixture - np.sum(list(estimates.values()), axis=0)
        if self.residual is not None:
            return {**estimates, self.residual: remainder}
        return {target: estimate + remainder / len(estimates) for target, estimate in estimates.items()}

    def paths(
        self, out_dir: Path, source: Path, targets: Sequence[str], *, track: str | None = None, model: str = "model"
    ) -> dict[str, Path]:
        """Return the file of each stem; all are below ``out_dir``.

        Args:
            out_dir: the output folder.
            source: the song.
            targets: estimated targets.
            track: name of the song, which may include folders; derived from ``source`` by default.
            model: name of the model.

        Raises:
            AudioError: a file would be outside, or overwrite the song.
        """
        names = (track or track_name(source)).split("/")
        fields = {"track": "/".join(map(_clean, names)), "trackext": _clean(source.suffix[1:]) if source.suffix else ""}
        fields |= {"folder": _clean(folder_name(source)), "ext": self.ext, "model": _clean(model)}
        paths = {}
        for stem in self.stems(targets):
            values = fields | {"stem": _clean(stem)}
            name = _FIELD.sub(lambda match, values=values: values[match[1]], self.filename)
            if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or Path(name).is_absolute() or not name:
                raise AudioError(f"filename: {name!r} leads out of {out_dir}; choose a name below it")
            paths[stem] = out_dir / name
            if os.path.realpath(paths[stem]) == os.path.realpath(source):
                raise AudioError(
                    f"{source}: would be overwritten by the stem {paths[stem]}; choose another output folder"
                )
        return paths


def track_name(path: Path) -> str:
    """Return the name of the folder for the stems of a file."""
    return path.stem if path.stem.strip(".") else path.name


def folder_name(path: Path) -> str:
    """Return the name of the folder of a file."""
    return os.path.basename(os.path.dirname(os.path.abspath(path)))  # of ../song.wav, too


def _clean(text: str) -> str:
    """Turn a text into one part of a path: no folders, no control characters, neither ``.`` nor ``..``."""
    text = re.sub(r"[/\\\x00-\x1f]", "_", text)
    return text if text.strip(".") or len(text) > 2 else "_" * max(1, len(text))


class StemFiles:
    """The unfinished files of all stems of a song. At the end, all get their names or none does."""

    def __init__(
        self,
        config: OutputConfig,
        paths: Mapping[str, Path],
        sample_rate_hz: int,
        channels: int,
        samples: int,
        tags: Mapping[str, str],
    ) -> None:
        """Make the folders and open the files.

        Raises:
            AudioError: a folder or the format does not allow them.
        """
        self._stack = ExitStack()
        self._close = weakref.finalize(self, self._stack.close)  # so that Ctrl-C before `with` leaves no files
        self._clip_mode = config.clip_mode
        self._peaks = dict.fromkeys(paths, 0.0)
        try:
            with held():  # files and folders are created together with the callbacks that remove them
                for folder in {path.parent: None for path in paths.values()}:
                    missing = [part for part in (folder, *folder.parents) if not os.path.exists(part)]
                    self._stack.callback(_remove_empty, missing)
                    make_folder(folder)
                    self._stack.enter_context(swept(folder))
                facts = sample_rate_hz, channels, samples
                self._files = {
                    stem: self._open(path, SoundFormat.of(path, config.subtype, config.kbps), *facts, tags)
                    for stem, path in paths.items()
                }
                is_float = all(file.form.is_float for file in self._files.values())
                if self._clip_mode is None:
                    self._clip_mode = "none" if is_float else "rescale"
                self._rough: dict[str, Writer] | None = None
                if self._clip_mode == "rescale":
                    # The gain is known at the end: until then, the stems are floats in files next to the final ones.
                    form = SoundFormat("WAV", "FLOAT")
                    self._rough = {stem: self._open(path, form, *facts, {}) for stem, path in paths.items()}
                self._clips = not is_float
        except BaseException:
            self._close()
            raise

    def _open(
        self, path: Path, form: SoundFormat, sample_rate_hz: int, channels: int, samples: int, tags: Mapping[str, str]
    ) -> Writer:
        unfinished = Unfinished(temporary_name(path.parent))
        self._stack.callback(unfinished.remove)  # before the file exists
        writer = Writer(path, form, sample_rate_hz, channels, samples, tags, unfinished)
        return self._stack.enter_context(writer)

    def write(self, stems: Mapping[str, np.ndarray]) -> None:
        """Append a block ``channels samples`` of each stem.

        Raises:
            AudioError: the disk is full, or gone.
        """
        for stem, block in stems.items():
            self._peaks[stem] = max(self._peaks[stem], float(block.max()), -float(block.min()))
            if self._rough is not None:
                self._rough[stem].write(block)
            else:
                self._files[stem].write(np.clip(block, -1, 1) if self._clip_mode == "clamp" else block)

    def finish(self) -> tuple[float, tuple[str, ...]]:
        """Complete the files and give them their names.

        Returns:
            The gain of all stems, and notes for the user on levels.

        Raises:
            AudioError: the disk is full, or gone.
        """
        peak = max(self._peaks.values())
        gain, notes = 1.0, []
        if self._rough is not None:
            gain = 1 / peak if peak > 1 else 1.0
            for stem, rough in self._rough.items():
                rough.close()
                with ForwardSound(file_name(rough.temporary)) as file:
                    while len(block := file.read(BLOCK_SAMPLES, "float32", always_2d=True)):
                        self._files[stem].write(np.float32(gain) * block.T)
                rough.temporary.unlink()
        if gain < 1:
            notes.append(
                f"all stems were made quieter by one gain, {20 * math.log10(gain):.2f} dB, since the loudest would "
                f"peak at {peak:.3f} of full scale"
            )
        elif peak > 1 and (self._clips or self._clip_mode == "clamp"):
            loud = ", ".join(f"{stem} ({value:.3f})" for stem, value in self._peaks.items() if value > 1)
            notes.append(f"clipped at full scale: {loud}")
        commit_together(list(self._files.values()))
        return gain, tuple(notes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return  # it is in use, or was never created

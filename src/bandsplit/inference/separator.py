"""Separate whole songs: arrays or files in, one signal per target out, at the input's rate, channels and length."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from bandsplit import audio as audio_io
from bandsplit.config import ChunkConfig, CrossfadeConfig
from bandsplit.errors import AudioError, ConfigError
from bandsplit.inference.chunks import ChunkPlan, apply_plan, plan_chunks
from bandsplit.models.files import load_model
from bandsplit.models.model import BandSplitModel

Model: TypeAlias = Path | str | BandSplitModel
Progress: TypeAlias = Callable[[float, float], None]
Array = TypeVar("Array", np.ndarray, Tensor)

_MANY_CHANNELS = 8

_log = logging.getLogger("bandsplit")


@dataclass(frozen=True)
class FileResult:
    """What `Separator.separate_file` did."""

    track: str
    paths: dict[str, Path]
    """Target -> file."""
    notes: tuple[str, ...]
    """What a user should know: channels duplicated, audio resampled."""
    plan: ChunkPlan
    """How the song was cut, at the model's sample rate."""
    audio_s: float
    """Length of the song."""
    wall_s: float
    """Time it took, reading and writing included."""


class Separator:
    """One or several models that estimate the targets of whole songs.

    Nothing is normalised: a louder mixture gives what the network makes of it, silence gives silence. Calls share no
    state, so threads may use one separator; equal input gives equal output.

    Attributes:
        sample_rate_hz: Rate the models work at; other rates are resampled there and back.
        targets: Names of the estimated targets, in the order of the models.
        channels: Number of channels a model insists on; None if all take any number.
    """

    def __init__(
        self,
        model: Model | Sequence[Model],
        device: str | torch.device = "auto",
        chunks: ChunkConfig | None = None,
        batch_size: int = 1,
    ) -> None:
        """Load the models and put them on the device.

        Args:
            model: a model file, a model, or several of either with different targets. A model given as an object is
                moved to the device and put into evaluation mode, not copied.
            device: "auto" (a CUDA device if there is one, else the CPU) or a PyTorch device.
            chunks: how songs are cut; the authors' 10 s crossfade by default.
            batch_size: chunks estimated at once: faster on a GPU, at the price of memory.

        Raises:
            ModelFileError: a file is not a model.
            ConfigError: the models do not go together, or the device is not here.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size: {batch_size} is not a positive number of chunks")
        given = [model] if isinstance(model, str | Path | nn.Module) else list(model)
        if not given:
            raise ConfigError("model: the list is empty; give at least one model")
        self.device = pick_device(device)
        self.chunks = CrossfadeConfig() if chunks is None else chunks
        self.batch_size = batch_size
        models = [load_model(item) if isinstance(item, str | Path) else item for item in given]
        _check_models(models, given)
        self._models = [item.to(self.device).eval() for item in models]
        self.sample_rate_hz = models[0].config.sample_rate_hz
        self.targets = tuple(target for item in models for target in item.config.targets)
        self.channels = next((needed for item in models if (needed := _needed_channels(item))), None)

    def plan(self, samples: int, sample_rate_hz: int) -> ChunkPlan:
        """Plan the chunks of a song of ``samples`` at ``sample_rate_hz``, at the models' rate; print it to see it."""
        length = audio_io.resampled_length(samples, sample_rate_hz, self.sample_rate_hz)
        return plan_chunks(length, self.chunks, self.sample_rate_hz)

    def separate(self, audio: Array, sample_rate_hz: int, progress: Progress | None = None) -> dict[str, Array]:
        """Estimate all targets of a song.

        Args:
            audio: float ``(channels, samples)``, NumPy or torch, on any device. 0 samples give 0 samples.
            sample_rate_hz: its sample rate.
            progress: called with the seconds done and the seconds in all, after every batch of chunks.

        Returns:
            Target -> float32 ``(channels, samples)`` of the input's kind (tensors on the CPU), rate and length.

        Raises:
            AudioError: ``audio`` is not such an array, holds NaN or infinity, or has channels the models cannot take.
        """
        audio_io.check_sample_rate(sample_rate_hz)
        mixture = _to_numpy(audio)
        audio_io.check_finite(mixture, "audio", sample_rate_hz)
        self._check_channels(mixture, "audio")
        for note in self._notes(len(mixture), sample_rate_hz):
            _log.info(note)
        estimates = self._separate(mixture, sample_rate_hz, progress, "audio")
        if isinstance(audio, Tensor):
            return {target: torch.from_numpy(estimate) for target, estimate in estimates.items()}
        return estimates

    def separate_file(self, path: Path | str, out_dir: Path | str, progress: Progress | None = None) -> FileResult:
        """Separate an audio file into ``out_dir/<name of the file>/<target>.wav``, float32, replacing existing stems.

        Raises:
            AudioError: the file cannot be read (see `bandsplit.audio.read`), has channels the models cannot take, or
                the folder cannot be written to; this is found out before the separation.
        """
        began = time.perf_counter()
        path = Path(path)
        track = track_name(path)
        paths = {target: Path(out_dir) / track / f"{target}.wav" for target in self.targets}
        for stem in paths.values():
            if stem.resolve() == path.resolve():
                raise AudioError(f"{path}: would be overwritten by the stem {stem}; choose another output folder")
        mixture, sample_rate_hz = audio_io.read(path)
        samples = mixture.shape[1]
        self._check_channels(mixture, str(path))
        audio_io.make_folder(Path(out_dir) / track)
        estimates = self._separate(mixture, sample_rate_hz, progress, str(path))
        for target, stem in paths.items():
            audio_io.write(stem, estimates[target], sample_rate_hz)
        return FileResult(
            track=track,
            paths=paths,
            notes=self._notes(len(mixture), sample_rate_hz),
            plan=self.plan(samples, sample_rate_hz),
            audio_s=samples / sample_rate_hz,
            wall_s=time.perf_counter() - began,
        )

    def _separate(
        self, mixture: np.ndarray, sample_rate_hz: int, progress: Progress | None, name: str
    ) -> dict[str, np.ndarray]:
        """Separate a checked mixture; ``name`` is what errors call it."""
        channels, samples = mixture.shape
        if samples == 0:
            return {target: np.zeros((channels, 0), np.float32) for target in self.targets}
        plan = self.plan(samples, sample_rate_hz)
        heard = audio_io.resample(mixture, sample_rate_hz, self.sample_rate_hz)
        estimates: dict[str, np.ndarray] = {}
        for index, model in enumerate(self._models):
            needed = _needed_channels(model) or channels
            stems = apply_plan(
                plan,
                audio_io.to_channels(heard, needed, name),
                lambda batch, model=model: self._estimate(model, batch),
                self.batch_size,
                _share(progress, index, len(self._models), plan.total_samples, samples / sample_rate_hz),
            )
            for target, stem in zip(model.config.targets, audio_io.from_channels(stems, channels), strict=True):
                if not np.isfinite(stem).all():
                    raise AudioError(
                        f"{name}: the estimate of {target!r} is not finite; the mixture peaks at "
                        f"{np.abs(mixture).max():.3g} (full scale is 1), so scale it down, or the model is damaged"
                    )
                estimates[target] = audio_io.resample(stem, self.sample_rate_hz, sample_rate_hz, samples)
        return estimates

    def _estimate(self, model: BandSplitModel, batch: np.ndarray) -> np.ndarray:
        """Run the network: chunks ``b c samples`` to estimates ``b s c samples``."""
        with torch.inference_mode():
            return model(torch.from_numpy(batch).to(self.device)).signal.cpu().numpy()

    def _check_channels(self, mixture: np.ndarray, name: str) -> None:
        if self.channels:
            audio_io.to_channels(mixture[:, :0], self.channels, name)

    def _notes(self, channels: int, sample_rate_hz: int) -> tuple[str, ...]:
        notes = []
        if self.channels and channels != self.channels:
            notes.append(f"mono was duplicated to the {self.channels} channels the model needs; stems are mono again")
        if sample_rate_hz != self.sample_rate_hz:
            notes.append(f"resampled from {sample_rate_hz} Hz to the model's {self.sample_rate_hz} Hz and back")
        return tuple(notes)


def track_name(path: Path) -> str:
    """Name of the folder that takes the stems of a file."""
    return path.stem if path.stem.strip(".") else path.name


def check_outputs(files: Sequence[Path]) -> None:
    """Refuse files whose stems would go to one folder.

    Raises:
        ConfigError: naming both files.
    """
    owners: dict[str, Path] = {}
    for file in files:
        other = owners.setdefault(track_name(file), file)
        if other is not file:
            raise ConfigError(
                f"{other} and {file}: the stems of both would go to one folder, {track_name(file)!r}; separate them "
                f"one by one with different -o"
            )


def pick_device(device: str | torch.device) -> torch.device:
    """Choose the device that ``auto`` means, or check that the named one can be used.

    Raises:
        ConfigError: it cannot be used here.
    """
    if device == "auto":
        # Never mps by itself: it lacks operations on complex spectrograms, and its numbers have not been checked.
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
        torch.empty(0, device=picked)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device: {device!r} cannot be used here ({reason}); legal: 'auto', 'cpu', 'cuda'") from None
    return picked


def _needed_channels(model: BandSplitModel) -> int | None:
    return None if model.config.stereo.kind == "independent" else model.config.channels


def _check_models(models: list[BandSplitModel], given: list[Model]) -> None:
    names = [
        str(item) if isinstance(item, str | Path) else f"model {number} of the list"
        for number, item in enumerate(given, 1)
    ]
    owners: dict[str, str] = {}
    for model, name in zip(models, names, strict=True):
        if not isinstance(model, nn.Module):
            raise ConfigError(f"{name}: is a {type(model).__name__}; give the path of a model file or a BandSplitModel")
        if model.config.sample_rate_hz != models[0].config.sample_rate_hz:
            raise ConfigError(
                f"{name}: works at {model.config.sample_rate_hz} Hz, but {names[0]} at "
                f"{models[0].config.sample_rate_hz} Hz; models used together must share a sample rate"
            )
        for target in model.config.targets:
            if target in owners:
                raise ConfigError(
                    f"target {target!r}: estimated by both {owners[target]} and {name}; leave one of them out"
                )
            owners[target] = name
    needed = {count: name for model, name in zip(models, names, strict=True) if (count := _needed_channels(model))}
    if len(needed) > 1:
        facts = " and ".join(f"{name} needs {count} channels" for count, name in needed.items())
        raise ConfigError(f"model: {facts}; models used together must take the same number")


def _to_numpy(audio: Any) -> np.ndarray:
    """Check kind, type and shape, and return float32 ``channels samples``."""
    if not isinstance(audio, np.ndarray | Tensor):
        raise AudioError(
            f"audio: is a {type(audio).__name__}; give a NumPy array or a torch tensor, (channels, samples)"
        )
    is_float = audio.is_floating_point() if isinstance(audio, Tensor) else np.issubdtype(audio.dtype, np.floating)
    if not is_float:
        raise AudioError(
            f"audio: has dtype {audio.dtype}; give float32 with full scale at 1, for int16 samples: "
            f"audio.astype('float32') / 32768 (torch: audio.float() / 32768)"
        )
    if audio.ndim != 2:
        fix = "for mono use audio[None, :]" if audio.ndim == 1 else "separate the items of a batch one by one"
        raise AudioError(f"audio: has shape {tuple(audio.shape)}; it must be (channels, samples), {fix}")
    channels, samples = audio.shape
    if channels == 0:
        raise AudioError(f"audio: has shape {tuple(audio.shape)}, no channels; give (channels, samples)")
    if channels > _MANY_CHANNELS and channels > samples:
        raise AudioError(f"audio: shape {tuple(audio.shape)} looks like (samples, channels); use audio.T")
    if isinstance(audio, Tensor):
        return audio.detach().to("cpu", torch.float32).numpy()
    return audio.astype(np.float32, copy=False)


def _share(
    progress: Progress | None, index: int, models: int, total_samples: int, total_s: float
) -> Callable[[int], None] | None:
    """Turn one model's count of samples into seconds of the whole job."""
    if progress is None:
        return None
    return lambda done: progress((index + done / total_samples) / models * total_s, total_s)

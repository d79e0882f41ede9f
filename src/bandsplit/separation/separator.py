"""Separation of complete songs: arrays or files in, one signal per target out, at the input's rate and length."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bandsplit.audio import arrays
from bandsplit.audio.decoding import open_song
from bandsplit.audio.streams import SecondsProgress, cut_blocks
from bandsplit.core.errors import Cancelled, ConfigError
from bandsplit.models.chunk_config import ChunkConfig
from bandsplit.separation.channels import ChannelGroups, group_channels
from bandsplit.separation.chunks import ChunkPlan
from bandsplit.separation.inputs import check_blocks, check_samples, is_tensor, to_numpy
from bandsplit.separation.members import Member, needed_targets
from bandsplit.separation.network import Model, Network, Precision, needed_channels
from bandsplit.separation.opening import Runtime, check_runtime
from bandsplit.separation.outputs import OutputConfig, StemFiles, track_name
from bandsplit.separation.pipeline import Pipeline, Stage, load_stage, make_stages
from bandsplit.separation.song_stream import SongStream
from bandsplit.separation.systems import read_system

if TYPE_CHECKING:
    import torch

Array = TypeVar("Array", np.ndarray, "torch.Tensor")

_log = logging.getLogger("bandsplit")


@dataclass(frozen=True)
class FileResult:
    """Result of `Separator.separate_file`."""

    track: str
    paths: dict[str, Path]
    """Stem -> file."""
    notes: tuple[str, ...]
    """Notes for the user: channels duplicated, audio resampled, levels changed."""
    plans: tuple[ChunkPlan, ...]
    """Chunks of the song, at the models' sample rate; several for a bag whose members are cut differently."""
    audio_s: float
    """Length of the song in seconds."""
    wall_s: float
    """Time of the separation, including reading and writing."""
    gain: float = 1.0
    """Factor applied to all stems so that the format does not clip them."""


class Separator:
    """One or several models that estimate the targets of complete songs.

    Levels are not normalised unless the models' authors did that: the network receives the mixture as it is. Silence
    gives silence. Calls share no state, so threads may use one separator; equal input gives equal output.

    Attributes:
        sample_rate_hz: Rate of the models; audio at other rates is resampled to it and back.
        targets: Names of the estimated targets, in the order of the models.
        channels: Number of channels that a model requires; None if all take any number.
        name: Names of the models and bags.
        files: Files of models and bags, including those that no wanted target needs.
        chunks: The chunk plans of the models, each once.

    Example:
        >>> import numpy as np
        >>> from bandsplit import Separator
        >>> from bandsplit.models.network import build_model
        >>> from bandsplit.recipes.catalogue import find_recipe
        >>> model = build_model(find_recipe("demo").run_config().model)  # untrained; or a file: "bass.safetensors"
        >>> separator = Separator(model, device="cpu")
        >>> stems = separator.separate(np.random.default_rng(0).uniform(-0.5, 0.5, (2, 22050)), 44100)
        >>> {target: stem.shape for target, stem in stems.items()}
        {'vocals': (2, 22050), 'bass': (2, 22050), 'drums': (2, 22050), 'other': (2, 22050)}
    """

    def __init__(
        self,
        model: Model | Sequence[Model],
        device: str | torch.device = "auto",
        chunks: ChunkConfig | Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        targets: Sequence[str] | None = None,
        runtime: Runtime = "auto",
        threads: int | None = None,
        precision: Precision = "fp32",
        sequential: bool = False,
        load: bool = True,
    ) -> None:
        """Load the models and put them on the device.

        Args:
            model: a model file, a bag (``bag.yaml``), a model, or several of these with different targets; registered
                names and folders are for `bandsplit.load_separator`. A model given as an object is moved to the device
                and put into evaluation mode, not copied.
            device: "auto" (a CUDA device if there is one, else the CPU) or a PyTorch device.
            chunks: the plan that cuts songs, or changes to those that the models' authors used, which are the default.
            batch_size: chunks estimated at once, which takes memory; by default one per CPU thread, or a few on a GPU.
            targets: the wanted targets, None for all. Models of others are not loaded, and their decoders not run.
            runtime: "torch", "onnx", "native" (the CPU kernels), or "auto": onnxruntime for .onnx files; the kernels,
                on a CPU, for models of PyTorch that they compute completely; else PyTorch. Only "torch" needs PyTorch.
            threads: CPU threads of a call, by default as many as `cpu_threads`; PyTorch has `torch.set_num_threads`.
            precision: of products: "fp32", "bf16", on a GPU "fp16", in the CPU kernels "int8". All but
                the first are faster there, and change estimates by about a hundredth; bf16 in the kernels by less.
            sequential: keep one model in memory at a time: each sees the complete song before the next is loaded, and
                estimates wait in a temporary file. Models that see what others left stay with these.
            load: False: only read what describes the models; each song would load them, so others should separate it.

        Raises:
            ModelFileError: a file is not a model or a bag.
            ConfigError: the models do not fit each other, none has a wanted target, ``chunks`` are too long for one or
                are not a plan, or the device or runtime is not available.
        """
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch_size: {batch_size} is not a positive number of chunks")
        models = [model] if isinstance(model, str | Path) or not isinstance(model, Iterable) else list(model)
        self.batch_size, self.precision = batch_size, precision
        system = read_system(models, targets, chunks, runtime)
        self.files, self.name = system.files, system.mean.name
        self.targets = tuple(target for target in system.mean.targets if targets is None or target in targets)
        needed = needed_targets(system.mean, self.targets)
        check_runtime([member.model for member in needed], device, runtime, precision)
        self._configs = [member.config for member in needed]
        self.sample_rate_hz = self._configs[0].sample_rate_hz
        self.channels = next((count for config in self._configs if (count := needed_channels(config))), None)
        stages = make_stages(needed, sequential)
        self.chunks = tuple(dict.fromkeys(stage.chunks for stage in stages))
        self._load = partial(load_stage, device=device, threads=threads, precision=precision, runtime=runtime)
        kept = stages[: int(load)] if sequential or not load else stages
        networks = {member: network for stage in kept for member, network in self._load(stage).items()}
        self.device = next((network.device for network in networks.values()), device)
        self._usual_batch = max((network.batch_size for network in networks.values()), default=1)
        self._networks = {} if len(stages) > len(kept) else networks
        self._pipeline = Pipeline(
            system.mean, stages, self.targets, self.sample_rate_hz, self._opened, batch_size, not self._networks
        )

    @property
    def chunks_at_once(self) -> int:
        """Number of chunks that are estimated at once."""
        batches = [network.batch_size for network in self._networks.values()]
        return self.batch_size or max(batches, default=self._usual_batch)

    def plans(self, samples: int, sample_rate_hz: int) -> list[ChunkPlan]:
        """Plan the chunks of a song of ``samples`` at ``sample_rate_hz``, at the models' rate; plans can be printed.

        Returns:
            One plan for all models whose chunks are the same; several for a bag whose members differ.
        """
        length = arrays.resampled_length(samples, sample_rate_hz, self.sample_rate_hz)
        return self._pipeline.plans(length)

    def separate(self, audio: Array, sample_rate_hz: int, progress: SecondsProgress | None = None) -> dict[str, Array]:
        """Estimate all targets of a song.

        Args:
            audio: float ``(channels, samples)``, NumPy or torch, on any device. 0 samples give 0 samples.
            sample_rate_hz: its sample rate.
            progress: called often with the seconds done, the total seconds and the stage: "decode" or "count" if a file
                needs it, then "separate" and "write". It cancels by returning False.

        Returns:
            Target -> float32 ``(channels, samples)`` of the input's kind (tensors on the CPU), rate and length.

        Raises:
            AudioError: ``audio`` is not such an array, contains NaN or infinity, or has a number of channels that the
                models cannot take.
            Cancelled: ``progress`` returned False.
        """
        arrays.check_sample_rate(sample_rate_hz)
        mixture = to_numpy(audio)
        arrays.check_finite(mixture, "audio", sample_rate_hz)
        channels, samples = mixture.shape
        for note in self.notes(channels, sample_rate_hz, "audio"):
            _log.info(note)
        estimates: dict[str, Any] = {target: np.empty((channels, samples), np.float32) for target in self.targets}
        if samples:
            song = SongStream(partial(cut_blocks, mixture), samples, channels, sample_rate_hz, "audio")
            for start, _, stems in self._stream(song, progress):
                for estimate, stem in zip(estimates.values(), stems, strict=True):
                    estimate[:, start : start + stem.shape[1]] = stem
        if is_tensor(audio):
            import torch

            estimates = {target: torch.from_numpy(estimate) for target, estimate in estimates.items()}
        return estimates

    def stream(
        self,
        path: Path | str,
        progress: SecondsProgress | None = None,
        *,
        start_s: float = 0,
        duration_s: float | None = None,
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Separate an audio file, or a part of it, in memory that does not depend on its length.

        Args:
            path: the file.
            progress: as for `separate`.
            start_s: start of the part.
            duration_s: its greatest length; None for the rest of the file.

        Yields:
            Neighbouring blocks: the first sample, counted from ``start_s``, and target -> float32
            ``channels samples`` at the file's rate.

        Raises:
            AudioError: the file cannot be read, or has channels the models cannot take.
            Cancelled: ``progress`` returned False.
        """
        path = Path(path)
        with open_song(path, start_s, duration_s, _cancellable(progress, str(path))) as source:
            for start, _, stems in self._stream(SongStream.of(source, path), progress):
                yield start, dict(zip(self.targets, stems, strict=True))

    def stream_blocks(
        self, blocks: Iterable[Array], sample_rate_hz: int, samples: int, progress: SecondsProgress | None = None
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Separate audio that comes in blocks, in memory that does not depend on its length.

        Args:
            blocks: float ``(channels, samples)``, of any lengths, NumPy or torch; they are requested as needed.
            sample_rate_hz: their sample rate.
            samples: their total length, from which the chunks are planned.
            progress: as for `separate`.

        Yields:
            Neighbouring blocks, not those of the input: the first sample, and target -> float32 ``channels samples``.

        Raises:
            AudioError: a block is not audio as for `separate`, the blocks differ in their number of channels, or they
                do not have ``samples`` samples in total.
            ConfigError: the song must be read twice, because it is normalised or models follow each other.
            Cancelled: ``progress`` returned False.
        """
        arrays.check_sample_rate(sample_rate_hz)
        check_samples(samples)
        if self._pipeline.reads_again:
            raise ConfigError(
                "blocks: can be read once, and the song must be read again, since it is normalised (normalise) or "
                "models follow each other (sequential); give a file or an array, or chunks={'normalise': 'none'}"
            )
        checked = check_blocks(blocks, sample_rate_hz, samples)
        for first in checked:  # once; the loop then requests another block, so that surplus blocks are refused
            rest = itertools.chain([first], checked)
            song = SongStream(lambda: rest, samples, len(first), sample_rate_hz, "audio")  # noqa: B023  read at once
            for start, _, stems in self._stream(song, progress):
                yield start, dict(zip(self.targets, stems, strict=True))

    def separate_file(
        self,
        path: Path | str,
        out_dir: Path | str,
        progress: SecondsProgress | None = None,
        *,
        output: OutputConfig | None = None,
        start_s: float = 0,
        duration_s: float | None = None,
        track: str | None = None,
    ) -> FileResult:
        """Separate an audio file, in memory that does not depend on its length.

        By default the stems are ``out_dir/<name of the file>/<target>.wav``, float32. Existing files are replaced
        when all new ones are complete; until then, the new ones are hidden.

        Args:
            path: the file.
            out_dir: the folder of all stems.
            progress: as for `separate`.
            output: the stems, their names, format and level.
            start_s: start of the separated part.
            duration_s: its greatest length; None for the rest of the file.
            track: name of the song; derived from ``path`` by default.

        Raises:
            AudioError: the file cannot be read, has a number of channels that the models cannot take, or the folder
                cannot be written to; the last two are checked before the separation.
            ConfigError: ``output`` does not fit these targets.
            Cancelled: ``progress`` returned False.
        """
        began = time.perf_counter()
        path, output = Path(path), output or OutputConfig()
        output.check(self.targets)
        paths = output.paths(Path(out_dir), path, self.targets, track=track, model=self.name)
        with open_song(path, start_s, duration_s, _cancellable(progress, str(path))) as source:
            notes = [source.note] if source.note else []
            notes += self.notes(source.channels, source.sample_rate_hz, str(path))
            song = SongStream.of(source, path)
            with StemFiles(output, paths, source.sample_rate_hz, source.channels, source.samples, source.tags) as files:
                for _, mixture, stems in self._stream(song, progress):
                    files.write(output.derive(mixture, dict(zip(self.targets, stems, strict=True))))
                _report(progress, song, 1, "write")
                gain, more = files.finish()
        return FileResult(
            track=track or track_name(path),
            paths=paths,
            notes=(*notes, *more),
            plans=tuple(self.plans(song.samples, song.sample_rate_hz)),
            audio_s=song.samples / song.sample_rate_hz,
            wall_s=time.perf_counter() - began,
            gain=gain,
        )

    def _stream(
        self, song: SongStream, progress: SecondsProgress | None
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield a first sample, the mixture ``c samples`` and the estimates ``s c samples``, all at the song's rate."""
        self._groups(song.channels, song.name)
        _report(progress, song, 0, "separate")
        plans = self.plans(song.samples, song.sample_rate_hz)
        yield from self._pipeline.run(song, plans, lambda share: _report(progress, song, share, "separate"))

    @contextmanager
    def _opened(self, stage: Stage) -> Iterator[Mapping[Member, Network]]:
        yield self._networks or self._load(stage)

    def notes(self, channels: int, sample_rate_hz: int, name: str) -> tuple[str, ...]:
        """Return notes for the user on a song called ``name``: channels duplicated or paired, audio resampled.

        Raises:
            AudioError: the models cannot take that many channels.
        """
        notes = list(dict.fromkeys(group.note for group in self._groups(channels, name) if group.note))
        if sample_rate_hz != self.sample_rate_hz:
            notes.append(f"resampled from {sample_rate_hz} Hz to the model's {self.sample_rate_hz} Hz and back")
        return tuple(notes)

    def _groups(self, channels: int, name: str) -> list[ChannelGroups]:
        return [group_channels(channels, needed_channels(config), name) for config in self._configs]


def _report(progress: SecondsProgress | None, song: SongStream, share: float, stage: str) -> None:
    seconds = song.samples / song.sample_rate_hz
    _cancellable(progress, song.name)(share * seconds, seconds, stage)


def _cancellable(progress: SecondsProgress | None, name: str) -> SecondsProgress:
    """Wrap a callback so that returning False stops the work on the song called ``name``."""

    def report(done_s: float, total_s: float, stage: str) -> None:
        if progress is not None and progress(done_s, total_s, stage) is False:
            raise Cancelled(f"{name}: cancelled; nothing was written")

    return report

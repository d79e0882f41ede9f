"""Separation of complete songs: arrays or files in, one signal per target out, at the input's rate and length."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from bandsplit.audio import arrays
from bandsplit.audio.decoding import open_song
from bandsplit.audio.streams import SecondsProgress, Source, Window, cut_blocks, resample_blocks
from bandsplit.core.errors import AudioError, Cancelled, ConfigError
from bandsplit.models.chunk_config import ChunkConfig
from bandsplit.separation.channels import ChannelGroups, group_channels
from bandsplit.separation.chunk_choice import choose_chunks
from bandsplit.separation.chunks import ChunkPlan, plan_chunks
from bandsplit.separation.inputs import check_blocks, check_samples, is_tensor, to_numpy
from bandsplit.separation.network import Model, Network, Precision, needed_channels
from bandsplit.separation.opening import Runtime, open_networks
from bandsplit.separation.outputs import OutputConfig, StemFiles, track_name
from bandsplit.separation.streaming import skip_silence, stream_plan

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
    plan: ChunkPlan
    """Chunks of the song, at the model's sample rate."""
    audio_s: float
    """Length of the song in seconds."""
    wall_s: float
    """Time of the separation, including reading and writing."""
    gain: float = 1.0
    """Factor applied to all stems so that the format does not clip them."""


class _SongStream(NamedTuple):
    """A stream of blocks ``channels samples``, its properties, and its name in errors."""

    blocks: Iterable[np.ndarray]
    samples: int
    channels: int
    sample_rate_hz: int
    name: str

    @classmethod
    def of(cls, source: Source, path: Path) -> _SongStream:
        return cls(source.blocks(), source.samples, source.channels, source.sample_rate_hz, str(path))


class Separator:
    """One or several models that estimate the targets of complete songs.

    Levels are not normalised: the network receives the mixture as it is, and silence gives silence. Calls share no
    state, so threads may use one separator; equal input gives equal output.

    Attributes:
        sample_rate_hz: Rate of the models; audio at other rates is resampled to it and back.
        targets: Names of the estimated targets, in the order of the models.
        channels: Number of channels that a model requires; None if all take any number.
        name: Names of the models.
        files: Files among the models, including those that no wanted target needs.

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
    ) -> None:
        """Load the models and put them on the device.

        Args:
            model: a model file, a model, or several of these with different targets; registered names and folders are
                for `bandsplit.load_separator`. A model given as an object is moved to the device and put into
                evaluation mode, not copied.
            device: "auto" (a CUDA device if there is one, else the CPU) or a PyTorch device.
            chunks: the plan that cuts songs, or changes to the one that the model's authors used, which is the default.
            batch_size: chunks estimated at once, which takes memory; by default one for each thread of a CPU, and a few
                on a GPU.
            targets: the wanted targets, None for all. Models of others are not loaded, and their decoders not run.
            runtime: "torch", "onnx", or "auto": onnxruntime for .onnx files, which need no PyTorch, else PyTorch.
            threads: CPU threads of a call of onnxruntime, by default OMP_NUM_THREADS or all cores; those of PyTorch
                are set with `torch.set_num_threads`.
            precision: of products in PyTorch: "fp32", "bf16", or on a GPU "fp16"; the last two are faster on GPUs, and
                change estimates by about a hundredth.

        Raises:
            ModelFileError: a file is not a model.
            ConfigError: the models do not fit each other, none has a wanted target, ``chunks`` are too long for one or
                are not a plan, or the device or runtime is not available.
        """
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch_size: {batch_size} is not a positive number of chunks")
        models = [model] if isinstance(model, str | Path) or not isinstance(model, Iterable) else list(model)
        self.files = tuple(Path(one) for one in models if isinstance(one, str | Path))
        self.batch_size = batch_size
        self.precision = precision
        self._networks = open_networks(models, device, targets, runtime, threads, precision)
        self.device = self._networks[0].device
        self.name = "+".join(network.name for network in self._networks)
        configs = [network.config for network in self._networks]
        self.sample_rate_hz = configs[0].sample_rate_hz
        there = [target for config in configs for target in config.targets]
        self.targets = tuple(target for target in there if targets is None or target in targets)
        # A network that cannot leave out a target (`narrowed`) still estimates it; only these rows are kept.
        self._kept = [there.index(target) for target in self.targets]
        self.chunks = choose_chunks(chunks, configs, [network.name for network in self._networks])
        self.channels = next((needed for config in configs if (needed := needed_channels(config))), None)

    @property
    def chunks_at_once(self) -> int:
        """Number of chunks that are estimated at once."""
        return self.batch_size or max(network.batch_size for network in self._networks)

    def plan(self, samples: int, sample_rate_hz: int) -> ChunkPlan:
        """Plan the chunks of a song of ``samples`` at ``sample_rate_hz``, at the models' rate; it can be printed."""
        length = arrays.resampled_length(samples, sample_rate_hz, self.sample_rate_hz)
        return plan_chunks(length, self.chunks, self.sample_rate_hz)

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
            song = _SongStream(cut_blocks(mixture), samples, channels, sample_rate_hz, "audio")
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
            for start, _, stems in self._stream(_SongStream.of(source, path), progress):
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
            Cancelled: ``progress`` returned False.
        """
        arrays.check_sample_rate(sample_rate_hz)
        check_samples(samples)
        checked = check_blocks(blocks, sample_rate_hz, samples)
        for first in checked:  # once; the loop then requests another block, so that surplus blocks are refused
            song = _SongStream(itertools.chain([first], checked), samples, len(first), sample_rate_hz, "audio")
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
            song = _SongStream.of(source, path)
            with StemFiles(output, paths, source.sample_rate_hz, source.channels, source.samples, source.tags) as files:
                for _, mixture, stems in self._stream(song, progress):
                    files.write(output.derive(mixture, dict(zip(self.targets, stems, strict=True))))
                _report(progress, song, 1, "write")
                gain, more = files.finish()
        return FileResult(
            track=track or track_name(path),
            paths=paths,
            notes=(*notes, *more),
            plan=self.plan(song.samples, song.sample_rate_hz),
            audio_s=song.samples / song.sample_rate_hz,
            wall_s=time.perf_counter() - began,
            gain=gain,
        )

    def _stream(
        self, song: _SongStream, progress: SecondsProgress | None
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield a first sample, the mixture ``c samples`` and the estimates ``s c samples``, all at the song's rate."""
        plan = self.plan(song.samples, song.sample_rate_hz)
        groups = self._groups(song.channels, song.name)
        _report(progress, song, 0, "separate")
        # One step is one chunk in one network, so that progress is even for any number of models and any batch.
        steps = (step / (len(plan.chunks) * len(self._networks)) for step in itertools.count(1))

        def estimate(batch: np.ndarray) -> np.ndarray:
            found = []
            for network, group in zip(self._networks, groups, strict=True):
                found.append(self._estimate_chunks(network, group, batch, song))
                done = [next(steps) for _ in batch][-1]
                _report(progress, song, done, "separate")
            return np.concatenate(found, axis=1)[:, self._kept]

        # The loop at the end pulls block by block, so that nothing here has the length of the song:
        #
        #     blocks --tee--> resample -> window -> chunks -> estimate -> overlap -> resample --> estimates
        #              \--> window ----------------------------------------------------------> mixture
        #
        # Resampling and chunks delay one branch; the tee stores the difference.
        to_models, to_output = itertools.tee(song.blocks)
        window = Window(resample_blocks(to_models, song.sample_rate_hz, self.sample_rate_hz, plan.total_samples))
        streamed = stream_plan(plan, window.read, estimate, self.chunks_at_once)
        # Resampling has an axis of channels only, so targets and channels are one axis on the way back.
        blocks = (block.reshape(-1, block.shape[-1]) for _, block in streamed)
        mixture, start = Window(to_output), 0
        for block in resample_blocks(blocks, self.sample_rate_hz, song.sample_rate_hz, song.samples):
            samples = block.shape[1]
            yield start, mixture.read(start, samples), block.reshape(-1, song.channels, samples)
            start += samples

    def _estimate_chunks(
        self, network: Network, groups: ChannelGroups, batch: np.ndarray, song: _SongStream
    ) -> np.ndarray:
        """Estimate chunks ``b c samples``: ``b s c samples``. Silence skips the network and stays silence."""
        try:
            estimate = skip_silence(partial(groups.estimate, network.estimate), len(network.config.targets))
            estimates = estimate(batch)
        except MemoryError:
            raise AudioError(
                f"{song.name}: {network.device} has too little memory for a chunk of {batch.shape[-1]} samples; "
                f"choose shorter chunks (--chunk), smaller batches or fewer jobs"
            ) from None
        # Checked here, where the target and the level of the mixture are still known.
        for target, values in zip(network.config.targets, estimates.swapaxes(0, 1), strict=True):
            if not np.isfinite(values).all():
                raise AudioError(
                    f"{song.name}: the estimate of {target!r} is not finite; the mixture peaks at "
                    f"{np.abs(batch).max():.3g} (full scale is 1), so scale it down, or the model is damaged"
                )
        return estimates

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
        return [group_channels(channels, needed_channels(network.config), name) for network in self._networks]


def _report(progress: SecondsProgress | None, song: _SongStream, share: float, stage: str) -> None:
    seconds = song.samples / song.sample_rate_hz
    _cancellable(progress, song.name)(share * seconds, seconds, stage)


def _cancellable(progress: SecondsProgress | None, name: str) -> SecondsProgress:
    """Wrap a callback so that returning False stops the work on the song called ``name``."""

    def report(done_s: float, total_s: float, stage: str) -> None:
        if progress is not None and progress(done_s, total_s, stage) is False:
            raise Cancelled(f"{name}: cancelled; nothing was written")

    return report

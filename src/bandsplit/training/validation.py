"""Validation: complete songs, each separated once, piece by piece, by one of the processes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from numpy.typing import NDArray

from bandsplit.audio import arrays
from bandsplit.data.songs.tracks import MIXTURE, Audio, Track
from bandsplit.evaluation.metrics import usdr_energies, usdr_of_energies
from bandsplit.models.network import SeparationModel
from bandsplit.runs.config import TrainingConfig
from bandsplit.separation.chunks import plan_chunks
from bandsplit.separation.streaming import skip_silence, stream_plan
from bandsplit.training.averaging import WEIGHTS
from bandsplit.training.losses import compute_loss, validation_loss


class SongScore(NamedTuple):
    """One validation song."""

    track: str
    usdr_db: dict[str, float]
    """By target."""
    loss: float


class Validation(NamedTuple):
    """Means over the validation songs and the targets, and the songs themselves."""

    usdr_db: float
    loss: float
    songs: tuple[SongScore, ...]
    weights: str = WEIGHTS
    """Name of the weights that were validated."""

    def score(self, training: TrainingConfig) -> float:
        """Return what the run monitors; larger is better."""
        return self.usdr_db if training.monitor == "usdr" else -self.loss


def validate(
    model: SeparationModel,
    tracks: Sequence[Track],
    training: TrainingConfig,
    fabric: Fabric,
    before_song: Callable[[], None] = lambda: None,
) -> Validation:
    """Separate the songs, shared between the processes, and compare with their stems.

    Args:
        model: in evaluation mode.
        tracks: the songs.
        training: length of the songs, chunk plan, loss and score.
        fabric: the processes.
        before_song: called before each song; an exception from it ends the validation.

    Raises:
        AudioError: a song went missing or broke since it was indexed; an estimate is not finite.
    """
    longest_first = sorted(tracks, key=lambda track: (-track.samples, track.name))
    mine = longest_first[fabric.global_rank :: fabric.world_size]
    songs = []
    for track in mine:
        before_song()
        songs.append(score_song(model, track, training, fabric.device))
    if fabric.world_size > 1:
        gathered: list[list[SongScore]] = [[] for _ in range(fabric.world_size)]
        dist.all_gather_object(gathered, songs)
        songs = [song for some in gathered for song in some]
    songs.sort(key=lambda song: song.track)
    means_db = [statistics.fmean(song.usdr_db.values()) for song in songs]
    return Validation(statistics.fmean(means_db), statistics.fmean(song.loss for song in songs), tuple(songs))


def validate_all(
    candidates: Mapping[str, SeparationModel],
    tracks: Sequence[Track],
    training: TrainingConfig,
    fabric: Fabric,
    before_song: Callable[[], None] = lambda: None,
) -> list[Validation]:
    """Validate networks by name, as `validate` does one, and return the results, the best score first."""
    found = [
        validate(model.eval(), tracks, training, fabric, before_song)._replace(weights=name)
        for name, model in candidates.items()
    ]
    return sorted(found, key=lambda validation: validation.score(training), reverse=True)


def score_song(
    model: SeparationModel, track: Track, training: TrainingConfig, device: torch.device | str = "cpu"
) -> SongScore:
    """Separate one song and compare it with its stems, in pieces of ``training.chunks.chunk_s``.

    The loss is the mean over the pieces, weighted by their lengths. The spectrogram terms compare the joined estimates,
    not the masked mixture as in training, where an estimate is one chunk.
    """
    config = model.config
    read, samples = _reader(track, config.sample_rate_hz, training.validate_max_s)
    plan = plan_chunks(samples, training.chunks, config.sample_rate_hz)
    piece_samples = round(training.chunks.chunk_s * config.sample_rate_hz)
    loss = validation_loss(training.loss)

    def estimate(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return model.separate(torch.from_numpy(batch).to(device)).cpu().numpy()

    silent = skip_silence(estimate, len(config.targets))
    energies, losses, lengths = [], [], []
    blocks = (block for _, block in stream_plan(plan, lambda *place: read(MIXTURE, *place), silent))
    for number, piece in enumerate(_pieces(blocks, piece_samples)):
        length = piece.shape[-1]
        targets = np.stack([read(target, number * piece_samples, length) for target in config.targets])
        energies.append(usdr_energies(targets, piece))
        pair = (torch.from_numpy(signal[None]).to(device) for signal in (piece, targets))
        losses.append(compute_loss(loss, *pair, names=config.targets, stft_config=config.loss_stft).item())
        lengths.append(length)
    if training.monitor_over == "chunks":
        whole = energies[:-1] if len(energies) > 1 and lengths[-1] < piece_samples else energies
        values_db = np.median([usdr_of_energies(energy) for energy in whole], axis=0)
    else:
        values_db = usdr_of_energies(np.sum(energies, axis=0))
    mean_loss = float(np.average(losses, weights=lengths))
    return SongScore(track.name, dict(zip(config.targets, values_db.tolist(), strict=True)), mean_loss)


def _reader(track: Track, sample_rate_hz: int, max_s: float | None) -> tuple[Callable[[str, int, int], Audio], int]:
    """Return a function that reads samples of a part of the song at the model's rate, and the number of samples."""
    samples = track.samples if max_s is None else min(track.samples, max(1, round(max_s * track.sample_rate_hz)))
    first = (track.samples - samples) // 2
    if track.sample_rate_hz == sample_rate_hz:
        return lambda part, start, count: track.read(part, first + start, count), samples
    resampled: dict[str, Audio] = {}

    def read(part: str, start: int, count: int) -> Audio:
        if part not in resampled:
            resampled[part] = arrays.resample(track.read(part, first, samples), track.sample_rate_hz, sample_rate_hz)
        return resampled[part][:, start : start + count]

    return read, arrays.resampled_length(samples, track.sample_rate_hz, sample_rate_hz)


def _pieces(blocks: Iterable[Audio], samples: int) -> Iterator[Audio]:
    """Cut blocks ``s c samples`` into pieces of ``samples``, the last of which may be shorter."""
    held: list[Audio] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += block.shape[-1]
        if count >= samples:
            joined = np.concatenate(held, axis=-1)
            whole = count - count % samples
            for start in range(0, whole, samples):
                yield joined[..., start : start + samples]
            held, count = [joined[..., whole:]], count - whole
    if count:
        yield np.concatenate(held, axis=-1)

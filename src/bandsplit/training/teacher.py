"""The teacher of semi-supervised fine-tuning: the best network so far, which separates unlabelled songs.

Source: BSRNN paper.
"""

from __future__ import annotations

import copy
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bandsplit.audio import arrays
from bandsplit.core.bounded import BoundedFolder
from bandsplit.core.config import hash8
from bandsplit.data.examples.unlabelled import Separated
from bandsplit.data.songs.tracks import MIXTURE, Audio, Track
from bandsplit.models.network import SeparationModel
from bandsplit.runs.config import RunConfig
from bandsplit.separation.chunks import plan_chunks
from bandsplit.separation.streaming import skip_silence, stream_plan


class Teacher:
    """A network in evaluation mode on the CPU, whatever computes the training.

    It computes with one thread, so that the processes that prepare examples and the one that trains get equal bits.

    Attributes:
        hash: Digits that identify its weights.
        replacements: Times that it was replaced by a better network.
    """

    def __init__(self, model: SeparationModel) -> None:
        """Copy ``model``."""
        self.network = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        self.replacements = 0
        self.hash = _hash(self.network)

    def replace(self, model: SeparationModel) -> None:
        """Copy the weights of ``model``; equal ones do not count as a replacement."""
        before = self.hash
        self._load(model.state_dict())
        self.replacements += self.hash != before

    def estimate(self, batch: np.ndarray) -> np.ndarray:
        """Estimate chunks, float32 ``b c samples``: float32 ``b s c samples``."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                return self.network.separate(torch.from_numpy(batch)).numpy()
        finally:
            torch.set_num_threads(threads)

    def state(self) -> dict[str, Any]:
        """Return everything that replacements change."""
        return {"weights": self.network.state_dict(), "replacements": self.replacements}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._load(state["weights"])
        self.replacements = state["replacements"]

    def _load(self, weights: Mapping[str, Any]) -> None:
        self.network.load_state_dict(weights, strict=True)
        self.hash = _hash(self.network)


@dataclass(frozen=True)
class SeparatedSongs:
    """Segments of songs that a teacher separates, each once as long as the cache keeps it.

    The cache is not needed: if it cannot be written, segments are separated again.
    """

    teacher: Teacher
    config: RunConfig
    digests: Mapping[Path, str]
    """Digests of the songs by their files."""
    cache: BoundedFolder | None

    def __call__(self, track: Track, first: int) -> Separated:
        """Separate the segment of ``track`` that begins with its sample ``first``, at the rate of the model.

        Raises:
            AudioError: the file is missing or has changed since it was indexed.
        """
        chunk, before, samples = self._read(track, first)
        mixture = chunk[:, before : before + samples]
        name = self._name(track, first)
        target = _decoded(self.cache.read(name), mixture.shape) if self.cache else None
        if target is not None:
            return Separated(mixture, target)
        target = self._separate(chunk)[:, before : before + samples]
        return Separated(mixture, target, self._store(name, target))

    def _read(self, track: Track, first: int) -> tuple[Audio, int, int]:
        """Return a segment with its context at the rate of the model, and first sample and length of the segment."""
        unlabelled, rate_hz = self.config.training.unlabelled, track.sample_rate_hz
        assert unlabelled is not None
        length = min(round(unlabelled.segment_s * rate_hz), track.samples - first)
        context = round(unlabelled.context_s * rate_hz)
        start, stop = max(0, first - context), min(track.samples, first + length + context)
        chunk = track.read(MIXTURE, start, stop - start)
        model_hz = self.config.model.sample_rate_hz
        before = round((first - start) * model_hz / rate_hz)
        return arrays.resample(chunk, rate_hz, model_hz), before, arrays.resampled_length(length, rate_hz, model_hz)

    def _separate(self, chunk: Audio) -> Audio:
        """Estimate the target in a piece of a song, ``c samples``, by the chunk plan of the validation."""
        plan = plan_chunks(chunk.shape[1], self.config.training.chunks, self.config.model.sample_rate_hz)
        estimate = skip_silence(self.teacher.estimate, len(self.config.model.targets))
        blocks = stream_plan(plan, lambda start, samples: chunk[:, start : start + samples], estimate)
        return np.concatenate([block[0] for _, block in blocks], axis=-1, dtype=np.float32)

    def _name(self, track: Track, first: int) -> str:
        """Return the name of an estimate in the cache, which states everything that it depends on."""
        training, unlabelled = self.config.training, self.config.training.unlabelled
        assert unlabelled is not None
        settings = [unlabelled.segment_s, unlabelled.context_s, training.chunks.model_dump(mode="json")]
        digest = self.digests[track.stems[MIXTURE][0].path]
        return f"{self.teacher.hash}-{digest}-{hash8([*settings, torch.__version__])}-{first}"

    def _store(self, name: str, target: Audio) -> str:
        """Write an estimate to the cache; return a note if that is not possible."""
        if self.cache is None:
            return ""
        buffer = io.BytesIO()
        np.save(buffer, target, allow_pickle=False)
        try:
            self.cache.write(name, buffer.getvalue())
        except OSError as error:
            return (
                f"{self.cache.path}: pseudo-stems cannot be stored ({error.strerror or error}), so training continues "
                f"and separates songs again when it needs them; make room, or choose another --cache"
            )
        return ""


def _decoded(content: bytes | None, shape: tuple[int, ...]) -> Audio | None:
    """Return an estimate of the cache; None without one, or if it is damaged."""
    if content is None:
        return None
    try:
        target = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return None
    return target if target.shape == shape and target.dtype == np.float32 else None


def _hash(network: SeparationModel) -> str:
    """Return 16 hexadecimal digits that identify configuration and weights."""
    digest = hashlib.sha256(network.config.model_dump_json().encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]

"""Activity detection: the segments of a stem that are not silent.

Details that the paper leaves open are options of the config.

Source: docs/numerics.md#activity-detection; BSRNN paper, section IV-A.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from bandsplit.data.examples.mixing import ActivityConfig
from bandsplit.data.songs.facts import Facts, SongProgress
from bandsplit.data.songs.tracks import Audio, Dataset, Track


def active_segments_of(track: Track, stem: str, config: ActivityConfig) -> NDArray[np.int64]:
    """Return the first sample of every active segment of a stem; all segments lie inside it.

    Only one segment at a time is in memory.

    Raises:
        AudioError: a file is missing or truncated.
    """
    length, hop = segment_samples(config, track.sample_rate_hz)
    starts = np.arange(0, track.samples - length + 1, hop)

    def segments() -> Iterable[Audio]:
        segment = np.empty((track.channels, 0), np.float32)
        for start in starts:
            kept = segment[:, hop:]
            segment = np.concatenate([kept, track.read(stem, start + kept.shape[1], length - kept.shape[1])], axis=1)
            yield segment

    return _choose(starts, segments(), config) if track.stems.get(stem) else starts[:0]


def index_activity(
    dataset: Dataset, tracks: Sequence[Track], config: ActivityConfig, progress: SongProgress | None = None
) -> dict[tuple[int, str], NDArray[np.int64]]:
    """Find the active segments of all stems of ``tracks``, by number of the track and stem; results are cached.

    Raises:
        AudioError: a file is missing or truncated.
    """

    def find(track: Track) -> dict[str, list[int]]:
        return {stem: active_segments_of(track, stem, config).tolist() for stem in track.stems}

    found = Facts(dataset, f"activity-{config.hash8()}").of(tracks, find, progress)
    return {
        (number, stem): np.array(starts, np.int64)
        for number, stems in enumerate(found)
        for stem, starts in stems.items()
    }


def segment_samples(config: ActivityConfig, sample_rate_hz: int) -> tuple[int, int]:
    """Return length and hop of segments in samples."""
    length = round(config.segment_s * sample_rate_hz)
    return length, max(1, round(length * (1 - config.overlap)))


def kept_share(starts: NDArray[np.int64], track: Track, config: ActivityConfig) -> float:
    """Return the share of a stem's segments that are active; 0 for a song shorter than a segment."""
    length, hop = segment_samples(config, track.sample_rate_hz)
    n_segments = len(range(0, track.samples - length + 1, hop))
    return len(starts) / n_segments if n_segments else 0.0


def _choose(starts: NDArray[np.int64], segments: Iterable[Audio], config: ActivityConfig) -> NDArray[np.int64]:
    levels = np.array([_levels(segment, config) for segment in segments])
    if not len(levels):
        return starts
    axes = (2,) if config.quantile_over == "segment" else (0, 2)
    threshold = np.maximum(np.quantile(levels, config.quantile, axis=axes, keepdims=True), config.floor)
    active = (levels > threshold).mean(axis=2) > config.share
    return starts[active.all(axis=1) if config.channels == "all" else active.any(axis=1)]


def _levels(segment: Audio, config: ActivityConfig) -> NDArray[np.float64]:
    """Return the levels ``c pieces``."""
    piece = segment.shape[-1] // config.pieces
    pieces = segment[:, : piece * config.pieces].reshape(len(segment), config.pieces, piece)
    power = np.mean(np.square(pieces, dtype=np.float64), axis=-1)
    level = np.sqrt(power) if config.level == "rms" else power
    return np.where(level > 0, level, config.silence)

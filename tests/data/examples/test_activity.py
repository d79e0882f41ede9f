"""Activity detection on signals whose active parts are known."""

import json
import os
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from bandsplit.data.examples import activity
from bandsplit.data.examples.activity import active_segments_of, index_activity, kept_share
from bandsplit.data.examples.mixing import ACTIVITY_MODES, AUTHORS, ActivityConfig
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import Dataset, Track

RATE_HZ = 1000


def noise(gate: Sequence[float], channels: int = 2) -> np.ndarray:
    """Noise with one gain per second."""
    gains = np.repeat(gate, RATE_HZ)
    return (np.random.default_rng(0).normal(0, 0.1, (channels, len(gains))) * gains).astype(np.float32)


@dataclass
class Signal:
    """A stem ``c samples`` in memory: as much of a track as activity detection asks for."""

    signal: np.ndarray
    sample_rate_hz: int
    stems: Mapping[str, str] = field(default_factory=lambda: {"vocals": "here"})

    @property
    def channels(self) -> int:
        return len(self.signal)

    @property
    def samples(self) -> int:
        return self.signal.shape[1]

    def read(self, stem: str, start: int, samples: int) -> np.ndarray:
        return self.signal[:, start : start + samples]


def active_segments(signal: np.ndarray, sample_rate_hz: int, config: ActivityConfig | None = None) -> np.ndarray:
    return active_segments_of(Signal(signal, sample_rate_hz), "vocals", config or ActivityConfig())  # type: ignore[arg-type]


def test_the_authors_setting_finds_the_authors_segments(shared: Path):
    golden = json.loads((shared / "golden" / "activity" / "sixty-seconds.json").read_text())
    signal = torch.randn(2, 2646000, generator=torch.Generator().manual_seed(45)) * 0.1
    for start_s, stop_s, gain in ((8, 17, 0), (25, 33, 1e-4), (40, 41, 0), (45, 49, 5e-3), (52, 60, 0.02)):
        signal[:, start_s * 44100 : stop_s * 44100] *= gain
    found = active_segments(signal.numpy(), 44100, AUTHORS)
    assert found.tolist() == golden["segment_start_samples"]


@pytest.mark.parametrize("config", [ActivityConfig(), AUTHORS], ids=["default", "authors"])
def test_silent_segments_are_left_out(config: ActivityConfig):
    found = active_segments(noise([1] * 12 + [0] * 12 + [1] * 12), RATE_HZ, config)
    assert found.tolist() == [0, 3000, 6000, 24000, 27000, 30000]


def test_a_source_on_one_side_counts_unless_all_channels_are_asked_for():
    signal = noise([1] * 12)
    signal[1] = 0
    assert len(active_segments(signal, RATE_HZ)) == 3
    assert len(active_segments(signal, RATE_HZ, AUTHORS)) == 0


def test_silence_has_no_active_segment_and_short_stems_have_none_to_look_at():
    assert len(active_segments(np.zeros((2, 12000), np.float32), RATE_HZ)) == 0
    assert len(active_segments(np.ones((2, 5999), np.float32), RATE_HZ)) == 0


def test_the_quantile_of_the_track_drops_its_quiet_end():
    gate = [1.0] * 30 + [0.05] * 6
    assert active_segments(noise(gate), RATE_HZ).tolist()[-1] < 30000
    assert active_segments(noise(gate), RATE_HZ, AUTHORS).tolist()[-1] == 30000


def loose_stem(folder: Path, signal: np.ndarray, name: str = "a") -> Dataset:
    """Write a stem ``c samples`` as a collection of one."""
    (folder / "vocals").mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / "vocals" / f"{name}.wav", signal.T, RATE_HZ, subtype="FLOAT")
    return index_dataset(folder)


@pytest.mark.parametrize("config", [*ACTIVITY_MODES.values(), ActivityConfig(overlap=0), ActivityConfig(overlap=0.87)])
@pytest.mark.parametrize("samples", [1, 5999, 6000, 6001, 8999, 9000, 31_417])
def test_a_file_is_listened_to_as_a_signal_in_memory_is(tmp_path: Path, config: ActivityConfig, samples: int):
    signal = noise([1, 0.5, 0, 0, 0.02, 1, 1, 0, 0, 0, 0, 1, 0.3, 0.001, 0, 0] * 2)[:, :samples]
    signal[1, 5000:] = 0
    (track,) = loose_stem(tmp_path, signal).tracks
    expected = active_segments(signal, RATE_HZ, config)
    found = active_segments_of(track, "vocals", config)
    assert found.tolist() == expected.tolist()
    assert found.dtype == expected.dtype


def test_a_stem_that_ends_early_is_followed_by_silence_and_one_without_files_is_silent(tmp_path: Path):
    folder = tmp_path / "test" / "Song"
    folder.mkdir(parents=True)
    for stem, seconds in (("vocals", 14), ("bass", 30)):
        soundfile.write(folder / f"{stem}.wav", noise([1] * seconds).T, RATE_HZ, subtype="FLOAT")
    (track,) = index_dataset(tmp_path, ["vocals", "bass"], mixture="sum", lengths="pad").tracks
    assert active_segments_of(track, "vocals", AUTHORS).tolist() == [0, 3000, 6000, 9000]
    assert active_segments_of(track, "bass", AUTHORS).tolist() == list(range(0, 24001, 3000))
    without = Track("Song", "test", {"vocals": ()}, None, 30000, 2, RATE_HZ)
    assert active_segments_of(without, "vocals", AUTHORS).tolist() == []


def test_memory_does_not_grow_with_the_length_of_a_stem(tmp_path: Path):
    peaks = []
    for seconds in (60, 600):
        (track,) = loose_stem(tmp_path / str(seconds), noise([1] * seconds)).tracks
        tracemalloc.start()
        active_segments_of(track, "vocals", ActivityConfig())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    levels = 200 * 2 * 10 * 8  # of ten times as many segments, channels and pieces: all that is kept of them
    assert peaks[1] < peaks[0] + 4 * levels
    assert peaks[1] < 600 * RATE_HZ * 2 * 4 / 10


def test_what_was_heard_is_remembered_for_each_setting_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    loose_stem(tmp_path, noise([1] * 12 + [0] * 12), "a")
    dataset = loose_stem(tmp_path, noise([0] * 12 + [1] * 12), "b")
    first = {mode: index_activity(dataset, dataset.tracks, config) for mode, config in ACTIVITY_MODES.items()}
    for found in first.values():
        assert found[0, "vocals"].tolist() == [0, 3000, 6000]
        assert found[1, "vocals"].tolist() == [12000, 15000, 18000]
    assert len(list((tmp_path / ".bandsplit").glob("activity-*.json"))) == 2
    read, names = active_segments_of, []

    def watched(track: Track, *arguments):
        names.append(track.name)
        return read(track, *arguments)

    monkeypatch.setattr(activity, "active_segments_of", watched)
    for mode, config in ACTIVITY_MODES.items():
        again = index_activity(dataset, dataset.tracks[::-1], config)
        assert again[0, "vocals"].tolist() == first[mode][1, "vocals"].tolist()
    assert names == []
    index_activity(dataset, dataset.tracks, ActivityConfig(share=0.9))
    assert sorted(names) == ["a", "b"]
    path = tmp_path / "vocals" / "b.wav"
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    names.clear()
    index_activity(dataset, dataset.tracks, AUTHORS)
    assert names == ["b"]


def test_the_share_that_is_kept_is_of_all_segments(tmp_path: Path):
    (track,) = loose_stem(tmp_path, noise([1] * 12 + [0] * 12)).tracks
    assert kept_share(active_segments_of(track, "vocals", AUTHORS), track, AUTHORS) == pytest.approx(3 / 7)
    (short,) = loose_stem(tmp_path / "short", noise([1] * 5)).tracks
    assert kept_share(active_segments_of(short, "vocals", AUTHORS), short, AUTHORS) == 0

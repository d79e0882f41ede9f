"""Activity detection on signals whose active parts are known."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from bandsplit.data.activity import active_segments
from bandsplit.mixing import AUTHORS, ActivityConfig

RATE_HZ = 1000


def noise(gate: Sequence[float], channels: int = 2) -> np.ndarray:
    """Noise with one gain per second."""
    gains = np.repeat(gate, RATE_HZ)
    return (np.random.default_rng(0).normal(0, 0.1, (channels, len(gains))) * gains).astype(np.float32)


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

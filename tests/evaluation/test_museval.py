"""Window by window against museval itself, where it and the ffmpeg that it needs are installed (extra ``oracle``)."""

import importlib
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bandsplit.data.synth.songs import synthesise_song
from bandsplit.evaluation.metrics import csdr_windows, median_over_windows
from songs import STEMS


@pytest.fixture(scope="module")
def museval() -> Any:
    if not shutil.which("ffmpeg"):
        pytest.skip("museval loads only where ffmpeg is installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("museval")
        return importlib.import_module("museval")


def compare(museval: Any, reference: np.ndarray, estimate: np.ndarray, rate_hz: int) -> np.ndarray:
    """Assert that both give the same windows; return ours."""
    swapped = (np.swapaxes(array, 1, 2).astype(float) for array in (reference, estimate))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        expected = museval.evaluate(*swapped, win=rate_hz, hop=rate_hz)[0]
    found = csdr_windows(reference, estimate, rate_hz)
    assert found.shape == expected.shape
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(median_over_windows(found), np.nanmedian(expected, axis=1), rtol=0, atol=1e-6)
    return found


def degrade(reference: np.ndarray, leak: float, seed: int) -> np.ndarray:
    """Leak the other stems and noise into each stem."""
    noise = np.random.default_rng(seed).normal(0, 1e-3, reference.shape)
    estimate = (1 - leak) * reference + leak * reference.sum(axis=0) + noise
    return estimate.astype(np.float32)


def test_real_songs_score_as_in_museval(museval: Any, shared: Path):
    songs = sorted((shared / "data" / "everything_is_free").glob("t*/*"))[:3]
    assert songs
    for number, folder in enumerate(songs):
        rate_hz = soundfile.info(folder / "mixture.flac").samplerate
        excerpt = {"start": round(10.9 * rate_hz), "frames": round(4.6 * rate_hz), "always_2d": True}
        reference = np.stack([soundfile.read(folder / f"{stem}.flac", **excerpt)[0].T for stem in STEMS])
        reference = reference[reference.any(axis=(1, 2))]  # museval refuses songs in which a whole stem is silent
        estimate = degrade(reference, 0.15, number)
        estimate[1, :, rate_hz : 2 * rate_hz] = 0  # one window of one stem: it counts for none
        found = compare(museval, reference, estimate, rate_hz)
        assert np.isnan(found[:, 1]).all() and np.isfinite(found).any()


@pytest.mark.parametrize("samples", [100, 44099, 44100, 44101])
def test_a_song_of_less_than_two_windows_is_one_window_as_in_museval(museval: Any, samples: int):
    reference = np.random.default_rng(0).normal(0, 0.1, (2, 2, samples)).astype(np.float32)
    assert compare(museval, reference, degrade(reference, 0.1, 0), 44100).shape == (2, 1)


@pytest.mark.parametrize("seconds", [0.7, 3.4])
def test_made_songs_score_as_in_museval(museval: Any, seconds: float):
    song = synthesise_song(3, 8.0)
    samples = round(seconds * 44100)
    reference = np.stack([song[stem][:, 88200 : 88200 + samples] for stem in STEMS])
    estimate = degrade(reference, 0.02, 1)
    cancelled = seconds > 1
    if cancelled:
        reference[2, 1, :44100] = -reference[2, 0, :44100]  # channels that cancel are silent for museval
    found = compare(museval, reference, estimate, 44100)
    assert np.isnan(found[:, 0]).all() == cancelled
    assert np.isfinite(found[:, int(cancelled) :]).all()

"""Bleedless, fullness and log-spectral distance against the transform of torch and plain loops."""

import math

import numpy as np
import pytest
import torch

from bandsplit.core.errors import AudioError
from bandsplit.evaluation.spectra import bleedless_fullness, log_spectral_distance, mel_magnitudes, mel_triangles


def noise(seed: int, samples: int, channels: int = 2, targets: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (targets, channels, samples))


def magnitudes(signal: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """Return ``c f t``."""
    window = torch.hann_window(n_fft, dtype=torch.float64)
    padded = np.pad(signal, ((0, 0), (n_fft // 2, n_fft // 2)), mode="reflect")
    spec = torch.stft(torch.from_numpy(padded), n_fft, hop, window=window, center=False, return_complex=True)
    return spec.abs().numpy()


def mel(hz: float) -> float:
    return 3 * hz / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)


def corner_hz(number: int, rate_hz: int, bands: int = 512) -> float:
    """Corner of a triangle, found by bisection of the scale, which needs no formula of its inverse."""
    low, high = 0.0, rate_hz / 2
    wanted = mel(high) * number / (bands + 1)
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if mel(middle) < wanted else (low, middle)
    return low


def plain_triangles(rate_hz: int) -> np.ndarray:
    """Weights ``k f``, band by band and bin by bin."""
    corners = [corner_hz(number, rate_hz) for number in range(514)]
    weights = np.zeros((512, 2049))
    for band, (low, centre, high) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        for number in range(2049):
            hz = number * rate_hz / 4096
            if low < hz <= centre:
                weights[band, number] = (hz - low) / (centre - low) * 2 / (high - low)
            elif centre < hz < high:
                weights[band, number] = (high - hz) / (high - centre) * 2 / (high - low)
    return weights


def plain_bleed(true: np.ndarray, guess: np.ndarray, rate_hz: int) -> tuple[float, float]:
    triangles = plain_triangles(rate_hz)
    both = [np.einsum("kf,cft->ckt", triangles, magnitudes(signal, 4096, 1024)) for signal in (true, guess)]
    top_db = 20 * math.log10(max(bands.max() for bands in both))
    with np.errstate(divide="ignore"):
        a, b = (np.maximum(20 * np.log10(bands), top_db - 80) for bands in both)
    difference = (b - a).ravel()
    louder, softer = difference[difference > 0], -difference[difference < 0]
    return 100 / (1 + (louder.mean() if louder.size else 0)), 100 / (1 + (softer.mean() if softer.size else 0))


@pytest.mark.parametrize("rate_hz", [8000, 44100])
def test_the_bands_equal_triangles_made_bin_by_bin(rate_hz: int) -> None:
    found = np.zeros((2049, 512))
    for number, (low, weights) in enumerate(mel_triangles(rate_hz)):
        found[low : low + len(weights), 32 * number : 32 * (number + 1)] = weights
    expected = plain_triangles(rate_hz).T
    np.testing.assert_allclose(found, expected, atol=1e-9 * expected.max())
    assert (expected.sum(axis=0) > 0).all()  # no band is without a bin


def test_the_scale_is_that_of_librosa() -> None:
    # From the documentation of librosa.mel_frequencies(n_mels=40): 0, 85.317, ..., 1024.856, ..., 2071.84, ..., 11025.
    for number, hz in ((1, 85.317), (12, 1024.856), (20, 2071.84), (39, 11025.0)):
        assert corner_hz(number, 22050, bands=38) == pytest.approx(hz, abs=1e-3)


@pytest.mark.parametrize("samples", [100, 5000, 60_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_bleedless_and_fullness_equal_the_plain_formula(samples: int, channels: int) -> None:
    true = noise(0, samples, channels)
    guess = 0.8 * true + 0.05 * noise(1, samples, channels)
    guess[..., : samples // 3] *= 1e-6  # below the range
    found = bleedless_fullness(true, guess, 44100)
    expected = plain_bleed(true[0], guess[0], 44100)
    np.testing.assert_allclose([found.bleedless[0], found.fullness[0]], expected, rtol=2e-6)


def test_targets_do_not_depend_on_each_other() -> None:
    true, guess = noise(0, 9000, targets=3), noise(1, 9000, targets=3)
    guess[1] *= 100
    together = bleedless_fullness(true, guess, 8000)
    for target in range(3):
        alone = bleedless_fullness(true[target : target + 1], guess[target : target + 1], 8000)
        assert (together.bleedless[target], together.fullness[target]) == (alone.bleedless[0], alone.fullness[0])


def test_what_is_added_costs_bleedless_and_what_lacks_costs_fullness() -> None:
    true = noise(0, 44100)
    equal = bleedless_fullness(true, -true, 44100)
    assert (equal.bleedless[0], equal.fullness[0]) == (100, 100)
    louder = bleedless_fullness(true, 10 ** (4 / 20) * true, 44100)
    assert louder.bleedless[0] == pytest.approx(20, abs=1e-4) and louder.fullness[0] == 100
    softer = bleedless_fullness(true, 10 ** (-4 / 20) * true, 44100)
    assert softer.bleedless[0] == 100 and softer.fullness[0] == pytest.approx(20, abs=1e-4)


def test_silence_is_80_db_below_the_louder_of_both() -> None:
    sound, silence = noise(0, 20_000), np.zeros((1, 2, 20_000))
    added = bleedless_fullness(silence, sound, 44100)
    lacking = bleedless_fullness(sound, silence, 44100)
    assert added.fullness[0] == 100 and lacking.bleedless[0] == 100
    assert added.bleedless[0] == pytest.approx(lacking.fullness[0])
    assert 100 / 81 < added.bleedless[0] < 100 / 41  # noise is some 60 dB above the floor
    nothing = bleedless_fullness(silence, silence, 44100)
    assert np.isnan([nothing.bleedless[0], nothing.fullness[0]]).all()


def test_bands_are_kept_in_single_precision() -> None:
    bands = mel_magnitudes(noise(0, 5000)[0].astype(np.float32), 44100)
    assert bands.shape == (2, 5, 512) and bands.dtype == np.float32


@pytest.mark.parametrize("samples", [1, 100, 1030, 50_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_log_spectral_distance_equals_the_transform_of_torch(samples: int, channels: int) -> None:
    true, other = noise(0, samples, channels, 2), noise(1, samples, channels, 2)
    true[0, :, samples // 2 :] = 0
    guess = 0.5 * true + 0.01 * other
    expected = []
    for pair in zip(true, guess, strict=True):
        a, b = (10 * np.log10(np.maximum(magnitudes(signal, 2048, 512) ** 2, 1e-8)) for signal in pair)
        expected.append(np.sqrt(((a - b) ** 2).mean(axis=1)).mean())
    np.testing.assert_allclose(log_spectral_distance(true, guess), expected, rtol=1e-9)


def test_log_spectral_distance_is_zero_for_equal_magnitudes_and_knows_a_floor() -> None:
    true = noise(0, 9000)
    assert log_spectral_distance(true, -true) == 0
    assert log_spectral_distance(0 * true, 0 * true) == 0
    np.testing.assert_allclose(log_spectral_distance(true, 10 * true), 20, rtol=1e-9)
    assert log_spectral_distance(0 * true, 1e-7 * true) == 0  # below the floor
    assert 50 < log_spectral_distance(0 * true, true)[0] < 100


@pytest.mark.parametrize("metric", [log_spectral_distance, lambda a, b: bleedless_fullness(a, b, 8000)])
def test_signals_that_cannot_be_compared_are_refused(metric) -> None:
    good = noise(0, 500)
    with pytest.raises(AudioError, match=r"estimate: has shape \(1, 2, 499\), but reference \(1, 2, 500\)"):
        metric(good, good[..., :-1])
    bad = good.copy()
    bad[0, 1, 17] = np.inf
    with pytest.raises(AudioError, match="estimate: sample 17 of target 0, channel 1 is inf"):
        metric(good, bad)

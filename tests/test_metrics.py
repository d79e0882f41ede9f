"""Metrics against museval's numbers, hand-computed values and a plain loop."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from bandsplit.errors import AudioError
from bandsplit.metrics import csdr_windows, median_over_windows, usdr

RATE_HZ = 100


def stems(seconds: float, seed: int = 0, targets: int = 4, channels: int = 2) -> np.ndarray:
    shape = (targets, channels, round(seconds * RATE_HZ))
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def csdr(reference, estimate) -> np.ndarray:
    return csdr_windows(reference, estimate, RATE_HZ)


def plain_windows(reference: np.ndarray, estimate: np.ndarray, rate_hz: int) -> np.ndarray:
    """The definition, one window at a time, in the order of museval."""
    samples = reference.shape[-1]
    window = min(rate_hz, samples)
    columns = []
    for start in range(0, samples - window + 1, window):
        true = reference[..., start : start + window].astype(float)
        guess = estimate[..., start : start + window].astype(float)
        column = [float("nan")] * len(true)
        if not any((signal.sum(axis=0) == 0).all() for signal in (*true, *guess)):
            for target in range(len(true)):
                error = ((true[target] - guess[target]) ** 2).sum()
                column[target] = 10 * math.log10((true[target] ** 2).sum() / error)
        columns.append(column)
    return np.array(columns).T


def test_windows_equal_museval(shared: Path):
    golden = load_file(shared / "golden/metrics/sdr.safetensors")
    found = csdr_windows(golden["reference"], golden["estimate"], 44100)
    expected = golden["museval_sdr_frames"]  # its rows are the sources
    assert np.isnan(expected).any() and np.isfinite(expected).any()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6, equal_nan=True)
    medians = [16.301188410560545, 6.756064661261171, 2.3751784759722483, -3.6913349307678893]
    np.testing.assert_allclose(median_over_windows(found), medians, rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        plain_windows(golden["reference"], golden["estimate"], 44100), expected, rtol=0, atol=1e-6, equal_nan=True
    )


def test_usdr_equals_the_authors(shared: Path):
    golden = load_file(shared / "golden/metrics/sdr.safetensors")
    np.testing.assert_allclose(usdr(golden["reference"], golden["estimate"]), golden["usdr"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("gain, expected_db", [(0.5, 6.0206), (0.9, 20.0), (2.0, 0.0), (0.0, 0.0), (-1.0, -6.0206)])
def test_a_scaled_reference_scores_what_the_hand_computes(gain: float, expected_db: float):
    reference = stems(3)
    np.testing.assert_allclose(usdr(reference, gain * reference), expected_db, atol=1e-4)
    if gain:
        np.testing.assert_allclose(csdr_windows(reference, gain * reference, RATE_HZ), expected_db, atol=1e-4)


def test_silence_scores_zero_for_usdr_and_counts_for_nothing_in_csdr():
    reference = stems(3)
    np.testing.assert_allclose(usdr(reference, 0 * reference), 0, atol=1e-12)
    assert np.isnan(csdr_windows(reference, 0 * reference, RATE_HZ)).all()
    assert np.isnan(median_over_windows(csdr_windows(reference, 0 * reference, RATE_HZ))).all()


def test_usdr_of_silence_is_kept_finite_by_its_epsilon():
    silence, error = np.zeros((1, 2, 50)), np.full((1, 2, 50), 0.1)
    np.testing.assert_allclose(usdr(silence, silence), 0)
    np.testing.assert_allclose(usdr(silence, error), 10 * math.log10(1e-7 / (1 + 1e-7)), atol=1e-9)
    np.testing.assert_allclose(usdr(error, error), 10 * math.log10((1 + 1e-7) / 1e-7), atol=1e-9)


def test_usdr_is_over_all_channels_at_once():
    reference = np.array([[[1.0, 0.0], [0.0, 3.0]]])
    estimate = np.array([[[0.0, 0.0], [0.0, 3.0]]])
    np.testing.assert_allclose(usdr(reference, estimate), 10.0, atol=1e-5)


@pytest.mark.parametrize("seconds", [0.01, 0.5, 1, 1.99, 2, 7.3])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_windows_equal_the_definition(seconds: float, channels: int):
    reference = stems(seconds, 0, channels=channels)
    estimate = reference + 0.3 * stems(seconds, 1, channels=channels)
    if seconds > 5:
        reference[1, :, 100:200] = 0
        estimate[3, :, 350:460] = 0  # silent for a whole window and parts of others
        estimate[0, :, 640:] = 0
    expected = plain_windows(reference, estimate, RATE_HZ)
    assert expected.shape == (4, max(1, int(seconds)))
    np.testing.assert_allclose(csdr_windows(reference, estimate, RATE_HZ), expected, atol=1e-9, equal_nan=True)


def test_one_silent_stem_takes_the_window_from_all():
    reference = stems(3)
    estimate = 0.5 * reference
    estimate[2, :, 100:200] = 0
    found = csdr_windows(reference, estimate, RATE_HZ)
    assert np.isnan(found[:, 1]).all() and np.isfinite(found[:, [0, 2]]).all()


def test_channels_that_cancel_are_silent_as_in_museval():
    reference = stems(2)
    estimate = 0.5 * reference
    estimate[0, 1, :100] = -estimate[0, 0, :100]
    assert np.isnan(csdr_windows(reference, estimate, RATE_HZ)).tolist() == [[True, False]] * 4


def test_a_perfect_window_scores_infinity():
    reference = stems(2)
    estimate = reference.copy()
    estimate[1] *= 0.5
    found = csdr_windows(reference, estimate, RATE_HZ)
    assert np.isposinf(found[0]).all() and np.isfinite(found[1]).all()


def test_the_median_ignores_windows_that_do_not_count():
    windows_db = np.array([[1, np.nan, 4, 2, 30], [5, np.nan, 6, 7, 8]], float)
    np.testing.assert_allclose(median_over_windows(windows_db), [3, 6.5])


def test_torch_and_numpy_give_float64_and_equal_numbers():
    reference, estimate = stems(3, 0), stems(3, 1)
    tensors = torch.from_numpy(reference), torch.from_numpy(estimate).requires_grad_()
    for metric in (usdr, csdr):
        found = metric(*tensors)
        assert isinstance(found, np.ndarray) and found.dtype == np.float64
        np.testing.assert_array_equal(found, metric(reference, estimate))


def test_small_errors_survive_because_the_arithmetic_is_float64():
    reference = np.full((1, 1, RATE_HZ), 1.0)
    np.testing.assert_allclose(csdr_windows(reference, reference + 1e-9, RATE_HZ), 180, atol=1e-4)


@pytest.mark.parametrize("metric", [usdr, csdr])
def test_arrays_that_cannot_be_compared_are_refused(metric):
    good = stems(1)
    with pytest.raises(AudioError, match=r"estimate: has shape \(4, 2, 99\), but reference \(4, 2, 100\)"):
        metric(good, good[..., :-1])
    with pytest.raises(AudioError, match=r"reference: has shape \(2, 100\); it must be \(targets, channels, samples\)"):
        metric(good[0], good[0])
    with pytest.raises(AudioError, match="none of them 0"):
        metric(good[..., :0], good[..., :0])
    with pytest.raises(AudioError, match="estimate: has dtype int64; give floating-point"):
        metric(good, np.zeros(good.shape, np.int64))
    bad = good.copy()
    bad[2, 1, 17] = np.nan
    with pytest.raises(AudioError, match="estimate: sample 17 of target 2, channel 1 is nan"):
        metric(good, bad)


def test_windows_need_a_sample_rate():
    with pytest.raises(AudioError, match="sample_rate_hz: 0"):
        csdr_windows(stems(1), stems(1), 0)

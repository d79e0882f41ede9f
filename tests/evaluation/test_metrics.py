"""Metrics against museval's numbers, hand-computed values and a plain loop."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from bandsplit.core.errors import AudioError
from bandsplit.evaluation.metrics import (
    MSST_EPSILON,
    WindowRule,
    bleedless_fullness,
    csdr_windows,
    csdr_windows_by_rule,
    kuielab_sdr_of_energies,
    l1_freq,
    log_spectral_distance,
    median_over_windows,
    si_sar,
    si_sdr,
    usdr,
    usdr_energies,
    usdr_of_energies,
)

RATE_HZ = 100


def stems(seconds: float, seed: int = 0, targets: int = 4, channels: int = 2) -> np.ndarray:
    shape = (targets, channels, round(seconds * RATE_HZ))
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def csdr(reference, estimate) -> np.ndarray:
    return csdr_windows(reference, estimate, RATE_HZ)


def bleedless(reference, estimate) -> np.ndarray:
    return bleedless_fullness(reference, estimate, RATE_HZ).bleedless


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
    np.testing.assert_allclose(median_over_windows(np.array([[1, np.nan, 5], [np.nan, np.nan, 7]])), [3, 7])


def test_torch_and_numpy_give_float64_and_equal_numbers():
    reference, estimate = stems(3, 0), stems(3, 1)
    tensors = torch.from_numpy(reference), torch.from_numpy(estimate).requires_grad_()
    for metric in (usdr, csdr, si_sdr, si_sar, l1_freq, log_spectral_distance, bleedless):
        found = metric(*tensors)
        assert isinstance(found, np.ndarray) and found.dtype == np.float64
        np.testing.assert_array_equal(found, metric(reference, estimate))


def plain_windows_by_rule(
    reference: np.ndarray, estimate: np.ndarray, mixture: np.ndarray, rule: WindowRule
) -> np.ndarray:
    """Each target with the set of signals that the rule names; the target is the first of the set."""
    if rule == "set":
        return plain_windows(reference, estimate, RATE_HZ)
    found = []
    for true, guess in zip(reference, estimate, strict=True):
        trues, guesses = [true], [guess]
        if rule == "rest":
            trues.append(mixture - true)
            guesses.append(mixture - guess)
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(plain_windows(np.stack(trues), np.stack(guesses), RATE_HZ)[0])
    return np.array(found)


@pytest.mark.parametrize("seconds", [0.5, 6.5])
@pytest.mark.parametrize("channels", [1, 2])
def test_windows_under_each_rule_equal_the_definition(seconds: float, channels: int):
    reference = stems(seconds, 0, channels=channels).astype(np.float64)
    estimate = reference + 0.3 * stems(seconds, 1, channels=channels)
    if seconds > 1:
        reference[1, :, 100:200] = 0
        estimate[3, :, 200:300] = 0
        reference[1:, :, 300:400] = 0  # the first stem alone: its rest is silent
    mixture = reference.sum(axis=0)
    if seconds > 1:
        estimate[2, :, 400:500] = mixture[:, 400:500]  # nothing was taken away
    found = csdr_windows_by_rule(reference, estimate, mixture, RATE_HZ)
    for rule in ("set", "rest", "own"):
        expected = plain_windows_by_rule(reference, estimate, mixture, rule)
        np.testing.assert_allclose(found[rule], expected, atol=1e-9, equal_nan=True)
    if seconds > 1:
        counts = {rule: (~np.isnan(windows)).sum(axis=1).tolist() for rule, windows in found.items()}
        assert counts == {"set": [3] * 4, "rest": [5, 4, 4, 4], "own": [6, 4, 5, 4]}


def test_the_mixture_must_be_as_long_as_the_targets():
    with pytest.raises(AudioError, match=r"mixture: has shape \(2, 99\), but the targets \(2, 100\)"):
        csdr_windows_by_rule(stems(1), stems(1), stems(1)[0, :, 1:], RATE_HZ)


def test_other_software_adds_other_numbers_to_the_energies():
    reference, estimate = 1e-3 * stems(1), 1e-3 * stems(1, 1)
    energies = usdr_energies(reference, estimate)
    true, error = ((signal.astype(float) ** 2).sum(axis=(1, 2)) for signal in (reference, reference - estimate))
    np.testing.assert_allclose(energies, [true, error], rtol=1e-6)
    msst_db = usdr_of_energies(energies, MSST_EPSILON)
    np.testing.assert_allclose(msst_db, 10 * np.log10((true + 1e-8) / (error + 1e-8)), atol=1e-6)
    assert (np.abs(msst_db - usdr_of_energies(energies)) > 1e-4).all()
    np.testing.assert_allclose(kuielab_sdr_of_energies(energies), 10 * np.log10(true / error + 1e-10), atol=1e-6)


def test_the_sdr_of_kuielab_of_silence():
    found = kuielab_sdr_of_energies(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    np.testing.assert_allclose(found, [-100, np.inf, np.nan])


def test_small_errors_survive_because_the_arithmetic_is_float64():
    reference = np.full((1, 1, RATE_HZ), 1.0)
    np.testing.assert_allclose(csdr_windows(reference, reference + 1e-9, RATE_HZ), 180, atol=1e-4)


@pytest.mark.parametrize("metric", [usdr, csdr, si_sdr, l1_freq])
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


def test_si_sdr_is_what_the_angle_between_the_signals_says():
    reference = np.random.default_rng(0).standard_normal((1, 2, 5 * RATE_HZ))
    error = np.random.default_rng(1).standard_normal(reference.shape)
    error -= reference * (error * reference).sum() / (reference**2).sum()
    error *= np.sqrt((reference**2).sum() / (error**2).sum())  # orthogonal, of equal energy
    for tangent in (0.1, 1.0, 3.0):
        found = si_sdr(reference, 7 * (reference + tangent * error))
        np.testing.assert_allclose(found, -20 * math.log10(tangent), atol=1e-9)


def test_si_sdr_of_numbers_worked_out_by_hand():
    # s = (3, 4 | 0), s_hat = (5, 0 | 5): a = 15 / 25, a s = (1.8, 2.4 | 0), error (3.2, -2.4 | 5): 9 / 41.
    reference, estimate = np.array([[[3.0, 4.0], [0.0, 0.0]]]), np.array([[[5.0, 0.0], [5.0, 0.0]]])
    np.testing.assert_allclose(si_sdr(reference, estimate), 10 * math.log10(9 / 41))
    np.testing.assert_allclose(si_sdr(reference, -estimate), 10 * math.log10(9 / 41))


def test_si_sdr_knows_no_scale_but_one_for_all_channels():
    reference = stems(3)
    estimate = reference + 0.3 * stems(3, 1)
    np.testing.assert_allclose(si_sdr(reference, 0.01 * estimate), si_sdr(reference, estimate), atol=1e-4)
    assert np.isposinf(si_sdr(reference, 0.5 * reference)).all()
    panned = reference * np.array([[1.0], [0.5]], np.float32)
    assert (si_sdr(reference, panned) < 15).all()


def test_si_sdr_has_no_value_where_something_is_silent():
    reference = stems(3)
    assert np.isnan(si_sdr(reference, 0 * reference)).all()
    assert np.isnan(si_sdr(0 * reference, reference)).all()


def test_si_sdr_over_many_blocks_equals_one_vector():
    reference, noise = (np.random.default_rng(seed).standard_normal((2, 2, 100_001)) for seed in (0, 1))
    estimate = 0.7 * reference + 0.2 * noise
    for true, guess, found in zip(reference, estimate, si_sdr(reference, estimate), strict=True):
        cosine = np.vdot(true, guess) / np.linalg.norm(true) / np.linalg.norm(guess)
        assert found == pytest.approx(10 * math.log10(cosine**2 / (1 - cosine**2)), abs=1e-9)


@pytest.mark.parametrize("samples", [1030, 9000, 100_000])
def test_l1_freq_equals_the_transform_of_torch(samples: int):
    reference, noise = (np.random.default_rng(seed).normal(0, 0.1, (2, 2, samples)) for seed in (0, 1))
    estimate = reference + 0.01 * noise
    arguments = {"n_fft": 2048, "hop_length": 1024, "window": torch.ones(2048).double(), "return_complex": True}
    for true, guess, found in zip(reference, estimate, l1_freq(reference, estimate), strict=True):
        spectra = [torch.stft(torch.from_numpy(signal), **arguments).abs() for signal in (true, guess)]
        assert found == pytest.approx(100 / (1 + 10 * (spectra[0] - spectra[1]).abs().mean().item()), rel=1e-10)


def test_l1_freq_of_an_impulse_is_worked_out_by_hand():
    # In the middle of 8 hops an impulse lies in two frames of 9 and gives magnitude 1 in each bin of both.
    reference = np.zeros((1, 1, 8192))
    estimate = reference.copy()
    estimate[0, 0, 4000] = 1.0
    np.testing.assert_allclose(l1_freq(reference, estimate), 100 / (1 + 10 * 2 / 9))
    np.testing.assert_allclose(l1_freq(reference, -reference), 100)
    np.testing.assert_allclose(l1_freq(estimate, -estimate), 100)  # magnitudes know no sign

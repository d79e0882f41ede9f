"""SI-SAR against least squares, and what it says of artifacts, bleeding and silence."""

import math

import numpy as np
import pytest

from bandsplit.core.errors import AudioError
from bandsplit.evaluation.metrics import SAME_DIRECTION, Span, si_sar, si_sdr


def signals(count: int, seed: int = 0, channels: int = 2, samples: int = 5000) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (count, channels, samples))


def plain(stems: np.ndarray, estimate: np.ndarray) -> list[float]:
    """The definition by a solver of least squares, with all channels of a signal as one vector."""
    found = []
    for guess in estimate.reshape(len(estimate), -1):
        basis = stems.reshape(len(stems), -1).T
        part = basis @ np.linalg.lstsq(basis, guess, rcond=None)[0]
        found.append(10 * math.log10((part**2).sum() / ((guess - part) ** 2).sum()))
    return found


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("samples", [7, 5000, 100_001])
def test_it_equals_least_squares(channels: int, samples: int) -> None:
    stems = signals(4, 0, channels, samples)
    leaks = np.random.default_rng(1).normal(0, 1, (3, 4))
    estimate = np.einsum("kj,jct->kct", leaks, stems) + 0.3 * signals(3, 2, channels, samples)
    np.testing.assert_allclose(si_sar(stems, estimate), plain(stems, estimate), atol=1e-8)
    single = si_sar(stems.astype(np.float32), estimate.astype(np.float32))
    np.testing.assert_allclose(single, plain(stems, estimate), atol=1e-4)


def test_numbers_worked_out_by_hand() -> None:
    # Stems (1, 0 | 0) and (0, 2 | 0), estimate (3, 4 | 5): the projection is (3, 4 | 0), the rest (0, 0 | 5).
    stems = np.array([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 2.0], [0.0, 0.0]]])
    estimate = np.array([[[3.0, 4.0], [5.0, 0.0]]])
    np.testing.assert_allclose(si_sar(stems, estimate), 0, atol=1e-12)
    np.testing.assert_allclose(si_sar(stems[:1], estimate), 10 * math.log10(9 / 41))


def test_one_weight_is_for_all_channels() -> None:
    (stem,) = signals(1)
    panned = stem * np.array([[1.0], [0.5]])
    assert si_sar(stem[None], panned[None]) < 15


def test_bleeding_costs_nothing_and_artifacts_cost_at_any_level() -> None:
    stems, noise = signals(4), signals(1, 1)
    clean = stems[:1] + 0.01 * noise
    bleeding = clean + 0.5 * stems[1:2]
    assert si_sdr(stems[:1], bleeding) < 7
    assert si_sar(stems, clean) == pytest.approx(40, abs=0.2)
    assert si_sar(stems, bleeding) == pytest.approx(41, abs=0.2)  # the other stem adds to what is explained
    np.testing.assert_allclose(si_sar(stems, 1e-3 * bleeding), si_sar(stems, bleeding), atol=1e-8)


def test_a_mixture_of_stems_has_no_artifacts_though_samples_are_rounded() -> None:
    stems = signals(4).astype(np.float32)
    mixture = np.sum(stems, axis=0, keepdims=True, dtype=np.float32)
    assert np.isposinf(si_sar(stems, mixture)).all()
    assert np.isposinf(si_sar(stems, 0.3 * stems)).all()
    audible = mixture + np.float32(1e-6) * signals(1, 1).astype(np.float32)
    assert si_sar(stems, audible) == pytest.approx(126, abs=0.5)


def test_silent_stems_add_nothing() -> None:
    stems, estimate = signals(3), signals(2, 1)
    silent = np.insert(stems, 1, 0, axis=0)
    np.testing.assert_allclose(si_sar(silent, estimate), si_sar(stems, estimate), atol=1e-10)


def test_stems_that_depend_on_each_other_add_nothing() -> None:
    stems = signals(3)
    estimate = stems[:2] + 0.1 * signals(2, 1)
    more = np.concatenate([stems, stems[:1], 1e-4 * stems[1:2], stems[:1] - 2 * stems[2:]])
    np.testing.assert_allclose(si_sar(more, estimate), si_sar(stems, estimate), atol=1e-6)
    # Two stems that differ by less than the rounding of 16 bits are one direction, by more than that two.
    apart = signals(1, 2)
    for share, directions in ((1e-6, 1), (1e-3, 2)):
        pair = np.concatenate([stems[:1], stems[:1] + share * apart])
        assert np.linalg.matrix_rank(Span.of(pair).inverse, tol=SAME_DIRECTION, hermitian=True) == directions


def test_silence_has_no_value() -> None:
    stems = signals(3)
    estimate = np.concatenate([0 * stems[:1], stems[:1] + signals(1, 1)])
    assert np.isnan(si_sar(stems, estimate)).tolist() == [True, False]
    assert np.isnan(si_sar(0 * stems, estimate)).all()


def test_signals_that_do_not_belong_together_are_refused() -> None:
    stems = signals(3)
    with pytest.raises(AudioError, match=r"estimate: has shape \(1, 2, 4999\), but stems \(3, 2, 5000\); only the fir"):
        si_sar(stems, stems[:1, :, :-1])
    with pytest.raises(AudioError, match="stems: has dtype int64; give floating-point"):
        si_sar(np.zeros(stems.shape, np.int64), stems)

"""The losses against hand-made numbers."""

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from bandsplit.audio.stft import stft
from bandsplit.audio.stft_config import StftConfig
from bandsplit.runs.losses import LossConfig, MultiResolutionLoss, WaveformL1Loss
from bandsplit.training.losses import compute_loss, masked_mse, multi_resolution_loss, separation_loss


@pytest.fixture
def signals() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 1, 2, 8192, generator=generator), torch.randn(2, 1, 2, 8192, generator=generator)


def test_domains_add_up_to_the_formula(signals: tuple[torch.Tensor, torch.Tensor]):
    estimate, target = signals
    error = stft(estimate, StftConfig()) - stft(target, StftConfig())
    spectral = error.real.abs().mean() + error.imag.abs().mean()
    temporal = (estimate - target).abs().mean()
    torch.testing.assert_close(separation_loss(estimate, target, domain="t"), temporal)
    torch.testing.assert_close(separation_loss(estimate, target, domain="tf"), spectral)
    torch.testing.assert_close(separation_loss(estimate, target), temporal + spectral)


def test_the_spectral_terms_weigh_about_39_times_the_temporal_one(signals: tuple[torch.Tensor, torch.Tensor]):
    ratio = separation_loss(*signals, domain="tf") / separation_loss(*signals, domain="t")
    assert ratio.item() == pytest.approx(39, rel=0.05)


def test_a_given_spectrogram_is_compared_in_place_of_the_estimates(signals: tuple[torch.Tensor, torch.Tensor]):
    estimate, target = signals
    spec = stft(target, StftConfig())
    assert separation_loss(estimate, target, estimate_spec=spec, domain="tf").item() == 0


def test_errors_of_the_waveform_are_means(signals: tuple[torch.Tensor, torch.Tensor]):
    error = signals[0] - signals[1]
    assert config_loss(signals, kind="l1-waveform") == pytest.approx(error.abs().mean().item())
    assert config_loss(signals, kind="mse-waveform") == pytest.approx(error.square().mean().item())


def config_loss(signals: tuple[torch.Tensor, torch.Tensor], names: tuple[str, ...] = (), **settings: Any) -> float:
    return compute_loss(TypeAdapter(LossConfig).validate_python(settings), *signals, names=names).item()


def test_targets_may_weigh_differently_in_the_error_of_the_waveform():
    generator = torch.Generator().manual_seed(2)
    estimate, target = (torch.randn(2, 3, 2, 500, generator=generator) for _ in range(2))
    vocals, bass, drums = ((estimate - target)[:, place].abs().mean().item() for place in range(3))

    def found(**weights: float) -> float:
        names = ("vocals", "bass", "drums")
        return config_loss((estimate, target), names, kind="l1-waveform", weights=weights)

    assert found(vocals=2.0, drums=0.5) == pytest.approx((2 * vocals + bass + 0.5 * drums) / 3.5)
    assert found(vocals=0, bass=0) == pytest.approx(drums)
    assert found(vocals=1) == pytest.approx(found(), rel=1e-6)


def test_a_target_of_weight_0_has_a_gradient_of_zero():
    estimate = torch.ones(1, 2, 1, 5, requires_grad=True)
    loss = WaveformL1Loss(weights={"bass": 0})
    compute_loss(loss, estimate, torch.zeros(1, 2, 1, 5), names=("vocals", "bass")).backward()
    assert estimate.grad is not None
    assert estimate.grad.flatten().tolist() == pytest.approx([0.2] * 5 + [0] * 5)


def test_each_window_adds_the_mean_modulus_of_the_error_of_its_spectrogram(signals: tuple[torch.Tensor, torch.Tensor]):
    def spectrum(signal: torch.Tensor, window: int, n_fft: int, hop: int) -> torch.Tensor:
        shape = torch.hann_window(window)
        return torch.stft(signal.flatten(0, 2), n_fft, hop, window, shape, center=True, return_complex=True)

    expected = (signals[0] - signals[1]).abs().mean()
    for window, n_fft, hop in ((1024, 1024, 256), (256, 512, 100)):
        first, second = (spectrum(signal, window, n_fft, hop) for signal in signals)
        expected = expected + 3.0 * (first - second).abs().mean()
    config = MultiResolutionLoss(windows=(1024, 256), n_fft=512, hop_samples=100, hop_rule="quarter", weight=3.0)
    torch.testing.assert_close(multi_resolution_loss(*signals, config), expected)


def test_windows_may_be_longer_than_the_signal(signals: tuple[torch.Tensor, torch.Tensor]):
    short = multi_resolution_loss(signals[0][..., :9], signals[1][..., :9], MultiResolutionLoss())
    assert short.isfinite() and short > 0


def test_a_perfect_estimate_has_a_gradient_of_zero(signals: tuple[torch.Tensor, torch.Tensor]):
    estimate = signals[0].clone().requires_grad_()
    multi_resolution_loss(estimate, signals[0], MultiResolutionLoss(windows=(512,))).backward()
    assert estimate.grad is not None and not estimate.grad.any()


@pytest.mark.parametrize("quantile", [0.25, 0.5, 0.93])
@pytest.mark.parametrize("coarse", [False, True])
def test_errors_at_or_above_the_quantile_of_their_target_do_not_count(quantile: float, coarse: bool):
    generator = torch.Generator().manual_seed(1)
    estimate, target = (torch.randn(4, 3, 2, 50, generator=generator) for _ in range(2))
    error = (estimate - target).square()
    expected = []
    for of_target in error.mean((2, 3)).T if coarse else error.transpose(0, 1).flatten(1):
        kept = of_target[of_target < torch.quantile(of_target, quantile)]
        expected.append(kept.sum() / of_target.numel())
    found = masked_mse(estimate, target, quantile, coarse=coarse)
    torch.testing.assert_close(found, torch.stack(expected).mean())


def test_no_gradient_reaches_an_example_that_is_left_out():
    estimate = torch.tensor([1.0, 2.0, 9.0]).reshape(3, 1, 1, 1).requires_grad_()
    masked_mse(estimate, torch.zeros(3, 1, 1, 1), 0.7, coarse=True).backward()
    assert estimate.grad is not None
    assert estimate.grad.flatten().tolist() == pytest.approx([2 / 3, 4 / 3, 0])


def test_one_example_is_never_below_its_own_quantile():
    signals = torch.ones(1, 2, 2, 9), torch.zeros(1, 2, 2, 9)
    assert masked_mse(*signals, 0.9, coarse=True) == 0


def test_different_shapes_are_named():
    with pytest.raises(ValueError, match=r"estimate \(1, 2\) and target \(2, 1\) must have one shape"):
        separation_loss(torch.zeros(1, 2), torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"estimate \(1, 1, 1, 9\) and target \(1, 2, 1, 9\) must have one shape"):
        compute_loss(WaveformL1Loss(), torch.zeros(1, 1, 1, 9), torch.zeros(1, 2, 1, 9))


def test_an_unknown_domain_is_named():
    with pytest.raises(ValueError, match="'f' is unknown; legal: t, tf, t"):
        separation_loss(torch.zeros(1, 1, 1, 9), torch.zeros(1, 1, 1, 9), domain="f")  # type: ignore[arg-type]

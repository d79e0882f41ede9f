"""The loss against hand-made numbers."""

import pytest
import torch

from bandsplit.audio.stft import stft
from bandsplit.audio.stft_config import StftConfig
from bandsplit.training.losses import separation_loss


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


def test_different_shapes_are_named():
    with pytest.raises(ValueError, match=r"estimate \(1, 2\) and target \(2, 1\) must have one shape"):
        separation_loss(torch.zeros(1, 2), torch.zeros(2, 1))


def test_an_unknown_domain_is_named():
    with pytest.raises(ValueError, match="'f' is unknown; legal: t, tf, t"):
        separation_loss(torch.zeros(1, 1, 1, 9), torch.zeros(1, 1, 1, 9), domain="f")  # type: ignore[arg-type]

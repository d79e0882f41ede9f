"""The transform pair."""

import pytest
import torch

from bandsplit.audio.stft import istft, stft
from bandsplit.audio.stft_config import StftConfig

LENGTHS = [1, 2, 1023, 1024, 1025, 2048, 5000, 5119, 5120, 5121, 22050]


@pytest.mark.parametrize("samples", LENGTHS)
@pytest.mark.parametrize("hop", [256, 441, 512, 700, 1024])
def test_the_inverse_returns_the_signal(samples: int, hop: int):
    config = StftConfig(hop_samples=hop)
    signal = torch.randn(2, 3, samples, generator=torch.Generator().manual_seed(samples))
    torch.testing.assert_close(istft(stft(signal, config), config, samples), signal, atol=2e-6, rtol=0)


@pytest.mark.parametrize("samples", LENGTHS)
def test_a_changed_spectrogram_is_inverted_without_a_burst_at_the_end(samples: int):
    config = StftConfig(hop_samples=1024)
    signal = torch.randn(1, samples, generator=torch.Generator().manual_seed(samples))
    spec = stft(signal, config)
    noisy = istft(spec * torch.rand(spec.shape, generator=torch.Generator().manual_seed(0)), config, samples)
    assert noisy.abs().max() < 3 * max(1.0, float(signal.abs().max()))


def test_it_is_torch_stft_where_that_works():
    config, signal = StftConfig(), torch.randn(2, 22050)
    theirs = torch.stft(signal, 2048, 512, window=torch.hann_window(2048), center=True, return_complex=True)
    torch.testing.assert_close(stft(signal, config), theirs, atol=0, rtol=0)


@pytest.mark.parametrize("shape", [(3000,), (2, 3000), (2, 1, 3, 3000)])
def test_any_number_of_leading_axes_is_kept(shape: tuple[int, ...]):
    signal = torch.randn(shape)
    spec = stft(signal, StftConfig())
    assert spec.shape == (*shape[:-1], 1025, 6)
    assert istft(spec, StftConfig(), 3000).shape == shape


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        stft(torch.zeros(2, 0), StftConfig())

"""The transform pair in NumPy equals the one in PyTorch."""

import numpy as np
import pytest
import torch
from test_stft import LENGTHS

from bandsplit.audio import stft as spectral
from bandsplit.audio import stft_numpy as spectral_numpy
from bandsplit.audio.stft_config import StftConfig

CONFIGS = [StftConfig(hop_samples=hop) for hop in (256, 441, 512, 1024)] + [StftConfig(n_fft=60, hop_samples=20)]


@pytest.mark.parametrize("samples", LENGTHS)
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_both_directions_equal_those_of_pytorch(config: StftConfig, samples: int):
    generator = np.random.default_rng(samples)
    signal = generator.normal(size=(2, 3, samples)).astype(np.float32)
    expected = spectral.stft(torch.from_numpy(signal), config)
    found = spectral_numpy.stft(signal, config)
    assert found.shape == tuple(expected.shape)
    assert found.dtype == np.complex64
    peak = float(expected.abs().max())
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-6 * peak)

    changed = (found * generator.uniform(size=found.shape)).astype(np.complex64)
    back = spectral_numpy.istft(changed, config, samples)
    assert back.shape == signal.shape
    assert back.dtype == np.float32
    theirs = spectral.istft(torch.from_numpy(changed), config, samples).numpy()
    np.testing.assert_allclose(back, theirs, rtol=0, atol=2e-6 * np.abs(theirs).max())


def test_a_signal_without_samples_is_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        spectral_numpy.stft(np.zeros((2, 0), np.float32), StftConfig())

"""Transforms in real arithmetic: equal to those in complex numbers, for any factors of the window and any hop."""

import pytest
import torch
from torch import Tensor

from bandsplit.audio.stft import istft, stft
from bandsplit.audio.stft_config import StftConfig
from bandsplit.models.layers.aligned_stft import aligned_istft, aligned_stft, real_aligned_istft, real_aligned_stft
from bandsplit.models.layers.fourier_tables import count_products, fourier_tables
from bandsplit.models.layers.real_stft import real_istft, real_stft
from tolerances import assert_same_signal


def assert_same(found: Tensor, expected: Tensor, source: Tensor) -> None:
    assert found.shape == expected.shape
    assert_same_signal(found.numpy(), expected.numpy(), source.numpy(), relative=2e-6)


@pytest.mark.parametrize(("n_fft", "hop"), [(512, 110), (128, 40), (100, 50), (34, 7), (62, 31), (2, 1), (4096, 1024)])
def test_the_transform_and_its_inverse_equal_the_complex_ones(n_fft: int, hop: int):
    config, samples = StftConfig(n_fft=n_fft, hop_samples=hop), 2 * n_fft + 5
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(2, 3, samples, generator=generator)
    spec = stft(signal, config)
    assert_same(real_stft(signal, config), torch.view_as_real(spec), signal)
    other = torch.randn(spec.shape, dtype=torch.complex64, generator=generator)
    parts = torch.view_as_real(other)
    assert_same(real_istft(parts, config, samples), istft(other, config, samples), parts)
    other[..., -1, :] = 0
    assert_same(real_istft(parts[..., :-1, :, :], config, samples), istft(other, config, samples), parts)


@pytest.mark.parametrize("samples", [1, 20, 96, 97, 128, 1000])
@pytest.mark.parametrize("old", [False, True])
def test_the_aligned_transform_and_its_inverse_equal_the_complex_ones(samples: int, old: bool):
    signal = torch.randn(2, 3, samples, generator=torch.Generator().manual_seed(0))
    spec = aligned_stft(signal, 128, reflect=not old)
    parts = real_aligned_stft(signal, 128, reflect=not old)
    assert_same(parts, torch.view_as_real(spec), signal)
    assert_same(real_aligned_istft(parts, samples, late=old), aligned_istft(spec, samples, late=old), parts)


@pytest.mark.parametrize("n_fft", [2, 34, 100, 4096])
def test_products_of_a_frame_are_those_of_its_matrices(n_fft: int):
    first, cosines, _, last = fourier_tables(n_fft)
    p, q = cosines.shape
    assert p * q == n_fft
    assert count_products(n_fft) == first.size * q + 4 * cosines.size + p * last.size

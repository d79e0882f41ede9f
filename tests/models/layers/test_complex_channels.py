"""Complex spectrograms as real images."""

import torch

from bandsplit.models.layers.complex_channels import from_channels, to_channels


def test_parts_follow_each_other_channel_by_channel():
    spec = torch.randn(2, 2, 9, 4, dtype=torch.complex64)
    image = to_channels(spec, 9)
    assert image.shape == (2, 4, 9, 4)
    for channel, part in enumerate((spec[:, 0].real, spec[:, 0].imag, spec[:, 1].real, spec[:, 1].imag)):
        assert torch.equal(image[:, channel], part)


def test_bins_that_were_left_out_return_as_silence():
    spec = torch.randn(3, 2, 9, 4, dtype=torch.complex64)
    again = from_channels(to_channels(spec, 6), 9)
    assert torch.equal(again[..., :6, :], spec[..., :6, :])
    assert again.shape == spec.shape and not again[..., 6:, :].any()

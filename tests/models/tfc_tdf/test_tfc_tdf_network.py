"""The network of the family: targets alone, silence, bad input, recomputation, its real-valued core."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bandsplit.audio.stft import istft, stft
from bandsplit.models.layers.complex_channels import from_channels, to_channels
from bandsplit.models.network import RepeatedPart, build_model
from bandsplit.models.tfc_tdf.config import TfcTdfConfig
from bandsplit.models.tfc_tdf.network import TfcTdfModel
from bandsplit.separation.separator import Separator

SAMPLES = 32 * 15
RATE_HZ = 8000


def model(**changes: Any) -> TfcTdfModel:
    torch.manual_seed(0)
    config = TfcTdfConfig.parse(
        {
            "targets": ["vocals", "drums", "other"], "sample_rate_hz": RATE_HZ, "n_bins": 64, "n_subbands": 2,
            "stft": {"n_fft": 128, "hop_samples": 32}, "n_features": 4, "growth": 2, "n_scales": 2,
            "plan": {"kind": "folded", "chunk_s": SAMPLES / RATE_HZ, "overlaps": 2}, **changes,
        }
    )  # fmt: skip
    network = build_model(config).eval()
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    assert isinstance(network, TfcTdfModel)
    return network


def noise(*shape: int) -> Tensor:
    torch.manual_seed(3)
    return torch.randn(shape) * 0.3


def test_wanted_targets_alone_are_what_they_are_among_all():
    network, mixture = model(), noise(2, 2, SAMPLES)
    narrow = network.narrowed(["other", "vocals"])
    assert narrow.config.targets == ("vocals", "other")
    assert narrow.state_dict()["leave.2.weight"].shape[0] == 2 * 2 * 2 * 2
    with torch.inference_mode():
        everything, alone = network(mixture), narrow(mixture)
    torch.testing.assert_close(alone.signal, everything.signal[:, [0, 2]], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(alone.spec, everything.spec[:, [0, 2]], rtol=1e-5, atol=1e-6)
    assert network.config.targets == ("vocals", "drums", "other")


@pytest.mark.parametrize(
    "norm", [{"kind": "instance"}, {"kind": "batch"}, {"kind": "group", "groups": 2}, None], ids=str
)
def test_silence_gives_silence(norm: Any):
    with torch.inference_mode():
        assert not model(norm=norm)(torch.zeros(1, 2, SAMPLES)).signal.any()


def test_signals_are_made_of_the_spectrograms_and_dropped_bins_are_zero():
    network, mixture = model(n_bins=32), noise(1, 2, SAMPLES)
    signal, spec = network(mixture)
    assert spec.shape == (1, 3, 2, 65, 16) and not spec[..., 32:, :].any() and spec[..., 31, :].any()
    assert signal.equal(istft(spec, network.config.stft, SAMPLES))
    assert network.spectrograms(mixture).equal(spec)


def test_core_maps_real_images_of_any_number_of_frames():
    network = model()
    for frames in (4, 16, 20):
        image = to_channels(stft(noise(1, 2, 32 * (frames - 1)), network.config.stft), 64)
        estimate = network.estimate(image)
        assert image.shape == (1, 4, 64, frames) and estimate.shape == (1, 3, 4, 64, frames)
    expected = network(noise(1, 2, 32 * 19)).spec
    torch.testing.assert_close(from_channels(estimate, 65), expected, rtol=1e-5, atol=1e-6)


def test_mono_for_a_stereo_network_is_refused():
    with pytest.raises(ValueError, match=r"\(batch, 2 channels, samples\), got \(1, 1, 480\); duplicate or fold"):
        model()(noise(1, 1, SAMPLES))
    with pytest.raises(ValueError, match=r"got \(2, 480\)"):
        model()(noise(2, SAMPLES))


def test_a_length_that_is_not_a_number_of_frames_is_refused_with_the_next_one():
    with pytest.raises(
        ValueError, match="500 samples, but the network takes multiples of 128 less 32; the next is 608"
    ):
        model()(noise(1, 2, 500))


@pytest.mark.parametrize("samples", [1, 60, 480, 500, 3000])
def test_songs_of_any_length_are_separated(samples: int):
    estimates = Separator(model(), device="cpu").separate(noise(2, samples).numpy(), RATE_HZ)
    assert {name: estimate.shape for name, estimate in estimates.items()} == dict.fromkeys(
        ("vocals", "drums", "other"), (2, samples)
    )


def test_the_shortest_signal_leaves_something_to_normalise_in_the_narrowest_space():
    network = model(bottleneck_factor=8, plan={"kind": "trimmed", "chunk_s": 1.0, "trim_s": 0.1})
    assert network.config.geometry.fitting(1) == 2 * 128 - 32
    assert network.separate(noise(1, 2, 1)).isfinite().all()


def test_a_mono_network_takes_mono():
    assert model(channels=1)(noise(1, 1, SAMPLES)).signal.shape == (1, 3, 1, SAMPLES)


def test_recomputed_blocks_have_the_same_gradients():
    network, mixture = model(), noise(1, 2, SAMPLES)
    parts = list(network.repeated_parts())
    assert len(parts) == 5 and all(isinstance(part, RepeatedPart) and len(part) == 2 for part in parts)
    gradients = []
    for recompute in (False, True):
        for part in parts:
            part.recompute = recompute
        loss = network(mixture).signal.square().mean()
        gradients.append(torch.autograd.grad(loss, list(network.parameters())))
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, recomputed)
    assert all(gradient.any() for gradient in gradients[0])

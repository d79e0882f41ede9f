"""The whole network: lengths, channels, sums, and what it says when it cannot."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bandsplit.models.bsrnn.build import build_network
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.bsrnn.network import BandSplitModel

FOUR = ["vocals", "bass", "drums", "other"]
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "gru on time, none on band": {"time": {"kind": "gru"}, "band": None},
    "conv on band only": {"time": None, "band": {"kind": "conv", "kernel": 5}},
    "dilated": {"time": {"kind": "dilated"}, "band": {"kind": "dilated", "depth": 2}},
    "merged": {"stereo": {"kind": "merged"}},
    "tac tanh": {"stereo": {"kind": "tac", "activation": "tanh", "norm": True}},
    "tac, attention, heads": {"stereo": {"kind": "tac"}, "attention": {"heads": 4, "encoding_dim": 3}, "heads": 2},
    "norm groups": {"norm_groups": 4},
    "four targets": {"targets": FOUR},
    "residual": {"targets": FOUR, "residual": "drums"},
    "consistent": {"targets": FOUR, "mixture_consistency": True},
    "context": {"mask": {"context": 1, "hidden_layers": 1}},
    "half overlap": {"stft": {"n_fft": 256, "hop_samples": 128}},
}


def small(**changes: Any) -> BandSplitModel:
    """A model that runs in milliseconds."""
    config: dict[str, Any] = {
        "targets": ["vocals"], "bands": [[200, 10], [800, 4]], "sample_rate_hz": 16000, "n_features": 8, "n_blocks": 1,
        "stft": {"n_fft": 256, "hop_samples": 64}, "mask": {"hidden_factor": 2},
    }  # fmt: skip
    torch.manual_seed(0)
    return build_network(BsrnnConfig.parse(config | changes)).eval()


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("samples", [1, 127, 128, 129, 1000])
def test_every_variant_works_at_any_length(name: str, samples: int):
    model = small(**VARIANTS[name])
    with torch.inference_mode():
        signal, spec = model(torch.randn(2, 2, samples))
    assert signal.shape == (2, len(model.config.targets), 2, samples)
    assert spec.shape[:4] == (2, len(model.config.targets), 2, 129)
    assert signal.isfinite().all()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_of_every_variant_is_trained(name: str):
    model = small(**VARIANTS[name])
    model(torch.randn(1, 2, 4000)).signal.square().sum().backward()
    idle = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert idle == []


@pytest.mark.parametrize("name", VARIANTS)
def test_silence_in_gives_silence_out(name: str):
    with torch.inference_mode():
        signal = small(**VARIANTS[name])(torch.zeros(1, 2, 5000)).signal
    assert not signal.any()


@pytest.mark.parametrize("name", ["residual", "consistent"])
def test_targets_sum_to_the_mixture(name: str):
    mixture = torch.randn(1, 2, 5000)
    with torch.inference_mode():
        signal = small(**VARIANTS[name])(mixture).signal
    torch.testing.assert_close(signal.sum(1), mixture, atol=1e-5, rtol=0)


def test_consistency_equals_the_projection_of_the_masks():
    model = small(targets=FOUR, mixture_consistency=True)
    spec = torch.randn(1, 2, 129, 7, dtype=torch.complex64)
    with torch.inference_mode():
        latent = model.blocks(model.encoder(spec))
        decoders: dict[str, Any] = dict(model.decoders.items())
        masks = torch.stack([decoders[target].mask(latent)[:, :, 0] for target in FOUR])
        masks = torch.complex(masks.real - (masks.real.sum(0) - 1) / 4, masks.imag - masks.imag.sum(0) / 4)
        expected = (masks * spec).transpose(0, 1)
        torch.testing.assert_close(model.estimate(spec), expected)


def test_the_residual_target_has_no_decoder():
    model = small(targets=FOUR, residual="drums")
    assert sorted(model.decoders) == ["bass", "other", "vocals"]


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_independent_stereo_takes_any_number_of_channels_each_alone(channels: int):
    model, mixture = small(), torch.randn(1, channels, 3000)
    with torch.inference_mode():
        together = model(mixture).signal
        alone = torch.cat([model(mixture[:, c : c + 1]).signal for c in range(channels)], dim=2)
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("kind", ["merged", "tac"])
def test_stereo_models_say_clearly_that_mono_does_not_fit(kind: str):
    with pytest.raises(ValueError, match=rf"has 1 channel\(s\), but this model with '{kind}' stereo needs exactly 2"):
        small(stereo={"kind": kind})(torch.randn(1, 1, 3000))


@pytest.mark.parametrize("shape", [(2, 3000), (1, 2, 0), (3000,)])
def test_a_wrong_shape_is_named(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"must be \(batch, channels, samples >= 1\), got"):
        small()(torch.zeros(shape))


def test_a_mono_model_can_be_made():
    model = small(channels=1)
    assert model(torch.randn(1, 1, 500)).signal.shape == (1, 1, 1, 500)


def test_batch_items_do_not_influence_each_other():
    model, mixture = small(**VARIANTS["tac, attention, heads"]), torch.randn(3, 2, 2000)
    with torch.inference_mode():
        torch.testing.assert_close(model(mixture).signal[1:2], model(mixture[1:2]).signal)


def test_the_plain_signal_is_the_inverse_of_the_spectrogram():
    model, mixture = small(), torch.randn(1, 2, 3000)
    with torch.inference_mode():
        signal, spec = model(mixture)
    window = torch.hann_window(256)
    expected: Tensor = torch.istft(spec.flatten(0, 2), 256, 64, window=window, length=3000)
    torch.testing.assert_close(signal.flatten(0, 2), expected)

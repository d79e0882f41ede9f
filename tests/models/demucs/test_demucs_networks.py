"""The families of Demucs: configurations, tensors and operations, lengths, and what networks do at their edges."""

import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bandsplit.core.errors import ConfigError
from bandsplit.models.contract import ModelConfig
from bandsplit.models.demucs.time_config import TimeConfig
from bandsplit.models.demucs.transformer import Attention, encode_bins_and_frames, encode_samples
from bandsplit.models.families import count_flop, parse_model, tensor_shapes
from bandsplit.models.layers.aligned_stft import aligned_istft, aligned_stft
from bandsplit.models.layers.cpu_work import TwoPaths
from bandsplit.models.layers.dconv import DConv, LocalAttention
from bandsplit.models.layers.resample import downsample, upsample
from bandsplit.models.network import build_model

RECURRENT = {"lstm_from": 1, "attention_from": 1}
SMALL: dict[str, dict[str, Any]] = {
    "htdemucs": {
        "depth": 2, "n_fft": 256, "heads": 2, "layers": 3, "bottleneck": None, "segment_samples": 1000,
        "dconv": {"decoder": True},
    },
    "htdemucs, wide": {
        "depth": 3, "n_fft": 1024, "heads": 4, "layers": 1, "bottleneck": 16, "hidden_factor": 2, "norm_from": 1,
        "dconv": {"depth": 3}, "fixed_length": False, "dropout": 0.1,
    },
    "hdemucs": {"n_fft": 1024, "norm_from": 2, "dconv": {**RECURRENT, "decoder": True}},
    "hdemucs, regions": {
        "n_fft": 1024, "depth": 4, "regions": [0.2, 0.5], "region_depth": 2, "spectrum": "magnitude",
        "old_padding": True, "dconv": {"encoder": False},
    },
    "demucs": {"depth": 3, "norm_from": 1, "dconv": {**RECURRENT, "decoder": True}},
    "demucs, plain": {"depth": 2, "rewrite": False, "resample": False, "normalize": False},
    "demucs_v2": {"depth": 3},
    "demucs_v2, mono": {"depth": 2, "channels": 1, "resample": False},
}  # fmt: skip


def small(name: str, **changes: Any) -> ModelConfig:
    start = {"family": name.split(",")[0], "targets": ["vocals", "bass"], "n_features": 8}
    return parse_model(start | SMALL[name] | changes)


@pytest.fixture(params=SMALL)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return small(request.param)


def test_shapes_are_those_of_the_built_network(config: ModelConfig):
    with torch.device("meta"):
        state = build_model(config).state_dict()
    assert [*tensor_shapes(config)] == [(name, tuple(tensor.shape)) for name, tensor in state.items()]


@pytest.mark.parametrize("name", SMALL)
def test_operations_are_those_that_torch_counts(name: str):
    # Without resampling, which torch counts, too; and short, since each step of an LSTM is counted by itself.
    config = small(name, **({"resample": False} if name.startswith("demucs") else {}))
    samples = config.geometry.fitting(300)
    with torch.device("meta"):
        model = build_model(config).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, config.channels, samples, device="meta"))
    assert count_flop(config, samples).forward == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("samples", [1, 2, 77, 1000])
def test_songs_of_any_length_get_estimates_of_their_length(config: ModelConfig, samples: int):
    torch.manual_seed(0)
    model = build_model(config).eval()
    mixture = torch.rand(2, config.channels, samples) - 0.5
    if samples == 1 and getattr(config, "normalize", False):
        mixture = mixture.expand(-1, -1, 2)  # one sample has no standard deviation
    with torch.inference_mode():
        estimates = model.separate(mixture)
    assert estimates.shape == (2, 2, *mixture.shape[1:])
    assert estimates.isfinite().all()


def test_recomputed_layers_have_the_same_gradients(config: ModelConfig):
    torch.manual_seed(0)
    model = build_model(config)
    mixture = torch.rand(1, config.channels, config.geometry.fitting(900))
    gradients = []
    for recompute in (False, True):
        for part in model.repeated_parts():
            part.recompute = recompute
        torch.manual_seed(1)  # of the dropout
        model.zero_grad()
        model(mixture).signal.abs().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert [*model.repeated_parts()]
    for plain, again in zip(*gradients, strict=True):
        assert plain is not None and again is not None
        torch.testing.assert_close(plain, again, rtol=1e-4, atol=1e-7)


def test_the_faster_path_of_inference_equals_the_plain_one(config: ModelConfig):
    torch.manual_seed(0)
    model = build_model(config).eval()
    mixture = torch.rand(2, config.channels, config.geometry.fitting(900)) - 0.5
    with torch.inference_mode():
        found = model.separate(mixture)
        for layer in model.modules():
            if isinstance(layer, TwoPaths):
                layer.fast = False
        expected = model.separate(mixture)
    assert not found.equal(expected)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_half_precision_changes_estimates_by_less_than_30_db(config: ModelConfig):
    torch.manual_seed(0)
    model = build_model(config).eval()
    mixture = torch.rand(1, config.channels, config.geometry.fitting(1000)) - 0.5
    with torch.inference_mode():
        expected = model.separate(mixture)
        with torch.autocast("cpu", torch.bfloat16):
            found = model.separate(mixture)
    assert found.dtype == torch.float32
    assert (found - expected).square().sum() <= 1e-3 * expected.square().sum()


def test_positions_are_exact_in_half_precision():
    like, rough = torch.empty(0), torch.empty(0, dtype=torch.bfloat16)
    assert encode_samples(8, 2000, rough).equal(encode_samples(8, 2000, like))
    assert encode_bins_and_frames(8, 2, 400, rough).equal(encode_bins_and_frames(8, 2, 400, like))
    torch.manual_seed(0)
    attention, x = LocalAttention(8), torch.randn(1, 8, 700)
    nn.init.ones_(attention.query_decay.get_parameter("bias"))  # neighbours count most
    with torch.autocast("cpu", torch.bfloat16):
        found = attention(x.bfloat16())
    assert (found - attention(x)).abs().max() <= 0.05


@pytest.mark.parametrize("name", ["demucs", "demucs, plain", "demucs_v2", "demucs_v2, mono"])
def test_lengths_are_those_at_which_every_strided_convolution_ends_with_the_signal(name: str):
    config = small(name)
    assert isinstance(config, TimeConfig)
    rate = config.inner_samples(1)
    for samples in range(1, 3000, 7):
        length = config.inner_samples(config.geometry.fitting(samples))
        for _ in range(config.depth):
            length, rest = divmod(length - 8, 4)
            assert rest == 0
            length += 1
        assert config.geometry.fitting(samples) - samples < 4**config.depth // rate or samples < 2500


def test_samples_without_an_estimate_do_not_reach_the_estimates_of_v2():
    torch.manual_seed(0)
    config = small("demucs_v2")
    model = build_model(config).eval()
    with torch.inference_mode():
        estimates = model.separate(torch.rand(1, 2, 500))
    assert (estimates[0, 0, 0] != 0).all()


@pytest.mark.parametrize("inner", [{}, {"lstm": True, "attention": True}], ids=["plain", "recurrent"])
def test_residual_branches_see_each_bin_alone_and_equal_plain_modules(inner: dict[str, bool]):
    torch.manual_seed(0)
    branches, x = DConv(16, 8, 2, **inner), torch.rand(2, 16, 3, 30) - 0.5
    expected = x
    for layer in branches.layers:
        expected = expected + torch.stack([layer(expected[:, :, at]) for at in range(3)], dim=2)
    torch.testing.assert_close(branches(x), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(branches(x[:, :, 1]), expected[:, :, 1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("samples", [4096, 5000, 900])
def test_frames_are_those_of_torchs_transform_without_the_outer_ones(samples: int):
    signal = torch.rand(1, 2, samples) - 0.5
    frames = -(-samples // 256)
    padded = nn.functional.pad(signal, (384, 384 + frames * 256 - samples), mode="reflect")
    window = torch.hann_window(1024)
    full = torch.stft(padded[0], 1024, 256, window=window, normalized=True, return_complex=True)
    spec = aligned_stft(signal, 1024)
    torch.testing.assert_close(spec[0], full[:, :-1, 2:-2])
    back = torch.istft(nn.functional.pad(spec[0], (2, 2, 0, 1)), 1024, 256, window=window, normalized=True)
    torch.testing.assert_close(aligned_istft(spec, samples)[0], back[:, 384 : 384 + samples], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(aligned_istft(spec, samples, late=True)[0], back[:, :samples], rtol=1e-4, atol=1e-5)


def test_resampling_keeps_a_slow_sine_and_halves_what_it_doubled():
    at = torch.arange(400) / 40
    sine = torch.sin(at)[None]
    twice = upsample(sine)
    expected = torch.sin(torch.arange(800) / 80)
    torch.testing.assert_close(twice[0, 100:-100], expected[100:-100], rtol=0, atol=1e-3)
    torch.testing.assert_close(downsample(twice)[0, 50:-50], sine[0, 50:-50], rtol=0, atol=1e-3)


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours, theirs = Attention(16, 4, 0.0), nn.MultiheadAttention(16, 4, batch_first=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x, other = torch.rand(2, 9, 16), torch.rand(2, 5, 16)
    for keys in (x, other):
        torch.testing.assert_close(ours(x, keys), theirs(x, keys, keys, need_weights=False)[0])


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("htdemucs", {"depht": 3}, "unknown key 'depht'; did you mean 'depth'?"),
        ("htdemucs", {"n_fft": 1000}, "n_fft: 1000 with depth 2; half of it must be a multiple of 16 and more than 32"),
        ("htdemucs", {"heads": 3}, "heads: 3 must divide the transformer's 16 features, and 4 must, too"),
        ("htdemucs", {"dconv": {"compression": 9}}, "dconv.compression: 9 is more than the 8 features"),
        ("htdemucs", {"norm_from": 1, "norm_groups": 3}, "norm_groups: 3 does not divide 16 features"),
        ("hdemucs", {"n_fft": 2048}, "n_fft: 2048 is not 16 times a power of 4; legal: 256, 1024, 4096, ..."),
        ("hdemucs", {"depth": 3}, "depth: 3 levels end before the branches merge; with n_fft 1024, give at least 4"),
        ("hdemucs", {"regions": [0.5]}, "region_depth: 0 with regions (0.5,); give both or neither"),
        ("hdemucs", {"regions": [0.5, 0.4], "region_depth": 1}, "regions: (0.5, 0.4) must increase, between 0 and 1"),
        ("hdemucs", {"regions": [0.5], "region_depth": 3}, "region_depth: 3 is more than the levels without"),
        (
            "hdemucs, regions", {"regions": [0.01]},
            "regions: (0.01,) has one with less than 8 bins at the deepest of its levels",
        ),
        ("demucs", {"dconv": {"attention_from": 0, "compression": 3}}, "dconv.attention_from: level 0 has 2 features"),
        ("demucs", {"norm_from": 1, "norm_groups": 5}, "norm_groups: 5 does not divide 8 features"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(name: str, changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=re.escape(message)):
        small(name, **changes)


def test_other_channels_and_lengths_are_refused():
    with pytest.raises(ValueError, match=r"mixture: must be \(batch, 2, samples >= 1\), got \(1, 1, 900\)"):
        build_model(small("htdemucs"))(torch.zeros(1, 1, 900))
    with pytest.raises(
        ValueError, match=r"mixture: must be \(batch, 2, a length of config.geometry\), got \(1, 2, 900\)"
    ):
        build_model(small("demucs"))(torch.zeros(1, 2, 900))

"""The contract of the family: lengths, channels, silence, targets, recomputation, export, tensors and operations."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bandsplit.audio.stft import stft
from bandsplit.models.bs_roformer.config import BsRoformerConfig
from bandsplit.models.bs_roformer.network import BsRoformer
from bandsplit.models.families import count_flop, tensor_shapes
from bandsplit.models.network import build_model
from bandsplit.models.tensors import count_parameters

SMALL = {
    "targets": ["vocals", "bass"], "sample_rate_hz": 8000, "stft": {"n_fft": 64, "hop_samples": 14},
    "bands": {"kind": "bins", "widths": [2, 2, 2, 3, 3, 21]}, "n_features": 8, "n_blocks": 2, "heads": 2,
    "head_features": 6,
}  # fmt: skip
MEL = {"bands": {"kind": "mel", "n_bands": 4}, "norm": "each", "mask": {"hidden_factor": 2, "hidden_layers": 2}}
VARIANTS = {
    "bins": {},
    "mel": MEL,
    "linear attention, skips": {"linear_layers": 2, "time_layers": 2, "skip_connections": True, "channels": 1},
    "mel with linear attention": MEL | {"linear_layers": 1, "band_layers": 2, "channels": 1},
    "no hidden layers": {"mask": {"hidden_layers": 0}, "norm": "each", "zero_dc": False},
}
EACH = pytest.mark.parametrize("variant", VARIANTS)


def build(change: dict[str, Any]) -> BsRoformer:
    torch.manual_seed(0)
    model = build_model(BsRoformerConfig.parse(SMALL | change))
    assert isinstance(model, BsRoformer)
    return model.eval()


def noise(model: nn.Module, samples: int) -> torch.Tensor:
    assert isinstance(model, BsRoformer)
    return torch.randn(2, model.config.channels, samples, generator=torch.Generator().manual_seed(1))


@EACH
@pytest.mark.parametrize("samples", [1, 13, 33, 500])
def test_estimates_have_the_length_of_the_mixture(variant: str, samples: int):
    model = build(VARIANTS[variant])
    signal, spec = model(noise(model, samples))
    assert signal.shape == (2, 2, model.config.channels, samples)
    assert signal.isfinite().all() and spec is None
    assert model.config.geometry.fitting(samples) == samples


@EACH
def test_silence_stays_silent(variant: str):
    model = build(VARIANTS[variant])
    assert not model(torch.zeros(1, model.config.channels, 300)).signal.any()


@pytest.mark.parametrize("zero_dc", [True, False])
def test_the_lowest_bin_is_silent_if_wanted(zero_dc: bool):
    model = build({"zero_dc": zero_dc})
    estimates = model.estimate(torch.view_as_real(stft(noise(model, 300), model.config.stft)))
    assert bool(estimates[..., 0, :, :].any()) is not zero_dc
    assert estimates[..., 1, :, :].all()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 100), r"mixture: has 1 channel\(s\), but this model needs exactly 2; duplicate or fold the channels"),
        ((2, 100), r"mixture: must be \(batch, channels, samples >= 1\), got \(2, 100\)"),
        ((1, 2, 0), r"mixture: must be \(batch, channels, samples >= 1\), got \(1, 2, 0\)"),
    ],
)
def test_a_mixture_that_does_not_fit_is_refused(shape: tuple[int, ...], message: str):
    with pytest.raises(ValueError, match=message):
        build({})(torch.zeros(shape))


@EACH
def test_a_narrowed_model_gives_the_same_estimates(variant: str):
    model = build(VARIANTS[variant])
    narrow = model.narrowed(["bass"])
    assert narrow.config.targets == ("bass",)
    assert torch.equal(narrow(noise(model, 300)).signal, model(noise(model, 300)).signal[:, 1:])


@EACH
def test_recomputed_parts_give_the_same_gradients(variant: str):
    model = build(VARIANTS[variant])
    gradients = []
    for recompute in (False, True):
        for part in model.repeated_parts():
            part.recompute = recompute
        model.zero_grad()
        model(noise(model, 200)).signal.square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert len(list(model.repeated_parts())) == (4 if model.config.linear_layers else 2)
    assert all(a is not None and torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@EACH
def test_shapes_are_those_of_the_built_network(variant: str):
    config = build(VARIANTS[variant]).config
    with torch.device("meta"):
        built = build_model(config)
    assert list(tensor_shapes(config)) == [(name, tuple(tensor.shape)) for name, tensor in built.state_dict().items()]
    assert count_parameters(config) == sum(parameter.numel() for parameter in built.parameters())


@EACH
def test_operations_are_those_that_torch_counts(variant: str):
    model = build(VARIANTS[variant])
    # It counts neither the fused attention of CPUs nor the kernels, which compute without gradients.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(noise(model, 500)[:1])
    assert count_flop(model.config, 500).forward == counter.get_total_flops()


class Core(nn.Module):
    def __init__(self, model: BsRoformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        return self.model.estimate(mixture)


@pytest.mark.slow
def test_the_real_core_is_exported_for_any_number_of_frames():
    model = build(VARIANTS["mel with linear attention"] | {"n_blocks": 1})
    mixture, other = (torch.view_as_real(stft(noise(model, n), model.config.stft)) for n in (500, 333))
    batch, frames = torch.export.Dim("batch"), torch.export.Dim("frames")
    program = torch.export.export(Core(model), (mixture,), dynamic_shapes=({0: batch, 3: frames},))
    values = [node.meta.get("val") for node in program.graph.nodes]
    assert not any(isinstance(value, torch.Tensor) and value.is_complex() for value in values)
    assert torch.allclose(program.module()(other[:1]), model.estimate(other[:1]), atol=1e-5)

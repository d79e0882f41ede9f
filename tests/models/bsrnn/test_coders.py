"""The batched coders against a plain loop over bands, written from the paper with torch.nn alone."""

from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bandsplit.models.bsrnn.coders import BandEncoder, MaskDecoder
from bandsplit.models.layers.bands import BandRun, range_runs

RUNS = [BandRun(0, 3, 2), BandRun(6, 2, 4), BandRun(14, 1, 7)]
WIDTHS = [2, 2, 2, 4, 4, 7]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def spectrogram(channels: int = 2) -> Tensor:
    return torch.randn(2, channels, sum(WIDTHS), 5, dtype=torch.complex64)


Module = TypeVar("Module", bound=torch.nn.Module)


def shake(module: Module) -> Module:
    """Move every parameter, so that gains and biases matter."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Group normalisation with one group of ``b n t``."""
    return F.group_norm(x, 1, weight.flatten(), bias.flatten(), eps=1e-7)


def per_band(runs: list[BandRun], layers: Any, name: str) -> list[Tensor]:
    return [getattr(layer, name)[i] for run, layer in zip(runs, layers, strict=True) for i in range(run.count)]


@pytest.mark.parametrize("merged", [1, 2])
def test_encoder_equals_a_loop_over_bands(merged: int):
    encoder = shake(BandEncoder(RUNS, 8, merged))
    spec = spectrogram()
    names = ("weight", "bias", "norm_weight", "norm_bias")
    stacks = zip(*(per_band(RUNS, encoder.projections, name) for name in names), strict=True)
    groups = [[0, 1]] if merged == 2 else [[0], [1]]
    expected, start = [], 0
    for width, (weight, bias, gain, shift) in zip(WIDTHS, stacks, strict=True):
        band = spec[:, :, start : start + width]
        latents = []
        for channels in groups:
            parts = [part for c in channels for part in (band[:, c].real, band[:, c].imag)]
            latents.append(F.linear(norm(torch.cat(parts, 1), gain, shift).mT, weight.mT, bias[0]))
        expected.append(torch.stack(latents, 1))
        start += width
    torch.testing.assert_close(encoder(spec), torch.stack(expected, 2))


@pytest.mark.parametrize("merged", [1, 2])
@pytest.mark.parametrize("hidden_layers", [1, 2, 3])
def test_decoder_equals_a_loop_over_bands(merged: int, hidden_layers: int):
    decoder = shake(MaskDecoder(RUNS, 8, 12, hidden_layers, merged))
    spec, latent = spectrogram(), torch.randn(2, 2 // merged, len(WIDTHS), 5, 8)
    leave = list(zip(*(per_band(RUNS, decoder.leave, name) for name in ("weight", "bias")), strict=True))
    expected, start = torch.zeros_like(spec), 0
    for k, width in enumerate(WIDTHS):
        for c in range(latent.shape[1]):
            y = norm(latent[:, c, k].mT, decoder.enter.norm_weight[k], decoder.enter.norm_bias[k]).mT
            layers: list[Any] = [decoder.enter, *decoder.hidden]
            for layer in layers:
                y = torch.tanh(F.linear(y, layer.weight[k].mT, layer.bias[k, 0]))
            out = F.linear(y, leave[k][0].mT, leave[k][1][0])
            for m, features in enumerate(out.chunk(merged, dim=-1)):
                value, gate = features.chunk(2, dim=-1)
                real, imaginary = (value * torch.sigmoid(gate)).chunk(2, dim=-1)
                channel = m if merged == 2 else c
                mask = torch.complex(real, imaginary).mT
                expected[:, channel, start : start + width] = mask * spec[:, channel, start : start + width]
        start += width
    torch.testing.assert_close(decoder(latent, spec), expected)


def test_context_draws_from_neighbouring_bins_of_the_full_band_mixture():
    decoder = shake(MaskDecoder(RUNS, 8, 12, 2, context=1))
    spec, latent = spectrogram(), torch.randn(2, 2, len(WIDTHS), 5, 8)
    taps = decoder.mask(latent)
    assert taps.shape == (2, 2, 3, sum(WIDTHS), 5)
    silent = torch.zeros_like(spec[:, :, :1])
    below, above = torch.cat([silent, spec[:, :, :-1]], 2), torch.cat([spec[:, :, 1:], silent], 2)
    expected = taps[:, :, 0] * below + taps[:, :, 1] * spec + taps[:, :, 2] * above
    torch.testing.assert_close(decoder(latent, spec), expected)


def test_context_reaches_across_band_edges():
    decoder = shake(MaskDecoder(RUNS, 8, 12, 2, context=1))
    spec, latent = torch.zeros_like(spectrogram()), torch.randn(2, 2, len(WIDTHS), 5, 8)
    spec[:, :, 6] = 1  # the lowest bin of the fourth band
    heard = decoder(latent, spec).abs().sum((0, 1, 3)) > 0
    assert heard.nonzero().flatten().tolist() == [5, 6, 7]


def test_context_starts_at_the_centre_tap():
    decoder = MaskDecoder(RUNS, 8, 12, 2, context=2)
    taps = decoder.mask(torch.randn(2, 2, len(WIDTHS), 5, 8))
    assert taps[:, :, 2].abs().min() > 0
    assert taps[:, :, [0, 1, 3, 4]].abs().max() == 0


OVERLAPPING = [(0, 4), (2, 6), (4, 8), (7, 15), (11, 21)]


def overlapping(count: int) -> list[BandRun]:
    return range_runs(OVERLAPPING, count)


def test_overlapping_bands_each_see_their_bins():
    encoder, spec = shake(BandEncoder(overlapping(21), 8)), spectrogram()
    latent = encoder(spec)
    bands = [
        (project, i) for run, project in zip(encoder.runs, encoder.projections, strict=True) for i in range(run.count)
    ]
    for k, ((first, end), (project, i)) in enumerate(zip(OVERLAPPING, bands, strict=True)):
        alone = BandEncoder([BandRun(0, 1, end - first)], 8)
        alone.projections[0].load_state_dict({name: each[i : i + 1] for name, each in project.state_dict().items()})
        torch.testing.assert_close(latent[:, :, k], alone(spec[:, :, first:end])[:, :, 0])


@pytest.mark.parametrize("merged", [1, 2])
@pytest.mark.parametrize("context", [0, 1])
def test_a_bin_of_several_bands_gets_the_mean_of_their_masks(merged: int, context: int):
    runs = overlapping(21)
    decoder = shake(MaskDecoder(runs, 8, 12, 1, merged, context))
    latent = torch.randn(2, 2 // merged, 5, 5, 8)
    apart, start = [], 0  # the same bands, each with bins of its own
    for run in runs:
        apart.append(BandRun(start, run.count, run.width))
        start += run.count * run.width
    plain = MaskDecoder(apart, 8, 12, 1, merged, context)
    plain.load_state_dict(decoder.state_dict())
    masks, found = plain.mask(latent), decoder.mask(latent)
    for bin in range(21):
        places, at = [], 0
        for first, end in OVERLAPPING:
            places += [at + bin - first] if first <= bin < end else []
            at += end - first
        torch.testing.assert_close(found[:, :, :, bin], masks[:, :, :, places].mean(dim=3))


def test_overlapping_bands_survive_a_network_without_memory():
    with torch.device("meta"):
        encoder = BandEncoder(overlapping(21), 8)
    assert encoder.bins is not None and encoder.bins.device.type == "cpu"
    assert [*encoder.state_dict()] == [*BandEncoder(overlapping(21), 8).state_dict()]

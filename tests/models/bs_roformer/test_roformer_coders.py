"""Band split and mask estimators, against loops over bands; the mel filters against a formula."""

import pytest
import torch
from torch import nn

from bandsplit.core.errors import ConfigError
from bandsplit.models.bs_roformer.bands import PUBLISHED_WIDTHS, mel_runs, tiled_runs
from bandsplit.models.bs_roformer.coders import BandSplit, MaskEstimator
from bandsplit.models.bs_roformer.config import BsRoformerConfig
from bandsplit.models.layers.bands import BandRun, are_side_by_side, range_runs

ADJACENT = range_runs([(0, 2), (2, 4), (4, 9)], 9)
OVERLAPPING = range_runs([(0, 3), (2, 6), (4, 9)], 9)
LAYOUTS = pytest.mark.parametrize("runs", [ADJACENT, OVERLAPPING], ids=["adjacent", "overlapping"])


def bands_of(runs: list[BandRun]) -> list[list[int]]:
    return [run.bins()[i * run.width : (i + 1) * run.width] for run in runs for i in range(run.count)]


def one_by_one(layers: nn.ModuleList, name: str) -> list[torch.Tensor]:
    return [band for layer in layers for band in layer.get_parameter(name)]


@LAYOUTS
def test_band_split_is_a_norm_and_a_linear_layer_per_band(runs: list[BandRun]):
    torch.manual_seed(3)
    split = BandSplit(runs, 5, channels=2)
    for gain in one_by_one(split.projections, "gain"):
        nn.init.normal_(gain)
    spec = torch.randn(2, 2, 9, 4, 2)
    parameters = (one_by_one(split.projections, name) for name in ("gain", "weight", "bias"))
    for k, (bins, gain, weight, bias) in enumerate(zip(bands_of(runs), *parameters, strict=True)):
        features = torch.stack([spec[:, c, f, :, r] for f in bins for c in range(2) for r in range(2)], dim=-1)
        expected = (nn.RMSNorm(features.shape[-1], eps=0)(features) * gain[0]) @ weight + bias[0]
        assert torch.allclose(split(spec)[:, k], expected, atol=1e-5)


@LAYOUTS
@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
def test_mask_estimator_is_a_perceptron_per_band(runs: list[BandRun], hidden_layers: int):
    torch.manual_seed(4)
    estimator = MaskEstimator(runs, 5, channels=2, hidden=6, hidden_layers=hidden_layers)
    latent = torch.randn(3, 2, 4, 5)
    masks = estimator(latent)
    weights, biases = (one_by_one(estimator.leave, name) for name in ("weight", "bias"))
    start = 0
    for k, bins in enumerate(bands_of(runs)):
        x = latent[k]
        for layer in estimator.hidden:
            x = torch.tanh(x @ layer.get_parameter("weight")[k] + layer.get_parameter("bias")[k])
        value, gate = (x @ weights[k] + biases[k]).chunk(2, dim=-1)
        expected = (value * torch.sigmoid(gate)).view(2, 4, len(bins), 2, 2)  # b t f c r
        assert torch.allclose(masks[:, :, start : start + len(bins)], expected.permute(0, 3, 2, 1, 4), atol=1e-5)
        start += len(bins)


def test_published_bands_tile_the_transform():
    runs = tiled_runs(PUBLISHED_WIDTHS, 1025)
    assert are_side_by_side(runs)
    assert [(run.count, run.width) for run in runs] == [(24, 2), (12, 4), (8, 12), (8, 24), (8, 48), (1, 128), (1, 129)]


def test_published_mel_bands_overlap_by_half():
    runs = mel_runs(60, 2048, 44100)
    bands = bands_of(runs)
    assert [(band[0], band[-1]) for band in bands[:3] + bands[-3:]] == [
        (0, 6), (4, 9), (7, 12), (782, 894), (836, 957), (895, 1024),
    ]  # fmt: skip
    assert len(bands) == 60 and sum(map(len, bands)) == 1979
    counts = torch.bincount(torch.tensor([bin for band in bands for bin in band])).tolist()
    assert len(counts) == 1025 and max(counts) == 2 and counts.count(1) == 71


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"bands": {"kind": "bins", "widths": [1000]}},
            r"the 1 widths sum to 1000 bins, but they must cover the 1025 ",
        ),
        ({"bands": {"kind": "mel", "n_bands": 500}}, r"band \d+ of 500 is too narrow for .*; use fewer bands or a "),
        (
            {"stft": {"n_fft": 64, "hop_samples": 16}, "bands": {"kind": "mel", "n_bands": 60}},
            r"n_bands 60 is more than",
        ),
        ({"bands": {"kind": "bark"}}, r"bands: .*'bins', 'mel'"),
        ({"head_features": 3}, r"head_features: .*multiple of 2"),
        ({"mask": {"layers": 2}}, r"mask: unknown key 'layers'; did you mean 'hidden_layers'\?"),
    ],
)
def test_configurations_without_meaning_are_refused(change: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        BsRoformerConfig.parse({"targets": ["vocals"]} | change)

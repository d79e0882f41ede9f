"""Configurations of TFC-TDF UNets: legal settings, lengths of signals, sizes of the published networks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bandsplit.core.errors import ConfigError
from bandsplit.models.families import count_flop, parse_model, tensor_shapes
from bandsplit.models.network import build_model
from bandsplit.models.tensors import count_parameters
from bandsplit.models.tfc_tdf.config import TfcTdfConfig

HALF, QUARTER = {"n_fft": 8192, "hop_samples": 2048}, {"n_fft": 12288, "hop_samples": 2048}
PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "mdx23c-4stems-musdb18": ({}, 111_994_368),
    "mdx23c-2stems-vocals": ({}, 111_990_272),
    "kuielab-modelA-and-B": ({"n_features": 64, "growth": 64}, 30_119_168),
    "kuielab-model1": ({"growth": 64, "stft": HALF}, 45_813_888),
    "kuielab-model2": ({"n_features": 256, "growth": 64, "stft": HALF}, 89_712_512),
    "kuielab-model3-vocals": ({"growth": 64, "stft": QUARTER}, 45_807_744),
}
TARGETS = ["vocals", "bass", "drums", "other"]


def config(**changes: Any) -> TfcTdfConfig:
    return TfcTdfConfig.parse({"targets": TARGETS, **changes})


def stems_of(name: str) -> int:
    return 1 if "model3" in name else 2 if "2stems" in name else 4


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_their_published_number_of_parameters(name: str):
    changes, parameters = PUBLISHED[name]
    this = config(**changes, targets=TARGETS[: stems_of(name)])
    with torch.device("meta"):
        model = build_model(this)
    assert count_parameters(this) == sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_the_counted_operations(shared: Path, name: str):
    counts = json.loads((shared / "systems" / "counts-roformer-tfctdf-dttnet.json").read_text())[f"tfc_tdf_v3/{name}"]
    changes, parameters = PUBLISHED[name]
    this = config(**changes, targets=TARGETS[: stems_of(name)])
    assert counts["stems"] == stems_of(name) and counts["parameters"] == parameters
    assert this.geometry.fitting(counts["chunk_samples"]) == counts["chunk_samples"]
    assert count_flop(this, counts["chunk_samples"]).forward == counts["flop_one_chunk"]


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"norm": None, "n_blocks": 1}, {"norm": {"kind": "batch"}, "scale_frames": 1, "growth": 0},
        {"norm": {"kind": "group", "groups": 2}, "n_subbands": 2, "channels": 1, "targets": ["vocals"]},
    ],
    ids=str,
)  # fmt: skip
def test_shapes_are_those_of_the_state_dict(changes: dict[str, Any]):
    small = {"stft": {"n_fft": 512, "hop_samples": 128}, "n_bins": 256, "n_features": 4, "growth": 4, "n_scales": 3}
    this = config(**{**small, **changes})
    found = {name: tuple(tensor.shape) for name, tensor in build_model(this).state_dict().items()}
    assert list(found.items()) == list(tensor_shapes(this))


def test_lengths_have_frames_that_all_scales_divide():
    this = config(stft={"n_fft": 64, "hop_samples": 16}, n_bins=32, n_subbands=1, n_scales=2, scale_frames=3)
    geometry = this.geometry
    assert [geometry.fitting(samples) for samples in (1, 128, 129, 272)] == [128, 128, 272, 272]
    assert (geometry.fitting(129) // 16 + 1) % 9 == 0
    assert config().geometry.fitting(261_120) == 261_120 == 255 * 1024
    assert round(config().plan.chunk_s * 44100) == 261_120


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_bins": 4090}, r"n_bins: 4090 is not a multiple of 128, which is n_subbands 4 times scale_bins 2 to the "
         r"power of n_scales 5; the nearest: 3968 and 4096"),
        ({"n_bins": 4097}, "n_bins: 4097 is not a multiple of 128, .* the nearest: 4096$"),
        ({"n_bins": 64}, "n_bins: 64 is not a multiple of 128, .* the nearest: 128$"),
        ({"n_bins": 5120}, "n_bins: 5120 is more than n_fft 8192 has; legal: 1 to 4097"),
        ({"bottleneck_factor": 33}, "bottleneck_factor: 33 leaves nothing of the 32 bins of the coarsest scale; legal: "
         "1 to 32"),
        ({"norm": {"kind": "group", "groups": 3}}, "norm.groups: 3 does not divide n_features 128"),
        ({"norm": {"kind": "group", "groups": 128}, "growth": 64}, "norm.groups: 128 does not divide growth 64"),
        ({"norm": {"kind": "layer"}}, "norm: .*'instance', 'batch', 'group'"),
        ({"activation": {"kind": "elu", "alpha": 0}}, "activation.elu.alpha: .*greater than 0"),
        ({"feature": 3}, "unknown key 'feature'; did you mean 'n_features'"),
        ({"n_scales": 0}, "n_scales: .*greater than or equal to 1"),
    ],
)  # fmt: skip
def test_illegal_settings_are_refused_with_the_legal_ones(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_a_configuration_survives_its_plain_form():
    this = config(activation={"kind": "elu", "alpha": 0.5}, norm=None)
    assert parse_model(this.model_dump(mode="json")) == this

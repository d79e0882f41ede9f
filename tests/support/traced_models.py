"""Models of the families that PyTorch's exporter traces: one of milliseconds for each option that changes the graph."""

from pathlib import Path
from typing import Any

import torch

from bandsplit.models.card import ModelCard
from bandsplit.models.families import parse_model
from bandsplit.models.files import save_model
from bandsplit.models.network import SeparationModel, build_model

CARD = ModelCard(name="test", training_data="none", licence="MIT")
STFT = {"n_fft": 128, "hop_samples": 32}
PLAN = {"kind": "overlap-add", "chunk_s": 0.508, "hop_s": 0.254}
THREE = {"targets": ["vocals", "bass", "drums"]}
MEL = {"bands": {"kind": "mel", "n_bands": 12}, "norm": "each", "mask": {"hidden_layers": 2}}
FAMILIES: dict[str, dict[str, Any]] = {
    "bs_roformer": {
        "stft": {"n_fft": 128, "hop_samples": 27},
        "bands": {"kind": "bins", "widths": [2, 2, 4, 4, 8, 8, 37]},
        "n_features": 8,
        "n_blocks": 1,
        "heads": 2,
        "head_features": 4,
        "plan": PLAN,
    },
    "tfc_tdf": {
        "stft": STFT,
        "n_bins": 48,
        "n_subbands": 2,
        "n_features": 8,
        "growth": 4,
        "n_scales": 2,
        "bottleneck_factor": 2,
        "n_blocks": 1,
        "plan": PLAN,
    },
    "dttnet": {
        "stft": STFT,
        "bins": 48,
        "unet": {"n_features": 16, "convs": 1, "levels": 1},
        "dual_path": {"layers": 1},
        "plan": PLAN,
    },
    "mdx_net": {
        "stft": STFT,
        "bins": 48,
        "unet": {"block": "plain", "n_features": 8, "convs": 1, "levels": 2},
        "plan": PLAN,
    },
    "htdemucs": {
        "n_features": 8,
        "depth": 1,
        "n_fft": 128,
        "dconv": {"decoder": True, "depth": 1, "compression": 2},
        "bottleneck": 12,
        "layers": 2,
        "heads": 2,
        "segment_samples": 5000,
    },
    "hdemucs": {
        "n_features": 8,
        "depth": 3,
        "n_fft": 64,
        "norm_from": 1,
        "dconv": {"depth": 1, "compression": 2, "lstm_from": 2, "attention_from": 2},
        "chunk_s": 0.6,
    },
    "demucs": {
        "n_features": 8,
        "depth": 2,
        "norm_from": 1,
        "dconv": {"depth": 1, "compression": 2, "lstm_from": 1, "attention_from": 1},
        "chunk_s": 0.6,
    },
    "demucs_v2": {"n_features": 8, "depth": 2, "chunk_s": 0.6},
    "presunet": {
        "stft": {"n_fft": 128, "hop_samples": 30},
        "widths": [8, 12],
        "n_blocks": 1,
        "plan": {"kind": "bounded", "chunk_s": 0.6, "trim_s": 0.1},
    },
}
UNET = FAMILIES["dttnet"]["unet"]
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "bs_roformer": {
        "plain": {},
        "mel, three targets": MEL | THREE,
        "mel, mono": MEL | {"channels": 1},
        "three targets": THREE,
        "linear attention, skip connections": {"linear_layers": 1, "skip_connections": True, "n_blocks": 2},
        "two layers, no hidden layer": {"time_layers": 2, "band_layers": 2, "mask": {"hidden_layers": 0}},
        "zero_dc": {"zero_dc": False},
    },
    "tfc_tdf": {
        "plain": {},
        "three targets": THREE,
        "batch norm, elu": {"norm": {"kind": "batch"}, "activation": {"kind": "elu", "alpha": 0.7}},
        "group norm, relu": {"norm": {"kind": "group", "groups": 2}, "activation": {"kind": "relu"}},
        "no norm, mono, frames kept": {"norm": None, "channels": 1, "scale_frames": 1},
        "two blocks, no subbands": {"n_blocks": 2, "n_subbands": 1, "growth": 0},
    },
    "dttnet": {
        "plain": {},
        "gru, one head": {"dual_path": {"layers": 1, "rnn": "gru", "heads": 1}},
        "one direction": {"dual_path": {"layers": 2, "bidirectional": False}},
        "res1, square": {"unet": UNET | {"block": "res1", "tdf": {"kind": "square", "bias": True}}},
        "plain blocks, no linear layers, mono": {"unet": UNET | {"block": "plain", "tdf": None}, "channels": 1},
    },
    "mdx_net": {
        "plain": {},
        "one linear layer, mono": {"unet": UNET | {"block": "plain", "tdf": {"kind": "square"}}, "channels": 1},
    },
    "htdemucs": {
        "plain": {},
        "any length, no bottleneck": {"fixed_length": False, "bottleneck": None, "depth": 2, "norm_from": 1},
        "three layers, three targets, mono": THREE | {"layers": 3, "channels": 1, "dconv": {"compression": 8}},
    },
    "hdemucs": {
        "plain": {},
        "magnitude, old padding, regions": {
            "spectrum": "magnitude",
            "old_padding": True,
            "regions": [0.4],
            "region_depth": 1,
        },
        "LSTM in the spectrogram, three targets, mono": THREE
        | {"channels": 1, "dconv": {"decoder": True, "compression": 2, "lstm_from": 0}},
    },
    "demucs": {
        "plain": {},
        "no attention, three targets": THREE | {"dconv": {"decoder": True, "compression": 2, "lstm_from": 1}},
        "plain layers at the rate of the signal, mono": {
            "rewrite": False,
            "normalize": False,
            "resample": False,
            "channels": 1,
        },
    },
    "demucs_v2": {"plain": {}, "three targets at the rate of the signal": THREE | {"resample": False, "depth": 3}},
    "presunet": {
        "plain": {},
        "three targets, long hops": THREE | {"stft": {"n_fft": 96, "hop_samples": 40}},
        "one level, mono": {"widths": [8], "n_blocks": 2, "channels": 1},
    },
}
RELATIVE = {family: 1e-4 if family == "presunet" else 1e-5 for family in FAMILIES}
"""Differences from PyTorch that are rounding, as a part of the peak: in PResUNet, directions of short vectors turn
phases, and PyTorch itself is up to 2e-5 from estimates in double precision."""
TRACED = {(family, option): OPTIONS[family][option] for family in FAMILIES for option in OPTIONS[family]}


def make_traced(family: str, changes: dict[str, Any]) -> SeparationModel:
    """Build a model whose parameters are all random, those that start at zero or one too."""
    data = {"family": family, "targets": ["vocals"], "sample_rate_hz": 8000} | FAMILIES[family]
    torch.manual_seed(0)
    model = build_model(parse_model(data | changes)).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif not name.endswith("frequencies"):
            tensor.add_(0.1 * torch.randn(tensor.shape))
    return model


def write_traced(folder: Path, family: str, changes: dict[str, Any] | None = None) -> Path:
    """Write such a model."""
    path = folder / "model.safetensors"
    save_model(path, make_traced(family, changes or {}), CARD)
    return path

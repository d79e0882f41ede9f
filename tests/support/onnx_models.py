"""Models of every architecture that is exported to ONNX."""

from pathlib import Path
from typing import Any

import torch

from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.card import ModelCard
from bandsplit.models.files import save_model
from bandsplit.models.network import build_model

CARD = ModelCard(name="test", training_data="none", licence="MIT", scores={"usdr_db": 1.5})
THREE = {"targets": ["vocals", "bass", "drums"]}
OVERLAPPING = {"bands": {"kind": "bins", "ranges": [[0, 20], [10, 30], [20, 40], [35, 65], [64, 65]]}}
ARCHITECTURES = {
    "lstm": {},
    "gru": {"time": {"kind": "gru"}, "band": {"kind": "gru"}},
    "conv": {"time": {"kind": "conv"}, "band": {"kind": "conv", "kernel": 5}},
    "dilated": {"time": {"kind": "dilated"}, "band": {"kind": "dilated", "hidden_factor": 2}},
    "time alone": {"band": None},
    "band alone": {"time": None},
    "groups": {"norm_groups": 2},
    "heads": {"heads": 2},
    "heads and groups": {"heads": 2, "norm_groups": 2, "time": {"kind": "conv"}},
    "TAC tanh": {"stereo": {"kind": "tac", "activation": "tanh"}},
    "TAC prelu": {"stereo": {"kind": "tac"}},
    "TAC norm": {"stereo": {"kind": "tac", "norm": True}},
    "attention": {"attention": {"heads": 2, "encoding_dim": 3}},
    "attention, merged": {"attention": {}, "stereo": {"kind": "merged"}},
    "merged": {"stereo": {"kind": "merged"}},
    "targets": THREE,
    "residual": THREE | {"residual": "bass"},
    "consistency": THREE | {"mixture_consistency": True},
    "overlapping bands": OVERLAPPING,
    "overlapping bands, merged, context": OVERLAPPING | {"mask": {"context": 1}, "stereo": {"kind": "merged"}},
    "context": {"mask": {"context": 2}},
    "context, merged": {"mask": {"context": 1, "hidden_layers": 1}, "stereo": {"kind": "merged"}},
}


def write_model(folder: Path, changes: dict[str, Any] | None = None) -> Path:
    """Write a model of milliseconds whose parameters are all random, those that start at zero or one too."""
    data = {
        "targets": ["vocals"],
        "bands": [(1000, 2), (2000, 1)],
        "sample_rate_hz": 8000,
        "stft": {"n_fft": 128, "hop_samples": 32},
        "n_features": 8,
        "n_blocks": 2,
    }
    torch.manual_seed(0)
    model = build_model(BsrnnConfig.parse(data | (changes or {})))
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    path = folder / "model.safetensors"
    save_model(path, model, CARD)
    return path

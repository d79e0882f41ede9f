"""Tiny models: random weights at 8 kHz, a few thousand parameters, milliseconds for a second of sound."""

from pathlib import Path
from typing import Any

import torch

from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.card import ModelCard
from bandsplit.models.files import save_model
from bandsplit.models.network import SeparationModel, build_model
from bandsplit.separation.separator import Separator

RATE_HZ = 8000
TINY: dict[str, Any] = {
    "bands": [[500, 4]], "sample_rate_hz": RATE_HZ, "n_features": 4, "n_blocks": 1,
    "stft": {"n_fft": 128, "hop_samples": 32}, "mask": {"hidden_factor": 1},
}  # fmt: skip
TINY_CHANGES = [
    "model.sample_rate_hz=8000", "model.bands=[[500, 4]]", "model.stft.n_fft=128", "model.stft.hop_samples=32",
    "model.n_features=4", "model.n_blocks=1",
]  # fmt: skip
"""What makes a recipe's model nearly that, as values of ``--set``."""


def tiny_config(*targets: str, **changes: Any) -> BsrnnConfig:
    """Return the configuration with these targets, by default vocals and bass, and some changes."""
    return BsrnnConfig.parse(TINY | {"targets": targets or ("vocals", "bass")} | changes)


def tiny_model(*targets: str, seed: int = 0, **changes: Any) -> SeparationModel:
    """Build a model with seeded random weights, in evaluation mode."""
    torch.manual_seed(seed)
    return build_model(tiny_config(*targets, **changes)).eval()


def write_tiny_model(path: Path | str, *targets: str, card: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Write such a model, whose card says ``card`` where that matters, and return the path."""
    facts: dict[str, Any] = {"name": "small", "training_data": "none", "licence": "CC0"} | (card or {})
    save_model(path, tiny_model(*targets, **changes), ModelCard(**facts))
    return Path(path)


def separator(model: Any = None, **options: Any) -> Separator:
    """Return a separator of a model, by default a tiny one, on the CPU."""
    return Separator(model or tiny_model(), device="cpu", **options)

"""Recipes of DTTNet: as published, and a small counterpart for two cores.

Source: docs/dttnet.md#training; DTTNet paper; DTTNet-Pytorch.
"""

from __future__ import annotations

from typing import Any

from bandsplit.recipes.recipe import TWO_CORES, Recipe

_CHUNK_S = 261_120 / 44_100  # 256 frames
_SHARE_ALTERED = 0.8  # of the 5 pitches and 5 tempos of the rendered copies, 4 are not the original
_MIXING: dict[str, Any] = {
    "activity": None,
    "pairing": "free",
    "gain": {"kind": "linear", "low": 1.0, "high": 1.0},
    "drop": "none",
    "peak_normalise": False,
    "augment": {
        "pitch_probability": _SHARE_ALTERED, "pitch_semitones": [-2.0, 2.0],
        "tempo_probability": _SHARE_ALTERED, "tempo_factor": [0.8, 1.2],
    },
}  # fmt: skip


def dttnet_recipes() -> list[Recipe]:
    """Make the published recipe and its small counterpart."""
    published = Recipe(
        "dttnet", "DTTNet: TFC-TDF U-Net with a dual path, one model per target (Chen, Vekkot, Shukla 2024)",
        parameters_m=19.06,
        by_target={"bass": {"model.bins": 864, "model.unet.tdf": {"kind": "bottleneck", "factor": 2}}},
        unknown={
            "training.examples_per_epoch": (
                "as many as there are chunks in the training songs; ours: 86 songs with about 5.6 hours"
            ),
            "training.max_epochs": "the number of epochs is not stated; ours ends by patience",
            "training.patience": "no early stopping is stated; ours gives ten validations the chance to improve",
            "training.mixing.augment.pitch_semitones": (
                "the published copies are shifted by integers and rendered beforehand; ours are drawn uniformly"
            ),
            "training.mixing.augment.tempo_factor": (
                "the published copies have five tempos, rendered beforehand; ours are drawn uniformly"
            ),
        },
        settings={
            "model": {"family": "dttnet"},
            "training": {
                "loss": {"kind": "l1-waveform"},
                "optimizer": {"kind": "adamw", "weight_decay": 0.01},
                "learning_rate": 2e-4,
                "learning_rate_rule": "none",
                "decay": {"kind": "constant"},
                "batch_size": 8,
                "global_batch": 16,
                "clip_norm": None,
                "precision": "fp16",
                "excerpt_s": _CHUNK_S,
                "examples_per_epoch": 3400,
                "mixing": _MIXING,
                "max_epochs": 1000,
                "patience": 100,
                "validate_every": 10,
                "chunks": {"kind": "trimmed", "chunk_s": _CHUNK_S, "trim_s": 3072 / 44_100},
            },
        },
    )  # fmt: skip
    return [published, _mini(published)]


def _mini(published: Recipe) -> Recipe:
    """Make the counterpart that two cores train in minutes, with the examples of the other small recipes."""
    excerpt_s, plan = 512 * 31 / 16_000, {"kind": "trimmed", "chunk_s": 512 * 127 / 16_000, "trim_s": 0.064}
    return published.vary(
        "mini-dttnet", "mini: DTTNet at 16 kHz with one level of 16 features",
        {
            **TWO_CORES,
            "model.stft": {"n_fft": 1024, "hop_samples": 512},
            "model.bins": 256,
            "model.unet": {"n_features": 16, "levels": 1, "convs": 1},
            "model.dual_path": {"layers": 1},
            "model.plan": plan,
            "training.learning_rate": 3e-3,
            "training.precision": "fp32",
            "training.excerpt_s": excerpt_s,
            "training.examples_per_epoch": 200,
            "training.mixing.gain": {"kind": "linear", "low": 0.5, "high": 1.25},
            "training.mixing.augment": {},
            "training.max_epochs": 12,
            "training.patience": 12,
            "training.chunks": plan,
        },
        by_target={}, unknown={}, counterpart="dttnet",
    )  # fmt: skip

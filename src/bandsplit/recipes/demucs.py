"""Recipes of HT Demucs and Hybrid Demucs: as published without extra songs, and a small counterpart for two cores.

Source: docs/demucs.md#training; HT Demucs paper; Demucs.
"""

from __future__ import annotations

from typing import Any

from bandsplit.data.examples.mixing import UMX_LIKE
from bandsplit.recipes.recipe import TWO_CORES, Recipe

_SEGMENT_S = 343_980 / 44_100
_MIXING: dict[str, Any] = {
    "activity": None,
    "pairing": "free",
    "gain": {"kind": "linear", "low": 0.25, "high": 1.25},
    "swap_probability": 0.5,
    "drop": "none",
    "peak_normalise": False,
    "augment": {
        "polarity_probability": 0.5,
        "pitch_probability": 0.2, "pitch_semitones": [-2.0, 2.0],
        "tempo_probability": 0.2, "tempo_factor": [0.88, 1.12],
    },
}  # fmt: skip
_UNKNOWN = {
    "training.mixing.pairing": (
        "stems are permuted within groups of 4 examples of a batch, each shifted by up to 1 s; ours are drawn anew"
    ),
    "training.mixing.augment": (
        "in a fifth of the examples all stems change pitch by integers and tempo by a normal distribution of 5 %, cut "
        "at 12 %; ours change each stem alone, uniformly"
    ),
    "training.mixing.peak_normalise": "songs are normalised by mean and standard deviation; ours keep their level",
    "training.average": (
        "two averages per update (0.9995, 0.9999) and two per epoch (0.9, 0.95) compete with the weights on the "
        "validation songs; ours has one"
    ),
    "training.patience": "no early stopping is stated; ours never stops",
}


def demucs_recipes() -> list[Recipe]:
    """Make the published recipes and the small counterpart."""
    ht = Recipe(
        "htdemucs", "HT Demucs: two U-Nets and a cross-domain transformer (Rouard, Massa, Défossez 2023)",
        parameters_m=41.98, shared=True,
        unknown=_UNKNOWN,
        settings={
            "model": {
                "family": "htdemucs",
                "targets": ["drums", "bass", "other", "vocals"],
                "dropout": 0.02,
            },
            "training": {
                "loss": {"kind": "l1-waveform"},
                "learning_rate": 3e-4,
                "learning_rate_rule": "none",
                "decay": {"kind": "constant"},
                "average": {"decay": 0.9995},
                "clip_norm": None,
                "batch_size": 4,
                "global_batch": 32,
                "examples_per_epoch": 32 * 800,
                "max_epochs": 1200,
                "patience": 1200,
                "monitor": "loss",
                "excerpt_s": _SEGMENT_S,
                "chunks": {"kind": "triangle", "chunk_s": _SEGMENT_S, "overlap": 0.0, "multiple_samples": 0},
                "mixing": _MIXING,
            },
        },
    )  # fmt: skip
    hybrid = Recipe(
        "hdemucs", "Hybrid Demucs: two U-Nets that become one, complex spectrogram (Défossez 2021)",
        parameters_m=83.64, shared=True,
        unknown={
            **_UNKNOWN,
            "training.loss": "two of the four models of its bag add a penalty on singular values; ours has none",
            "training.max_epochs": "360 epochs, 600 for the retrained bag, then 4 on other mixtures; ours has 360",
            "training.examples_per_epoch": "all excerpts of the training songs at 1 s; ours: 86 songs, 5.6 hours",
            "training.excerpt_s": "11 s before the augmentations shorten them to 8.68 s, as for HT Demucs",
        },
        settings={
            "model": {"family": "hdemucs", "targets": ["drums", "bass", "other", "vocals"]},
            "training": {
                **ht.settings["training"],
                "excerpt_s": 8.68,
                "global_batch": 64,
                "examples_per_epoch": 64 * 315,
                "max_epochs": 360,
                "patience": 360,
                "chunks": {"kind": "triangle", "chunk_s": 44.0},
            },
        },
    )  # fmt: skip
    return [ht, hybrid, _mini(ht)]


def _mini(ht: Recipe) -> Recipe:
    """Make a counterpart that learns in minutes on two cores, from songs at 16 kHz."""
    samples = 1 << 14
    return ht.vary(
        "mini-htdemucs", "mini: HT Demucs",
        {
            **TWO_CORES,
            "model.n_fft": 1024,
            "model.depth": 3,
            "model.n_features": 16,
            "model.bottleneck": None,
            "model.layers": 3,
            "model.heads": 4,
            "model.dropout": 0.0,
            "model.segment_samples": samples,
            "training.excerpt_s": samples / 16000,
            "training.chunks": {"kind": "triangle", "chunk_s": samples / 16000, "overlap": 0.0, "multiple_samples": 0},
            "training.learning_rate": 4e-3,
            "training.average": None,
            "training.clip_norm": 5.0,
            "training.monitor": "usdr",
            **{f"training.mixing.{field}": value for field, value in UMX_LIKE.items()},
            "training.mixing.augment": {},
            "training.examples_per_epoch": 400,
            "training.max_epochs": 6,
            "training.patience": 6,
        },
        counterpart="htdemucs", unknown={},
    )  # fmt: skip

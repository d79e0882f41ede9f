"""Recipes of HT Demucs and Hybrid Demucs: as published without extra songs, fine-tuned, and small for two cores.

Source: docs/demucs.md#training; HT Demucs paper; Demucs.
"""

from __future__ import annotations

from typing import Any

from bandsplit.data.examples.mixing import UMX_LIKE
from bandsplit.recipes.recipe import TWO_CORES, Recipe

_SEGMENT_S = 343_980 / 44_100
_TARGETS = ["drums", "bass", "other", "vocals"]
_MIXING: dict[str, Any] = {
    "activity": None,
    "pairing": "groups",
    "gain": {"kind": "linear", "low": 0.25, "high": 1.25},
    "swap_probability": 0.5,
    "drop": "none",
    "peak_normalise": False,
    "augment": {
        "polarity_probability": 0.5,
        "retune_probability": 0.2, "pitch_semitones": [-2.0, 2.0], "tempo_factor": [0.88, 1.12],
    },
}  # fmt: skip
_UNKNOWN = {
    "training.mixing.pairing": (
        "an epoch takes places of songs in random order; ours draws each independently. Where the tempo changes, our "
        "shifts of stems reach 0.1 to 1.9 s instead of 1 s"
    ),
    "training.mixing.augment": (
        "pitch and tempo change by soundstretch, with its settings for speech in vocals; ours by another library"
    ),
    "training.mixing.peak_normalise": "songs are normalised by mean and standard deviation; ours keep their level",
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
                "targets": _TARGETS,
                "dropout": 0.02,
            },
            "training": {
                "loss": {"kind": "l1-waveform"},
                "learning_rate": 3e-4,
                "learning_rate_rule": "none",
                "decay": {"kind": "constant"},
                "average": {
                    "kind": "competing", "update_decays": [0.9995, 0.9999], "epoch_decays": [0.9, 0.95]
                },
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
            "training.average": "not stated for the models of the challenge; those of HT Demucs",
            "training.loss": "two of the four models of its bag add a penalty on singular values; ours has none",
            "training.max_epochs": "360 epochs, 600 for the retrained bag, then 4 on other mixtures; ours has 360",
            "training.examples_per_epoch": "all excerpts of the training songs at 1 s; ours: 86 songs, 5.6 hours",
            "training.excerpt_s": "11 s before the augmentations shorten them to 8.68 s, as for HT Demucs",
        },
        settings={
            "model": {"family": "hdemucs", "targets": _TARGETS},
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
    return [ht, _fine_tuned(ht), hybrid, _mini(ht)]


def _fine_tuned(ht: Recipe) -> Recipe:
    """Make the recipe of one model for each target, each of which has the four targets of its start."""
    return ht.vary(
        "htdemucs-ft", "HT Demucs fine-tuned for one target at a time, from a model of the recipe htdemucs",
        {
            "training.optimizer": {"kind": "adamw", "weight_decay": 0.05, "decayed": ["crosstransformer"]},
            "training.learning_rate": 1e-4,
            "training.clip_norm": 5.0,
            "training.batch_size": 2,
            "training.global_batch": 8,
            "training.examples_per_epoch": 8 * 800,
            "training.max_epochs": 50,
            "training.patience": 50,
            "training.mixing.pairing": "free",
            "training.mixing.same_song_probability": 1.0,
            "training.mixing.gain": {"kind": "linear", "low": 1.0, "high": 1.0},
        },
        shared=False,
        by_target={
            wanted: {
                "model.targets": _TARGETS,
                "training.loss.weights": {target: float(target == wanted) for target in _TARGETS},
            }
            for wanted in _TARGETS
        },
        parameters_m=167.94,
        unknown={
            **{path: reason for path, reason in _UNKNOWN.items() if path != "training.mixing.pairing"},
            "training.examples_per_epoch": "not stated; the updates of an epoch are those of htdemucs",
            "training.average": "not stated; those of htdemucs",
        },
    )  # fmt: skip


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
            "training.average": {"kind": "competing", "update_decays": [0.98, 0.995], "epoch_decays": [0.5]},
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

"""Recipes of BS-RoFormer, Mel-Band RoFormer, and a small counterpart.

Source: docs/bs-roformer.md#recipes; BS-RoFormer paper; Mel-Band RoFormer paper.
"""

from __future__ import annotations

import dataclasses

from bandsplit.data.examples.mixing import UMX_LIKE
from bandsplit.recipes.recipe import TWO_CORES, Recipe, apply_changes

_SOFTWARE = "not known; as in Music-Source-Separation-Training"


def bs_roformer_recipes() -> list[Recipe]:
    """Make the recipes, parents before children."""
    paper = _paper()
    return [paper, _mel_band(paper), _mini(paper)]


def _paper() -> Recipe:
    """Make the model of the paper that is trained on MUSDB18-HQ alone: 6 blocks, one model per target."""
    start = Recipe(
        "bs-roformer", "BS-RoFormer of its paper, 6 blocks, MUSDB18-HQ alone", parameters_m=288.69,
        unknown={
            "training.loss": "windows are known, hops are not; those of Music-Source-Separation-Training",
            "training.optimizer": f"{_SOFTWARE}: Adam",
            "training.learning_rate": "not known; ten times that of Music-Source-Separation-Training, for a batch "
            "that is about ten times as large",
            "training.decay": f"{_SOFTWARE}: by the validation score",
            "training.average": f"{_SOFTWARE}",
            "training.clip_norm": f"{_SOFTWARE}: none",
            "training.precision": f"{_SOFTWARE}",
            "training.mixing": f"{_SOFTWARE}, without its mixtures of two stems of one kind and reversed stems",
            "training.examples_per_epoch": "not known; 500 updates",
            "training.max_epochs": "not known; training ends when the validation score stays",
            "training.chunks": f"{_SOFTWARE}, with chunks as long as excerpts",
        },
    )  # fmt: skip
    settings = {
        "model.family": "bs_roformer",
        "training.loss": {"kind": "multi-resolution-stft"},
        "training.learning_rate": 5e-4,
        "training.learning_rate_rule": "none",
        "training.decay": {"kind": "plateau", "factor": 0.95, "patience": 3},
        "training.average": {"decay": 0.999},
        "training.clip_norm": None,
        "training.precision": "fp16",
        "training.batch_size": 4,
        "training.global_batch": 64,
        "training.excerpt_s": 8.0,
        "training.examples_per_epoch": 64 * 500,
        "training.max_epochs": 1000,
        "training.patience": 30,
        "training.chunks": {"kind": "faded"},
        "training.mixing": {
            "activity": None,
            "pairing": "free",
            "gain": {"kind": "linear", "low": 0.5, "high": 1.5},
            "swap_probability": 0.5,
            "drop": "none",
            "peak_normalise": False,
            "augment": {"polarity_probability": 0.5},
        },
    }
    return dataclasses.replace(start, settings=apply_changes(start.settings, settings))


def _mel_band(paper: Recipe) -> Recipe:
    """Make the size of the public Mel-Band RoFormer for vocals, trained on songs that are not published."""
    return paper.vary(
        "mel-band-roformer", "Mel-Band RoFormer of the size of KimberleyJensen's for vocals",
        {
            "model.bands": {"kind": "mel"},
            "model.norm": "each",
            "model.head_features": 64,
            "model.mask.hidden_layers": 2,
            "model.attention_dropout": 0.1,
            "model.feed_forward_dropout": 0.1,
            "training.learning_rate": 5e-5,
            "training.global_batch": 16,
            "training.examples_per_epoch": 16 * 1000,
        },
        parameters_m=912.81,
        unknown={
            **{path: reason for path, reason in paper.unknown.items() if path != "training.learning_rate"},
            "training.learning_rate": _SOFTWARE,
            "training.examples_per_epoch": f"{_SOFTWARE}: 1000 updates",
            "model.attention_dropout": "not known; the default of its class",
            "model.feed_forward_dropout": "not known; the default of its class",
        },
    )  # fmt: skip


def _mini(paper: Recipe) -> Recipe:
    """Make a counterpart that learns in minutes on two cores, from songs at 16 kHz."""
    return paper.vary(
        "mini-bs-roformer", "mini: BS-RoFormer",
        {
            **TWO_CORES,
            "model.stft": {"n_fft": 1024, "hop_samples": 256},
            "model.bands": {"kind": "bins", "widths": [8] * 8 + [16] * 8 + [64] * 4 + [65]},
            "model.n_features": 32,
            "model.n_blocks": 2,
            "model.heads": 4,
            "model.head_features": 8,
            "model.mask.hidden_factor": 2,
            "model.plan": {"kind": "faded", "chunk_s": 2.0, "overlaps": 2},
            "training.loss": {"kind": "multi-resolution-stft", "n_fft": 1024, "hop_rule": "quarter"},
            "training.learning_rate": 3e-3,
            "training.warm_up_updates": 50,
            "training.average": None,
            "training.clip_norm": 5.0,
            "training.precision": "fp32",
            "training.excerpt_s": 1.0,
            "training.chunks": {"kind": "faded", "chunk_s": 2.0},
            **{f"training.mixing.{field}": value for field, value in UMX_LIKE.items()},
            "training.mixing.gain.low": 0.5,
            "training.mixing.augment.polarity_probability": 0.0,
            "training.examples_per_epoch": 200,
            "training.max_epochs": 6,
            "training.patience": 6,
        },
        counterpart="bs-roformer", parameters_m=None, unknown={},
    )  # fmt: skip

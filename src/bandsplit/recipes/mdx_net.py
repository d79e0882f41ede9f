"""Recipes of KUIELab-MDX-Net: as published, and a small counterpart for two cores.

Source: docs/mdx-net.md#training; KUIELab-MDX-Net paper; kuielab/mdx-net.
"""

from __future__ import annotations

from typing import Any

from bandsplit.recipes.recipe import TWO_CORES, Recipe

_RATE_HZ, _HOP = 44_100, 1024
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
_UNKNOWN = {
    "training.examples_per_epoch": "not stated; ours: as many as there are chunks in 86 songs of about 5.6 hours",
    "training.batch_size": (
        "the batch is divided between 4 GPUs (vocals), 2 (drums, other) or 3 (bass), whose normalisations see their "
        "parts alone; ours has parts of 4, and of 2 for the bass, which do not depend on the number of devices"
    ),
    "training.mixing.augment.pitch_semitones": (
        "the published copies are shifted by integers and rendered beforehand; ours are drawn uniformly"
    ),
    "training.mixing.augment.tempo_factor": (
        "the published copies have five tempos, rendered beforehand; ours are drawn uniformly"
    ),
}


def mdx_net_recipes() -> list[Recipe]:
    """Make the published recipe and its small counterpart."""
    published = Recipe(
        "mdx-net", "KUIELab-MDX-Net: TFC-TDF U-Net v2, one model per target (Kim, Choi, Chung, Lee, Jung 2021)",
        parameters_m=29.69,
        by_target={
            "vocals": {"training.learning_rate": 2e-4, "training.global_batch": 16},
            "drums": _window(4096),
            "bass": _window(16384) | {"training.batch_size": 2},
            "other": _window(8192),
        },
        unknown=_UNKNOWN,
        settings={
            "model": {"family": "mdx_net"},
            "training": {
                "loss": {"kind": "mse-waveform"},
                "optimizer": {"kind": "rmsprop"},
                "learning_rate": 1e-4,
                "learning_rate_rule": "none",
                "decay": {"kind": "constant"},
                "batch_size": 4,
                "global_batch": 8,
                "clip_norm": None,
                "precision": "fp16",
                "excerpt_s": _HOP * 255 / _RATE_HZ,
                "examples_per_epoch": 3400,
                "mixing": _MIXING,
                "max_epochs": 3000,
                "patience": 5000,
                "validate_every": 10,
                "chunks": _plan(256, 6144),
            },
        },
    )  # fmt: skip
    return [published, _mini(published)]


def _plan(frames: int, n_fft: int) -> dict[str, Any]:
    return {"kind": "trimmed", "chunk_s": _HOP * (frames - 1) / _RATE_HZ, "trim_s": n_fft / 2 / _RATE_HZ}


def _window(n_fft: int) -> dict[str, Any]:
    """Return the settings that depend on the length of the transform."""
    return {
        "model.stft": {"n_fft": n_fft, "hop_samples": _HOP},
        "model.plan": _plan(512, n_fft),
        "training.chunks": _plan(256, n_fft),
    }


def _mini(published: Recipe) -> Recipe:
    """Make the counterpart that two cores train in minutes, with the examples of the other small recipes."""
    excerpt_s, plan = 512 * 31 / 16_000, {"kind": "trimmed", "chunk_s": 512 * 127 / 16_000, "trim_s": 0.032}
    return published.vary(
        "mini-mdx-net", "mini: KUIELab-MDX-Net at 16 kHz with two levels of 12 features",
        {
            **TWO_CORES,
            "model.stft": {"n_fft": 1024, "hop_samples": 512},
            "model.bins": 512,
            "model.unet": {"block": "plain", "n_features": 12, "levels": 2, "convs": 2},
            "model.plan": plan,
            "training.learning_rate": 1e-3,
            "training.precision": "fp32",
            "training.excerpt_s": excerpt_s,
            "training.examples_per_epoch": 200,
            "training.mixing.gain": {"kind": "linear", "low": 0.5, "high": 1.25},
            "training.mixing.augment": {},
            "training.max_epochs": 12,
            "training.patience": 12,
            "training.chunks": plan,
        },
        by_target={}, unknown={}, counterpart="mdx-net",
    )  # fmt: skip
